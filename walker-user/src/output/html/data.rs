//! What a page knows of a recording, as text and numbers.
//!
//! Tables of distinct texts, labels and frames; the stacks as a trie of frames; the samples as
//! columns. What is derived from them for a view is not here: `js/tree.js` does what
//! [`Profile::picture`](crate::profile::Profile::picture) does.

use std::io;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::columns::Columns;
use super::points::{self, Row};
use super::tables::{Tables, groups};
use super::trie::Trie;
use crate::numbered::Numbered;
use crate::profile::Unit;
use crate::profile::timeline::Timeline;

/// The JSON text of the data. `js/model.js` says how it is used.
#[derive(Debug, Serialize)]
struct Facts<'a> {
    unit: &'static str,
    /// In milliseconds since 1970.
    began_ms: Option<u64>,
    length_ns: u64,
    /// Whether there are samples one by one.
    timed: bool,
    merged: Option<MergedFacts>,
    texts: &'a [String],
    /// Of each group of colours its name, and its shades in the light and in the dark theme.
    groups: Vec<(&'static str, [Vec<String>; 2])>,
    /// Of each object its path and its build ID.
    objects: &'a [(String, Option<String>)],
    /// Of each reason why walks stop its words, and whether the walk is complete.
    stops: &'a [(&'static str, bool)],
    /// Of each thread its ID, and the name of its process at its first sample.
    threads: Vec<(u32, u32)>,
    /// The numbers of the CPUs.
    cpus: &'a [u32],
    columns: &'a [(&'static str, usize)],
}

#[derive(Debug, Serialize)]
struct MergedFacts {
    slot_ns: u64,
    threads: bool,
    /// How many samples there were.
    samples: u64,
}

/// The data of a page, with at most `max_points` samples one by one.
///
/// # Errors
///
/// If the names have 4 GiB or more.
pub(super) fn encode(timeline: &Timeline, max_points: usize) -> io::Result<String> {
    let profile = &timeline.profile;
    let mut tables = Tables::new(false);
    let mut trie = Trie::new();
    let leaves: Vec<(u32, u32)> = profile
        .stacks()
        .iter()
        .map(|stack| {
            let head = tables.head(profile, stack);
            let frames = stack.frames.iter().map(|&id| tables.frame(profile, id));
            let leaf = trie.insert(std::iter::once(head).chain(frames));
            (leaf, tables.stops.number((stack.stop, stack.complete)))
        })
        .collect();
    let order = trie.depth_first();
    let place = |(leaf, stop): (u32, u32)| (order.places[leaf as usize], stop);
    let mut stacks: Vec<(u32, u32)> = leaves.iter().copied().map(place).collect();
    stacks.sort_unstable();
    stacks.dedup();
    let row_of_stack: Vec<u32> = leaves
        .iter()
        .map(|&leaf| stacks.partition_point(|stack| *stack < place(leaf)) as u32)
        .collect();

    let samples = Samples::of(timeline, &row_of_stack, &mut tables);
    let (rows, merged) = points::merge(samples.rows, max_points);

    let mut columns = Columns::default();
    tables.push_columns(&mut columns);
    let before = std::iter::once(0).chain(order.depths.iter().copied());
    let ups = before
        .zip(&order.depths)
        .map(|(before, depth)| before + 1 - depth);
    columns.push("nodeUp", ups.map(u64::from));
    columns.push("nodeStep", order.steps.iter().map(|&step| step.into()));
    columns.push("stackNode", stacks.iter().map(|stack| stack.0.into()));
    columns.push("stackStop", stacks.iter().map(|stack| stack.1.into()));
    let before = std::iter::once(0).chain(rows.iter().map(|row| row.time_ns));
    let steps = before.zip(&rows).map(|(before, row)| row.time_ns - before);
    columns.push("pointStep", steps);
    columns.push("pointStack", rows.iter().map(|row| row.stack.into()));
    columns.push("pointThread", rows.iter().map(|row| row.thread.into()));
    columns.push("pointCpu", rows.iter().map(|row| row.cpu.into()));
    columns.push("pointSamples", rows.iter().map(|row| row.samples));
    columns.push("pointWeight", rows.iter().map(|row| row.weight));

    let began = timeline
        .began
        .and_then(|began| began.duration_since(UNIX_EPOCH).ok());
    let facts = Facts {
        unit: match profile.meta.unit {
            Unit::Samples => "samples",
            Unit::Events => "events",
            Unit::Nanoseconds => "nanoseconds",
        },
        began_ms: began.map(|began| began.as_millis() as u64),
        length_ns: (profile.meta.duration.as_nanos() as u64)
            .max(timeline.end_ns().saturating_add(1)),
        timed: samples.timed,
        merged: merged.map(|merged| MergedFacts {
            slot_ns: merged.slot_ns,
            threads: merged.threads,
            samples: timeline.points.len() as u64,
        }),
        texts: tables.texts.rows(),
        groups: groups(),
        objects: tables.objects.rows(),
        stops: tables.stops.rows(),
        threads: samples.threads,
        cpus: samples.cpus.rows(),
        columns: &columns.heads,
    };
    columns.pack(&serde_json::to_vec(&facts)?)
}

/// The samples of a recording, and what they name.
struct Samples {
    /// In the order of time.
    rows: Vec<Row>,
    /// See [`Facts::timed`], and the next for the rest.
    timed: bool,
    threads: Vec<(u32, u32)>,
    cpus: Numbered<u32>,
}

impl Samples {
    /// `row_of_stack` says which of the page's stacks each of the profile's is.
    fn of(timeline: &Timeline, row_of_stack: &[u32], tables: &mut Tables) -> Self {
        let mut ids = Numbered::default();
        let mut threads = Vec::new();
        let mut cpus = Numbered::default();
        let mut rows = Vec::with_capacity(timeline.points.len());
        for point in &timeline.points {
            let Some(&stack) = row_of_stack.get(point.stack as usize) else {
                continue;
            };
            let thread = ids.number(point.tid);
            if thread as usize == threads.len() {
                threads.push((point.tid, tables.comm(&timeline.profile, point.stack)));
            }
            rows.push(Row {
                time_ns: point.time_ns,
                stack,
                thread,
                cpu: cpus.number(point.cpu),
                samples: 1,
                weight: point.weight,
            });
        }
        let timed = !rows.is_empty();
        if !timed {
            let stacks = timeline.profile.stacks().iter().zip(row_of_stack);
            rows.extend(stacks.map(|(stack, &row)| Row {
                time_ns: 0,
                stack: row,
                thread: 0,
                cpu: 0,
                samples: stack.samples,
                weight: stack.weight,
            }));
        }
        if !rows.is_sorted_by_key(|row| row.time_ns) {
            rows.sort_by_key(|row| row.time_ns);
        }
        Self {
            rows,
            timed,
            threads,
            cpus,
        }
    }
}
