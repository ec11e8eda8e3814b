//! Distinct stacks, before they are symbolized: what is kept of a sample once it was walked.
//!
//! Stacks are kept as a tree of frames from the outermost frame on, so that stacks that differ
//! only near the leaf share the rest. Its size is bounded; what does not fit is counted, not
//! dropped.

use rustc_hash::FxHashMap;
use walker_common::StackKind;

use crate::{
    process::object::ObjectId,
    unwind::{self, StopReason},
};

/// Most nodes of the tree, about 40 MiB with its index.
const MAX_NODES: usize = 500_000;
/// How many latest stacks are kept.
const LATEST: usize = 8;
/// Most processes that are told apart.
const MAX_PROCESSES: usize = 100_000;
/// Most notes that are told apart.
const MAX_NOTES: usize = 10_000;

/// A process by ID and name: a process that changed its name counts as two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its ID.
    pub pid: u32,
    /// The thread's name, zero padded.
    pub comm: [u8; 16],
}

/// What is told apart of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RawFrame {
    /// In the kernel.
    Kernel {
        /// Address to show.
        ip: u64,
        /// Address to look up.
        lookup: u64,
        /// The stack it ran on.
        stack: StackKind,
        /// Whether the walk was exact up to here.
        reliable: bool,
    },
    /// In user space.
    User {
        /// What holds the code.
        code: Code,
        /// Address to show: as linked in an object file, the offset in a file that is not at hand,
        /// in the process otherwise.
        address: u64,
        /// Address to look up.
        lookup: u64,
        /// Whether the walk was exact up to here.
        reliable: bool,
    },
    /// No code, but something about the event that belongs to the stack, by its number.
    Note(u32),
}

/// What holds the code of a user frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// An object file, whichever process mapped it.
    Object(ObjectId),
    /// A mapped file that is not at hand, by the number that the user side gave its name.
    NoFile(u32),
    /// Memory of the stack's process that was filled at run time.
    Memory,
    /// No executable mapping that is known.
    Unmapped,
}

impl RawFrame {
    /// A frame of a kernel walk.
    #[must_use]
    pub const fn kernel(frame: &unwind::Frame) -> Self {
        Self::Kernel {
            ip: frame.ip,
            lookup: frame.lookup_address(),
            stack: frame.stack,
            reliable: frame.reliable,
        }
    }
}

/// Where a stack is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(Parent);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Parent {
    Process(u32),
    Node(u32),
}

/// What samples of one stack are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    place: Parent,
    event: u32,
    stop: &'static str,
    complete: bool,
}

/// Samples, and what they weigh together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    samples: u64,
    weight: u64,
}

/// Samples of one distinct stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Whose.
    pub process: Process,
    /// Root first.
    pub frames: Vec<RawFrame>,
    /// Why the walk ended (`StopReason::name`).
    pub stop: &'static str,
    /// Whether it reached the outermost frame.
    pub complete: bool,
    /// Index of the event.
    pub event: u32,
    /// How many samples.
    pub samples: u64,
    /// What they weigh, in the unit of the recording.
    pub weight: u64,
}

/// Collects walked samples.
#[derive(Debug, Default)]
pub struct Aggregate {
    processes: Vec<Process>,
    process_ids: FxHashMap<Process, u32>,
    nodes: Vec<(Parent, RawFrame)>,
    node_ids: FxHashMap<(Parent, RawFrame), u32>,
    sums: FxHashMap<Key, Sum>,
    notes: Vec<String>,
    note_ids: FxHashMap<String, u32>,
    shortened: u64,
    /// The latest stack of each of a few processes, root first: the next one usually begins like
    /// it, and comparing is cheaper than finding.
    latest: [Latest; LATEST],
}

/// A stack and the nodes it is kept in.
#[derive(Debug, Default)]
struct Latest {
    process: u32,
    path: Vec<(RawFrame, u32)>,
}

impl Aggregate {
    /// The place of a stack; `frames` are leaf first, as the unwinder makes them.
    pub fn place(&mut self, process: Process, frames: &[RawFrame]) -> Place {
        let process = self.process(process);
        let slot = process as usize % LATEST;
        let Latest {
            process: same,
            mut path,
        } = std::mem::take(&mut self.latest[slot]);
        let known = match same == process {
            true => path.iter().zip(frames.iter().rev()),
            false => [].iter().zip(frames.iter().rev()),
        };
        let known = known.take_while(|((kept, _), frame)| kept == *frame);
        path.truncate(known.count());
        let mut at = match path.last() {
            Some((_, node)) => Parent::Node(*node),
            None => Parent::Process(process),
        };
        for frame in frames.iter().rev().skip(path.len()) {
            let Some(node) = self.child(at, *frame) else {
                self.shortened += 1;
                break;
            };
            path.push((*frame, node));
            at = Parent::Node(node);
        }
        self.latest[slot] = Latest { process, path };
        Place(at)
    }

