//! The processes that are remembered, within limits. What happens to them is told elsewhere.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::address_space::AddressSpace;

/// What is remembered of a process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) space: Arc<AddressSpace>,
    /// Records up to this time are contained; `None` if nothing is known yet.
    pub(super) known_until_ns: Option<u64>,
    /// The time of the sample that made `/proc` be read.
    pub(super) asked_ns: u64,
    /// When it was last known for sure; records that were lost later may be missing.
    pub(super) sure_ns: u64,
    /// When its main thread ended.
    pub(super) ended_ns: Option<u64>,
    /// Whether it has had, or may have had, other threads.
    pub(super) threads: bool,
}

/// The processes by number.
#[derive(Debug)]
pub(super) struct Table {
    processes: FxHashMap<u32, (Process, u64)>,
    /// Mappings of all processes; those that a fork shares count for each.
    mappings: usize,
    max_processes: usize,
    max_mappings: usize,
    /// Counts the uses.
    clock: u64,
    evicted: u64,
}

impl Table {
    pub(super) fn new(max_processes: usize, max_mappings: usize) -> Self {
        Self {
            processes: FxHashMap::default(),
            mappings: 0,
            max_processes,
            max_mappings,
            clock: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.processes.len()
    }

    pub(super) fn max_processes(&self) -> usize {
        self.max_processes
    }

    /// How many processes were forgotten for lack of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.keys().copied()
    }

    pub(super) fn get(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid).map(|(process, _)| process)
    }

    /// A process, which counts as used.
    pub(super) fn touch(&mut self, pid: u32) -> Option<&mut Process> {
        let (process, used) = self.processes.get_mut(&pid)?;
        self.clock += 1;
        *used = self.clock;
        Some(process)
    }

    /// Changes an address space, and forgets other processes if it has grown too much.
    pub(super) fn change(&mut self, pid: u32, change: impl FnOnce(&mut AddressSpace)) {
        let Some((process, _)) = self.processes.get_mut(&pid) else {
            return;
        };
        let before = process.space.len();
        change(Arc::make_mut(&mut process.space));
        self.mappings = self.mappings - before + process.space.len();
        self.make_room();
    }

    /// Puts a process in place of what has its number.
    pub(super) fn put(&mut self, pid: u32, process: Process) {
        self.clock += 1;
        self.mappings += process.space.len();
        if let Some((old, _)) = self.processes.insert(pid, (process, self.clock)) {
            self.mappings -= old.space.len();
        }
        self.make_room();
    }

    pub(super) fn remove(&mut self, pid: u32) {
        if let Some((old, _)) = self.processes.remove(&pid) {
            self.mappings -= old.space.len();
        }
    }

    /// Forgets the processes that were not used for longest, an eighth at a time, until the rest
    /// is within the limits.
    fn make_room(&mut self) {
        while self.processes.len() > self.max_processes
            || (self.mappings > self.max_mappings && self.processes.len() > 1)
        {
            let by_use = self.processes.iter().map(|(pid, (_, used))| (*used, *pid));
            let mut by_use: Vec<(u64, u32)> = by_use.collect();
            let count = (by_use.len() / 8).max(1);
            by_use.select_nth_unstable(count - 1);
            for (_, pid) in &by_use[..count] {
                self.remove(*pid);
            }
            self.evicted += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{address_space::Mapping, mapped_file::Backing};

    fn process(mappings: u64) -> Process {
        let mut space = AddressSpace::new();
        (0..mappings).for_each(|number| insert(&mut space, number));
        Process {
            space: Arc::new(space),
            known_until_ns: None,
            asked_ns: 0,
            sure_ns: 0,
            ended_ns: None,
            threads: false,
        }
    }

    fn insert(space: &mut AddressSpace, number: u64) {
        assert!(space.insert(Mapping {
            start: 2 * number,
            end: 2 * number + 1,
            file_offset: 0,
            backing: Backing::Anonymous,
        }));
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let mut table = Table::new(8, 1000);
        (1..=8).for_each(|pid| table.put(pid, process(1)));
        assert!(table.touch(1).is_some());
        table.put(9, process(1));
        assert_eq!((table.len(), table.evicted()), (8, 1));
        assert!(table.get(1).is_some() && table.get(2).is_none());
    }

    #[test]
    fn all_mappings_together_are_bounded() {
        let mut table = Table::new(1000, 50);
        let sum = |table: &Table| -> usize {
            let processes = table.processes.values();
            processes.map(|(process, _)| process.space.len()).sum()
        };
        for pid in 0..100 {
            table.put(pid, process(20));
            assert_eq!(sum(&table), table.mappings);
            assert!(table.mappings <= 50);
        }
        assert_eq!(table.evicted(), 98);
        (20..40).for_each(|number| table.change(99, |space| insert(space, number)));
        assert_eq!((table.len(), table.mappings, sum(&table)), (1, 40, 40));
        // The last process is kept whatever it has; its own number of mappings is bounded.
        (40..60).for_each(|number| table.change(99, |space| insert(space, number)));
        assert_eq!((table.len(), table.mappings), (1, 60));
        table.put(99, process(3));
        table.remove(98);
        assert_eq!(table.mappings, 3);
        table.remove(99);
        assert_eq!(table.mappings, 0);
    }
}
