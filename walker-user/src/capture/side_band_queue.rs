//! Records of several CPUs, put into the order of time.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use super::side_band::{Event, SideBand};

/// The most bytes of records that wait to be taken.
const MAX_BYTES: usize = 64 << 20;

/// What came of records so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SideBandCounters {
    /// Records given out.
    pub delivered: u64,
    /// Records that the kernel had no room for.
    pub lost: u64,
    /// Records that waited too long to be taken, and went for lack of memory.
    pub overflowed: u64,
    /// Records of types that are of no interest.
    pub skipped: u64,
    /// Records that did not have the form of their type.
    pub malformed: u64,
    /// Records that came after later ones had been given out.
    pub late: u64,
}

/// The records that wait.
#[derive(Debug)]
pub struct SideBandQueue {
    waiting: BinaryHeap<Reverse<Waiting>>,
    bytes: usize,
    max_bytes: usize,
    /// How many were put in: equal times keep the order they came in.
    arrived: u64,
    given_until_ns: u64,
    exec_came: bool,
    counters: SideBandCounters,
}

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    record: SideBand,
}

impl Default for SideBandQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl SideBandQueue {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(MAX_BYTES)
    }

    fn with_limit(max_bytes: usize) -> Self {
        Self {
            waiting: BinaryHeap::new(),
            bytes: 0,
            max_bytes,
            arrived: 0,
            given_until_ns: 0,
            exec_came: false,
            counters: SideBandCounters::default(),
        }
    }

    /// Puts a raw record in. If too many wait, those that do go, and one of loss stands for them.
    pub fn push(&mut self, record: &[u8]) {
        match SideBand::parse(record) {
            Ok(Some(record)) => self.push_parsed(record),
            Ok(None) => self.counters.skipped += 1,
            Err(_) => self.counters.malformed += 1,
        }
    }

    fn push_parsed(&mut self, record: SideBand) {
        if let Event::Lost { count } = record.event {
            self.counters.lost = self.counters.lost.saturating_add(count);
        }
        self.exec_came |= matches!(record.event, Event::Comm { exec: true, .. });
        if record.time_ns < self.given_until_ns {
            self.counters.late += 1;
        }
        self.insert(record);
        if self.bytes > self.max_bytes {
            self.overflow();
        }
    }

    fn insert(&mut self, record: SideBand) {
        self.bytes += record.bytes();
        self.waiting.push(Reverse(Waiting {
            arrival: self.arrived,
            record,
        }));
        self.arrived += 1;
    }

    fn overflow(&mut self) {
        let count = self.waiting.len() as u64;
        let last = self.waiting.drain().map(|Reverse(waiting)| waiting.record);
        let last = last.max_by_key(|record| record.time_ns);
        self.bytes = 0;
        self.counters.overflowed += count;
        // At the time of the last, as what is known then is what can be trusted again.
        if let Some(last) = last {
            self.insert(SideBand {
                event: Event::Lost { count },
                ..last
            });
        }
    }

    /// Tells that records are missing which nobody counted.
    pub(super) fn push_loss(&mut self, time_ns: u64, count: u64) {
        self.push_parsed(SideBand {
            time_ns,
            pid: 0,
            tid: 0,
            event: Event::Lost { count },
        });
    }

    /// Whether a process has executed a program since this was last asked.
    pub fn take_exec_came(&mut self) -> bool {
        std::mem::take(&mut self.exec_came)
    }

    /// Takes the earliest record, if it is of `time_ns` or before.
    pub fn pop_until(&mut self, time_ns: u64) -> Option<SideBand> {
        if self.waiting.peek()?.0.record.time_ns > time_ns {
            return None;
        }
        let Reverse(Waiting { record, .. }) = self.waiting.pop()?;
        self.bytes -= record.bytes();
        self.counters.delivered += 1;
        self.given_until_ns = self.given_until_ns.max(record.time_ns);
        Some(record)
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What came of the records.
    #[must_use]
    pub const fn counters(&self) -> SideBandCounters {
        self.counters
    }
}

impl Waiting {
    fn key(&self) -> (u64, u64) {
        (self.record.time_ns, self.arrival)
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

#[cfg(test)]
#[path = "side_band_queue_tests.rs"]
mod tests;
