//! The snapshot and the deltas as JSON, as `docs/live-protocol.md` describes them.
//!
//! What a snapshot says is as of the last delta, so that the next one can follow either.

use serde::Serialize;
use walker_common::StackKind;

use super::{
    health::Health,
    store::{Flushed, Row, SLOT_NS, Store},
};
use crate::{
    output::html::tables::{changes, groups},
    profile::{Unit, handlers::is_of_interrupts},
};

/// How much of each table was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    texts: usize,
    labels: usize,
    frames: usize,
    objects: usize,
    heads: usize,
    stops: usize,
    nodes: usize,
    stacks: usize,
}

/// New rows of the tables.
#[derive(Debug, Serialize)]
struct Added<'a> {
    texts: &'a [String],
    labels: Vec<[u64; 8]>,
    frames: Vec<Vec<u64>>,
    objects: &'a [(String, Option<String>)],
    heads: Vec<[u32; 4]>,
    stops: &'a [(&'static str, bool)],
    nodes: Vec<[i64; 2]>,
    stacks: &'a [(u32, u32)],
}

#[derive(Debug, Serialize)]
struct Delta<'a> {
    generation: u64,
    seq: u64,
    slot: u32,
    first_slot: u32,
    #[serde(flatten)]
    added: Added<'a>,
    rows: Vec<u64>,
    moved: &'a [(u32, u32)],
    health: &'a Health,
}

#[derive(Debug, Serialize)]
struct Snapshot<'a> {
    version: u32,
    generation: u64,
    seq: u64,
    title: &'a str,
    unit: &'static str,
    slot_ns: u64,
    began_ms: u64,
    groups: Vec<(&'static str, [Vec<String>; 2])>,
    changes: [Vec<String>; 2],
    kinds: Vec<&'static str>,
    interrupts: Vec<bool>,
    cpus: &'a [u32],
    slot: u32,
    first_slot: u32,
    #[serde(flatten)]
    added: Added<'a>,
    sums: Vec<(u32, u64, u64)>,
    rows: Vec<u64>,
    health: &'a Health,
}

/// What does not change.
#[derive(Debug, Clone)]
pub(super) struct Heading {
    /// Milliseconds since 1970 at slot 0.
    pub(super) began_ms: u64,
    /// The CPUs that are sampled.
    pub(super) cpus: Vec<u32>,
}

/// Makes the texts of one generation.
#[derive(Debug)]
pub(super) struct Encoder {
    heading: Heading,
    sent: Sent,
    seq: u64,
}

impl Encoder {
    pub(super) fn new(heading: Heading) -> Self {
        Self {
            heading,
            sent: Sent::default(),
            seq: 0,
        }
    }

    /// Of the next generation, of which nothing was sent.
    pub(super) fn next_generation(&self) -> Self {
        Self::new(self.heading.clone())
    }

    /// The number of the last delta; 0 if there was none.
    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    /// What is new since the last delta.
    pub(super) fn delta(
        &mut self,
        store: &mut Store,
        flushed: &Flushed,
        health: &Health,
    ) -> serde_json::Result<String> {
        self.seq += 1;
        let labels = labels(store, self.sent.labels);
        let now = Sent {
            texts: store.tables.texts.rows().len(),
            labels: store.tables.labels.rows().len(),
            frames: store.tables.frames.rows().len(),
            objects: store.tables.objects.rows().len(),
            heads: store.tables.heads.rows().len(),
            stops: store.tables.stops.rows().len(),
            nodes: store.nodes.rows().len(),
            stacks: store.stacks.rows().len(),
        };
        let before = std::mem::replace(&mut self.sent, now);
        serde_json::to_string(&Delta {
            generation: store.generation,
            seq: self.seq,
            slot: store.slot,
            first_slot: store.first_slot,
            added: added(store, labels, before, now),
            rows: flat(&flushed.rows),
            moved: &flushed.moved,
            health,
        })
    }

    /// All that was sent so far.
    pub(super) fn snapshot(
        &self,
        store: &mut Store,
        health: &Health,
    ) -> serde_json::Result<String> {
        let mut labels = labels(store, 0);
        labels.truncate(self.sent.labels);
        let meta = &store.profile.meta;
        let sums = (0..).zip(&store.sums).take(self.sent.stacks);
        serde_json::to_string(&Snapshot {
            version: 1,
            generation: store.generation,
            seq: self.seq,
            title: &meta.title,
            unit: match meta.unit {
                Unit::Samples => "samples",
                Unit::Events => "events",
                Unit::Nanoseconds => "nanoseconds",
            },
            slot_ns: SLOT_NS,
            began_ms: self.heading.began_ms,
            groups: groups(),
            changes: changes(),
            kinds: StackKind::ALL.map(StackKind::name).to_vec(),
            interrupts: StackKind::ALL.map(is_of_interrupts).to_vec(),
            cpus: &self.heading.cpus,
            slot: store.slot,
            first_slot: store.first_slot,
            added: added(store, labels, Sent::default(), self.sent),
            sums: sums
                .filter(|(_, sum)| sum.samples > 0)
                .map(|(stack, sum)| (stack, sum.samples, sum.weight))
                .collect(),
            rows: flat(&store.rows),
            health,
        })
    }
}

/// The labels from one on. Those that they refer to may be new, and come with them.
fn labels(store: &mut Store, from: usize) -> Vec<[u64; 8]> {
    let tables = &mut store.tables;
    let mut rows = Vec::new();
    while let Some(label) = tables.labels.rows().get(from + rows.len()) {
        let label = label.clone();
        let (class, kind) = label.class_and_kind();
        rows.push([
            label.name.into(),
            class,
            kind,
            label.group(),
            label.flags(),
            tables.shade(&label) as u64,
            tables.collapsed(&label).into(),
            tables.words(&label).into(),
        ]);
    }
    rows
}

fn added(store: &Store, labels: Vec<[u64; 8]>, from: Sent, to: Sent) -> Added<'_> {
    let tables = &store.tables;
    let frames = &tables.frames.rows()[from.frames..to.frames];
    let heads = &tables.heads.rows()[from.heads..to.heads];
    let nodes = &store.nodes.rows()[from.nodes..to.nodes];
    Added {
        texts: &tables.texts.rows()[from.texts..to.texts],
        labels,
        frames: frames
            .iter()
            .map(|frame| {
                let numbers = [
                    frame.label,
                    frame.module,
                    frame.file,
                    frame.line,
                    frame.object,
                ];
                let numbers = numbers.into_iter().map(u64::from);
                let address = Some(frame.address).filter(|_| store.tells_addresses());
                numbers.chain(address).collect()
            })
            .collect(),
        objects: &tables.objects.rows()[from.objects..to.objects],
        heads: heads
            .iter()
            .map(|head| [head.event, head.name, head.process, head.thread])
            .collect(),
        stops: &tables.stops.rows()[from.stops..to.stops],
        nodes: nodes
            .iter()
            .map(|(parent, step)| [i64::from(*parent) - 1, i64::from(*step)])
            .collect(),
        stacks: &store.stacks.rows()[from.stacks..to.stacks],
    }
}

fn flat<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<u64> {
    let numbers = |row: &Row| {
        let [slot, cpu, stack, samples] =
            [row.slot, row.cpu, row.stack, row.samples].map(u64::from);
        [slot, cpu, stack, samples, row.weight]
    };
    rows.into_iter().flat_map(numbers).collect()
}
