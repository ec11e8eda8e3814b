//! What walks looked at of processes, for a recording: which ranges of addresses held what, and code
//! that is in no file. With it the same walks can be made again when the processes are gone.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::code::CodePlace;

/// Most ranges and pieces of code that are told apart; what comes later is not kept.
const MAX_SEEN: usize = 500_000;

/// Something that a walk looked at and that was not known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The record whose walk looked, by its number in the recording.
    pub since: u64,
    /// The process.
    pub pid: u32,
    /// What.
    pub what: SeenCode,
}

/// What a walk looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenCode {
    /// A range of addresses, from the first to the one behind the last.
    Range {
        /// The first address.
        start: u64,
        /// The address behind the last.
        end: u64,
        /// What it holds; `None` if nothing that can be executed any more.
        place: Option<CodePlace>,
    },
    /// What the process had mapped is not known.
    Unknown,
    /// Code that is in no file.
    Bytes {
        /// Its address.
        address: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// Collects what is looked at, each only once.
#[derive(Debug, Default)]
pub(super) struct SeenLog {
    wanted: bool,
    /// By process and first address; `None` in place of all if nothing is known.
    ranges: FxHashMap<u32, BTreeMap<u64, (u64, Option<CodePlace>)>>,
    code: FxHashMap<(u32, u64), Vec<u8>>,
    count: usize,
    /// What was seen when there was no room left, and is not kept.
    pub(super) dropped: u64,
    /// The record that is walked.
    record: u64,
    new: Vec<Seen>,
}

impl SeenLog {
    /// From now on everything is collected.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// The walk of this record begins.
    pub(super) const fn at_record(&mut self, record: u64) {
        self.record = record;
    }

    /// Whether more can be kept.
    const fn has_room(&mut self) -> bool {
        let room = self.count < MAX_SEEN;
        self.dropped += (self.wanted && !room) as u64;
        self.wanted && room
    }

    /// A range was looked at.
    pub(super) fn range(&mut self, pid: u32, start: u64, end: u64, place: Option<CodePlace>) {
        if !self.has_room() {
            return;
        }
        let ranges = self.ranges.entry(pid).or_default();
        if ranges.get(&start) == Some(&(end, place)) {
            return;
        }
        // Ranges of an address space do not overlap, so what does is gone.
        let overlaps: Vec<u64> = ranges
            .range(..end)
            .rev()
            .take_while(|(_, (until, _))| *until > start)
            .map(|(start, _)| *start)
            .collect();
        for overlapped in &overlaps {
            ranges.remove(overlapped);
        }
        if place.is_none() && overlaps.is_empty() {
            return;
        }
        if place.is_some() {
            ranges.insert(start, (end, place));
        }
        self.push(pid, SeenCode::Range { start, end, place });
    }

    /// No range holds this address.
    pub(super) fn unmapped(&mut self, pid: u32, address: u64) {
        self.range(pid, address, address.saturating_add(1), None);
    }

    /// Nothing is known of what a process has mapped.
    pub(super) fn unknown(&mut self, pid: u32) {
        if !self.has_room() {
            return;
        }
        let ranges = self.ranges.entry(pid).or_default();
        if ranges.get(&0) == Some(&(u64::MAX, None)) {
            return;
        }
        ranges.clear();
        ranges.insert(0, (u64::MAX, None));
        self.push(pid, SeenCode::Unknown);
    }

    /// Code was read.
    pub(super) fn bytes(&mut self, pid: u32, address: u64, bytes: &[u8]) {
        let known = self.code.get(&(pid, address));
        if known.is_some_and(|code| code == bytes) || !self.has_room() {
            return;
        }
        self.code.insert((pid, address), bytes.to_vec());
        let bytes = bytes.to_vec();
        self.push(pid, SeenCode::Bytes { address, bytes });
    }

    fn push(&mut self, pid: u32, what: SeenCode) {
        self.count += 1;
        let since = self.record;
        self.new.push(Seen { since, pid, what });
    }

    /// What is new since the last time.
    pub(super) fn take(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> SeenLog {
        let mut log = SeenLog::default();
        log.want();
        log
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut log = log();
        for _ in 0..3 {
            log.range(1, 10, 20, Some(CodePlace::Memory));
            log.range(2, 10, 20, Some(CodePlace::Memory));
            log.bytes(1, 12, b"code");
        }
        assert_eq!(log.take().len(), 3);
        log.bytes(1, 12, b"other");
        assert_eq!(log.take().len(), 1);
    }

    #[test]
    fn what_was_mapped_over_and_comes_back_is_told_again() {
        let mut log = log();
        let (file, memory) = (Some(CodePlace::NoFile { bias: 0 }), Some(CodePlace::Memory));
        log.range(1, 10, 20, file);
        log.range(1, 15, 16, memory);
        log.range(1, 10, 20, file);
        log.range(1, 10, 20, file);
        assert_eq!(log.take().len(), 3);
    }

    #[test]
    fn what_is_gone_is_told_once_and_only_if_it_was_there() {
        let mut log = log();
        log.unmapped(1, 12);
        assert_eq!(log.take(), []);
        log.range(1, 10, 20, Some(CodePlace::Memory));
        log.unmapped(1, 12);
        log.unmapped(1, 13);
        assert_eq!(log.take().len(), 2);
    }

    #[test]
    fn that_nothing_is_known_is_told_until_something_is() {
        let mut log = log();
        log.unknown(1);
        log.unknown(1);
        assert_eq!(log.take().len(), 1);
        log.range(1, 10, 20, Some(CodePlace::Memory));
        log.unknown(1);
        // The program was just replaced: that is known.
        log.unmapped(1, 12);
        log.unknown(1);
        assert_eq!(log.take().len(), 4);
    }

    #[test]
    fn it_is_bounded_and_counts_what_is_left_out() {
        let mut log = log();
        for start in 0..MAX_SEEN as u64 + 5 {
            log.range(1, start * 2, start * 2 + 1, Some(CodePlace::Memory));
        }
        log.bytes(1, 12, b"code");
        assert_eq!((log.take().len(), log.dropped), (MAX_SEEN, 6));
    }

    #[test]
    fn nothing_is_kept_that_nobody_wants() {
        let mut log = SeenLog::default();
        log.range(1, 10, 20, Some(CodePlace::Memory));
        log.bytes(1, 12, b"code");
        assert!(log.take().is_empty() && log.code.is_empty());
    }
}