    /// The place of a stack that has this note as its leaf.
    pub fn noted(&mut self, place: Place, note: &str) -> Place {
        let note = self.note(note);
        match self.child(place.0, RawFrame::Note(note)) {
            Some(node) => Place(Parent::Node(node)),
            None => place,
        }
    }

    /// Counts a sample of an event, with its weight. `stop` is why the walk of the last frame's side
    /// ended.
    pub fn count(&mut self, place: Place, event: u32, stop: StopReason, weight: u64) {
        let key = Key {
            place: place.0,
            event,
            stop: stop.name(),
            complete: stop.is_complete(),
        };
        let sum = self.sums.entry(key).or_default();
        sum.samples += 1;
        sum.weight = sum.weight.saturating_add(weight);
    }

    /// The number of a note. Past the bound all further ones share the last.
    fn note(&mut self, text: &str) -> u32 {
        if let Some(id) = self.note_ids.get(text) {
            return *id;
        }
        if self.notes.len() >= MAX_NOTES {
            return MAX_NOTES as u32 - 1;
        }
        let id = self.notes.len() as u32;
        self.notes.push(text.to_owned());
        self.note_ids.insert(text.to_owned(), id);
        id
    }

    /// The text of a note.
    #[must_use]
    pub fn note_text(&self, id: u32) -> &str {
        self.notes.get(id as usize).map_or("", String::as_str)
    }

    fn process(&mut self, process: Process) -> u32 {
        if let Some(id) = self.process_ids.get(&process) {
            return *id;
        }
        // Past the bound all further processes share the last entry's place.
        if self.processes.len() > MAX_PROCESSES {
            return MAX_PROCESSES as u32;
        }
        let id = self.processes.len() as u32;
        let entry = if self.processes.len() == MAX_PROCESSES {
            Process {
                pid: 0,
                comm: *b"[more processes]",
            }
        } else {
            process
        };
        self.processes.push(entry);
        self.process_ids.insert(entry, id);
        id
    }

    fn child(&mut self, parent: Parent, frame: RawFrame) -> Option<u32> {
        if let Some(node) = self.node_ids.get(&(parent, frame)) {
            return Some(*node);
        }
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let node = self.nodes.len() as u32;
        self.nodes.push((parent, frame));
        self.node_ids.insert((parent, frame), node);
        Some(node)
    }

    /// Samples whose stacks lost their inner frames because the tree was full.
    #[must_use]
    pub const fn shortened(&self) -> u64 {
        self.shortened
    }

