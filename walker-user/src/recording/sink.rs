//! Collects what is recorded and hands it to the writer, a chunk of each kind about once a second.
//!
//! If the disk is too slow, the bytes of stacks go first: their walks are kept. Rows wait for
//! longer, and are dropped, and counted, only when very many wait.

use std::{
    io,
    time::{Duration, Instant},
};

use walker_common::wire::{SampleHeader, WaitEnd};
use zerocopy::IntoBytes as _;

use super::{
    chunk::Kind,
    encode::{
        ROWS_PER_CHUNK, encoded, entry_parts, event, name_chunks, node_row, object_row, placed_at,
        process_entries, seen_entry,
    },
    head::{Counts, Head},
    rows::{Entry, NameRow, NodeRow, OrcChunk, SampleChunk, SampleRow},
    writer::Writer,
};
use crate::{
    capture::record::Record,
    classify::StackUse,
    stack_tree::{Place, StackTree},
    unwind::{StopReason, orc::OrcTable},
    user_side::UserSide,
};

/// Stack bytes are written at the latest when there are so many.
const EVIDENCE_BYTES: usize = 2 << 20;
/// ... and everything else at the latest behind so many of them, so that a file that cannot grow any
/// more has the walks of what it holds.
const EVIDENCE_BYTES_ALONE: usize = 8 << 20;
/// Everything is written at the latest when this has passed: what a recorder that is killed loses.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// The most samples that wait because the disk is slow.
const MAX_ROWS: usize = 500_000;
/// Entries of an unwind table in one chunk.
const ORC_PER_CHUNK: usize = 200_000;

/// A sample as it is recorded.
#[derive(Debug)]
pub struct Sampled<'a> {
    /// The number of its record, as [`Sink::record`] gave it.
    pub record: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// The thread.
    pub tid: u32,
    /// The CPU.
    pub cpu: u32,
    /// The event, by number.
    pub event: u32,
    /// Where its stack is kept.
    pub place: Place,
    /// Why its walk ended.
    pub stop: StopReason,
    /// How many frames at the leaf were left out.
    pub reporting: u8,
    /// What it weighs.
    pub weight: u64,
    /// The kernel stacks in use.
    pub uses: &'a [StackUse],
}

/// How much of each growing table was written.
#[derive(Debug, Default)]
struct Written {
    processes: usize,
    objects: usize,
    no_files: usize,
    notes: usize,
    nodes: usize,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkCounters {
    /// Samples that were dropped because the disk was too slow.
    pub samples_dropped: u64,
    /// Records whose bytes were dropped for the same reason.
    pub bytes_dropped: u64,
}

/// Collects a recording.
#[derive(Debug)]
pub struct Sink {
    writer: Writer,
    /// Records since the last chunk of them; `None` if they are not kept.
    evidence: Option<Vec<u8>>,
    /// Bytes of them since everything was written.
    evidence_alone: usize,
    first_record: u64,
    next_record: u64,
    rows: Vec<SampleRow>,
    /// The record and time of the row before the first of `rows`, and of the last.
    before: (u64, u64),
    last: (u64, u64),
    written: Written,
    flushed: Instant,
    counters: SinkCounters,
}

impl Sink {
    /// Begins a recording with its head and the kernel's unwind tables. The head is asked for at
    /// the end of the preparations, as it says when the recording began.
    ///
    /// # Errors
    /// If something cannot be encoded, which no input can cause.
    pub fn begin(
        writer: Writer,
        evidence: bool,
        orc: &[OrcTable],
        head: impl FnOnce() -> Head,
    ) -> io::Result<Self> {
        let mut tables = Vec::new();
        if evidence {
            for (number, table) in (0..).zip(orc) {
                encode_orc(number, table, &mut tables)?;
            }
        }
        let head = Head { evidence, ..head() };
        writer.write(Kind::Head, serde_json::to_vec(&head)?);
        for chunk in tables {
            writer.write(Kind::Orc, chunk);
        }
        Ok(Self {
            writer,
            evidence: evidence.then(|| Vec::with_capacity(EVIDENCE_BYTES)),
            evidence_alone: 0,
            first_record: 0,
            next_record: 0,
            rows: Vec::new(),
            before: (0, 0),
            last: (0, 0),
            written: Written::default(),
            flushed: Instant::now(),
            counters: SinkCounters::default(),
        })
    }

    /// A record arrived; returns its number.
    pub fn record(&mut self, record: &Record<'_>) -> u64 {
        let number = self.next_record;
        self.next_record += 1;
        if let Some(evidence) = &mut self.evidence {
            match record {
                Record::Sample(sample) => evidence.extend_from_slice(sample.bytes()),
                Record::WaitEnd(end) => evidence.extend_from_slice(end.as_bytes()),
            }
            if evidence.len() >= EVIDENCE_BYTES {
                self.flush_evidence();
            }
        }
        number
    }

    fn flush_evidence(&mut self) {
        let Some(evidence) = &mut self.evidence else {
            return;
        };
        if evidence.is_empty() {
            return;
        }
        if self.writer.has_room() {
            self.writer
                .write_from(Kind::Evidence, self.first_record, evidence.clone());
        } else {
            self.counters.bytes_dropped += self.next_record - self.first_record;
        }
        self.evidence_alone += evidence.len();
        evidence.clear();
        self.first_record = self.next_record;
    }

    /// A sample was walked.
    pub fn sample(&mut self, sample: &Sampled<'_>) {
        if self.rows.len() >= MAX_ROWS {
            self.counters.samples_dropped += 1;
            return;
        }
        if self.rows.is_empty() {
            self.before = (sample.record, sample.time_ns);
            self.last = self.before;
        }
        let (record, time_ns) = self.last;
        self.last = (sample.record, sample.time_ns);
        self.rows.push(SampleRow {
            record: sample.record.wrapping_sub(record).cast_signed(),
            time_ns: sample.time_ns.wrapping_sub(time_ns).cast_signed(),
            tid: sample.tid,
            cpu: sample.cpu,
            event: sample.event,
            place: placed_at(sample.place),
            stop: sample.stop.number(),
            reporting: sample.reporting,
            weight: sample.weight,
            uses: sample
                .uses
                .iter()
                .map(|used| (used.kind as u8, used.used, used.size))
                .collect(),
        });
    }

    /// Whether everything should be written.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.flushed.elapsed() >= FLUSH_EVERY || self.evidence_alone >= EVIDENCE_BYTES_ALONE
    }

    /// Whether all frames of a tree are written, so that they may be forgotten.
    #[must_use]
    pub fn has_written(&self, tree: &StackTree) -> bool {
        self.written.nodes == tree.first_node() as usize + tree.nodes().len()
    }

    /// What is to be known of what was dropped.
    #[must_use]
    pub const fn counters(&self) -> SinkCounters {
        self.counters
    }