    /// All samples.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sums.values().map(|sum| sum.samples).sum()
    }

    /// The distinct stacks, in an order that depends only on what was added and in which order.
    pub fn stacks(&self) -> impl Iterator<Item = Stack> + '_ {
        let mut keys: Vec<_> = self.sums.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| match key.place {
            Parent::Process(id) => (key.event, 0, id, key.stop),
            Parent::Node(id) => (key.event, 1, id, key.stop),
        });
        keys.into_iter().map(|(key, sum)| {
            let mut frames = Vec::new();
            let mut at = key.place;
            let process = loop {
                match at {
                    Parent::Process(id) => break self.processes[id as usize],
                    Parent::Node(id) => {
                        let (parent, frame) = self.nodes[id as usize];
                        frames.push(frame);
                        at = parent;
                    }
                }
            };
            frames.reverse();
            Stack {
                process,
                frames,
                stop: key.stop,
                complete: key.complete,
                event: key.event,
                samples: sum.samples,
                weight: sum.weight,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn kernel(ip: u64) -> RawFrame {
        RawFrame::Kernel {
            ip,
            lookup: ip,
            stack: StackKind::Task,
            reliable: true,
        }
    }

    fn process(pid: u32) -> Process {
        Process {
            pid,
            comm: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    fn add(aggregate: &mut Aggregate, process: Process, frames: &[RawFrame], stop: StopReason) {
        let place = aggregate.place(process, frames);
        aggregate.count(place, 0, stop, 1);
    }

    #[test]
    fn equal_stacks_are_counted_and_others_told_apart() {
        let mut aggregate = Aggregate::default();
        add(
            &mut aggregate,
            process(1),
            &[kernel(2), kernel(1)],
            StopReason::UserMode,
        );
        add(
            &mut aggregate,
            process(1),
            &[kernel(2), kernel(1)],
            StopReason::UserMode,
        );
        add(
            &mut aggregate,
            process(1),
            &[kernel(3), kernel(1)],
            StopReason::UserMode,
        );
        add(
            &mut aggregate,
            process(1),
            &[kernel(1)],
            StopReason::EndOfStack,
        );
        add(
            &mut aggregate,
            process(2),
            &[kernel(2), kernel(1)],
            StopReason::UserMode,
        );
        let stacks: Vec<_> = aggregate
            .stacks()
            .map(|stack| (stack.process.pid, stack.frames, stack.stop, stack.samples))
            .collect();
        assert_eq!(stacks.len(), 4);
        assert!(stacks.contains(&(1, vec![kernel(1), kernel(2)], "user-mode", 2)));
        assert!(stacks.contains(&(1, vec![kernel(1)], "end-of-stack", 1)));
        assert!(stacks.contains(&(2, vec![kernel(1), kernel(2)], "user-mode", 1)));
        assert_eq!(aggregate.total(), 5);
    }

    #[test]
    fn events_are_told_apart_and_weights_add_up() {
        let mut aggregate = Aggregate::default();
        let place = aggregate.place(process(1), &[kernel(1)]);
        let noted = aggregate.noted(place, "woken");
        for (place, event, weight) in [(place, 0, 5), (place, 0, 7), (place, 1, 2), (noted, 1, 3)] {
            aggregate.count(place, event, StopReason::UserMode, weight);
        }
        let stacks: Vec<_> = aggregate
            .stacks()
            .map(|stack| (stack.event, stack.frames.len(), stack.samples, stack.weight))
            .collect();
        assert_eq!(stacks, [(0, 1, 2, 12), (1, 1, 1, 2), (1, 2, 1, 3)]);
        assert_eq!(aggregate.note_text(0), "woken");
    }

    #[test]
    fn notes_are_bounded() {
        let mut aggregate = Aggregate::default();
        let place = aggregate.place(process(1), &[]);
        for note in 0..MAX_NOTES + 10 {
            aggregate.noted(place, &note.to_string());
        }
        assert_eq!(aggregate.notes.len(), MAX_NOTES);
        assert_eq!(aggregate.nodes.len(), MAX_NOTES);
    }

    proptest! {
        /// Stacks that begin like the latest one of their process go the same way as any other.
        #[test]
        fn every_stack_comes_out_as_it_went_in(
            added in prop::collection::vec(
                (0u32..20, prop::collection::vec(0u64..3, 0..6)),
                0..60,
            ),
        ) {
            let mut aggregate = Aggregate::default();
            let mut expected: BTreeMap<(u32, Vec<u64>), u64> = BTreeMap::new();
            for (pid, ips) in added {
                let frames: Vec<RawFrame> = ips.iter().rev().map(|ip| kernel(*ip)).collect();
                add(&mut aggregate, process(pid), &frames, StopReason::UserMode);
                *expected.entry((pid, ips)).or_default() += 1;
            }
            let mut actual = BTreeMap::new();
            for stack in aggregate.stacks() {
                let ips = stack.frames.iter().map(|frame| match frame {
                    RawFrame::Kernel { ip, .. } => *ip,
                    RawFrame::User { .. } | RawFrame::Note(_) => panic!("not added"),
                });
                actual.insert((stack.process.pid, ips.collect::<Vec<_>>()), stack.samples);
            }
            prop_assert_eq!(actual, expected);
        }
    }

    #[test]
    fn past_its_bounds_it_counts_and_does_not_grow() {
        let mut aggregate = Aggregate::default();
        for ip in 0..MAX_NODES as u64 + 10 {
            add(
                &mut aggregate,
                process(1),
                &[kernel(ip)],
                StopReason::UserMode,
            );
        }
        assert_eq!(aggregate.nodes.len(), MAX_NODES);
        assert_eq!(aggregate.shortened(), 10);
        assert_eq!(aggregate.total(), MAX_NODES as u64 + 10);
        for pid in 0..MAX_PROCESSES as u32 + 10 {
            add(&mut aggregate, process(pid), &[], StopReason::UserSample);
        }
        assert_eq!(aggregate.processes.len(), MAX_PROCESSES + 1);
        assert_eq!(
            aggregate.total(),
            (MAX_NODES + 10 + MAX_PROCESSES + 10) as u64
        );
    }
}