    /// Why nothing is written any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<io::Error> {
        self.writer.failure()
    }

    /// Writes what was collected, with what it refers to, if the disk keeps up.
    ///
    /// # Errors
    /// If something cannot be encoded, which no input can cause.
    pub fn flush(
        &mut self,
        tree: &StackTree,
        user_side: Option<&mut UserSide>,
        counts: &Counts,
    ) -> io::Result<()> {
        self.flushed = Instant::now();
        self.evidence_alone = 0;
        if self.writer.has_room() {
            self.write_rows(tree, user_side)?;
            self.counts(Kind::Counters, counts)?;
        }
        Ok(())
    }

    fn counts(&self, kind: Kind, counts: &Counts) -> io::Result<()> {
        let counts = Counts {
            bytes_dropped: self.counters.bytes_dropped,
            ..counts.clone()
        };
        self.writer.write(kind, serde_json::to_vec(&counts)?);
        Ok(())
    }

    /// Writes what was collected, however much waits to be written already.
    ///
    /// # Errors
    /// If something cannot be encoded, which no input can cause.
    pub fn write_rows(
        &mut self,
        tree: &StackTree,
        user_side: Option<&mut UserSide>,
    ) -> io::Result<()> {
        self.flush_evidence();
        let mut entries = self.new_of_tree(tree);
        if let Some(user_side) = user_side {
            self.new_of_processes(user_side, &mut entries);
        }
        for part in entry_parts(&entries) {
            self.writer.write(Kind::Tables, encoded(part)?);
        }
        let nodes = tree.nodes();
        // All that were forgotten were written before.
        let new = self.written.nodes - tree.first_node() as usize;
        for nodes in nodes[new..].chunks(ROWS_PER_CHUNK) {
            let rows: Vec<NodeRow> = nodes.iter().map(node_row).collect();
            let first = self.written.nodes as u64;
            self.writer.write_from(Kind::Nodes, first, encoded(&rows)?);
            self.written.nodes += nodes.len();
        }
        let (mut record, mut time_ns) = self.before;
        let rows = std::mem::take(&mut self.rows);
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let chunk = SampleChunk {
                record,
                time_ns,
                rows: rows.by_ref().take(ROWS_PER_CHUNK).collect(),
            };
            for row in &chunk.rows {
                record = record.wrapping_add_signed(row.record);
                time_ns = time_ns.wrapping_add_signed(row.time_ns);
            }
            self.writer.write(Kind::Samples, encoded(&chunk)?);
        }
        Ok(())
    }

    fn new_of_tree(&mut self, tree: &StackTree) -> Vec<Entry> {
        let processes = tree.processes();
        let new = (0..).zip(processes).skip(self.written.processes);
        let mut entries: Vec<Entry> = new
            .flat_map(|(number, process)| process_entries(number, process))
            .collect();
        self.written.processes = processes.len();
        let notes = tree.notes();
        let new = (0..).zip(notes).skip(self.written.notes);
        entries.extend(new.map(|(number, note)| Entry::Note(number, note.clone())));
        self.written.notes = notes.len();
        entries
    }

    fn new_of_processes(&mut self, user_side: &mut UserSide, entries: &mut Vec<Entry>) {
        let objects = user_side.objects();
        let new = self.written.objects..objects.len();
        entries.extend(new.map(|index| Entry::Object(index as u32, object_row(objects, index))));
        self.written.objects = objects.len();
        let no_files = user_side.no_files();
        let new = (0..).zip(no_files).skip(self.written.no_files);
        entries.extend(new.map(|(number, name)| Entry::NoFile(number, name.clone())));
        self.written.no_files = no_files.len();
        entries.extend(user_side.take_seen().into_iter().map(seen_entry));
        let events = user_side.take_events();
        entries.extend(events.iter().filter_map(event).map(Entry::Event));
    }

    /// Writes the names of addresses.
    ///
    /// # Errors
    /// If something cannot be encoded, which no input can cause.
    pub fn names(&self, names: &[NameRow]) -> io::Result<()> {
        for chunk in name_chunks(names)? {
            self.writer.write(Kind::Names, chunk);
        }
        Ok(())
    }

    /// Ends the recording; returns the bytes of the file.
    ///
    /// # Errors
    /// If the file could not be written to its end.
    pub fn end(self, counts: &Counts) -> io::Result<u64> {
        self.counts(Kind::End, counts)?;
        self.writer.finish()
    }
}

fn encode_orc(number: u32, table: &OrcTable, chunks: &mut Vec<Vec<u8>>) -> io::Result<()> {
    let mut before = 0;
    let mut entries = table.entries().peekable();
    while entries.peek().is_some() {
        let part = entries.by_ref().take(ORC_PER_CHUNK).map(|(start, entry)| {
            let distance = start - before;
            before = start;
            (distance, entry)
        });
        let chunk = OrcChunk {
            table: number,
            entries: part.collect(),
        };
        chunks.push(encoded(&chunk)?);
    }
    Ok(())
}

const _: () = {
    // A record begins with its size, so that records can stand one behind the other.
    assert!(std::mem::offset_of!(SampleHeader, size) == 0);
    assert!(std::mem::offset_of!(WaitEnd, size) == 0);
};
