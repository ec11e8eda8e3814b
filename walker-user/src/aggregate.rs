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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Parent {
    Process(u32),
    Node(u32),
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
    /// How many samples.
    pub samples: u64,
}

/// Collects walked samples.
#[derive(Debug, Default)]
pub struct Aggregate {
    processes: Vec<Process>,
    process_ids: FxHashMap<Process, u32>,
    nodes: Vec<(Parent, RawFrame)>,
    node_ids: FxHashMap<(Parent, RawFrame), u32>,
    samples: FxHashMap<(Parent, &'static str, bool), u64>,
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
    /// Adds one sample; `frames` are leaf first, as the unwinder makes them.
    ///
    /// `stop` is why the walk of the last frame's side ended.
    pub fn add(&mut self, process: Process, frames: &[RawFrame], stop: StopReason) {
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
        *self
            .samples
            .entry((at, stop.name(), stop.is_complete()))
            .or_default() += 1;
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
        self.samples.values().sum()
    }

    /// The distinct stacks, in an order that depends only on what was added and in which order.
    pub fn stacks(&self) -> impl Iterator<Item = Stack> + '_ {
        let mut keys: Vec<_> = self.samples.iter().collect();
        keys.sort_unstable_by_key(|((parent, stop, _), _)| match parent {
            Parent::Process(id) => (0, *id, *stop),
            Parent::Node(id) => (1, *id, *stop),
        });
        keys.into_iter()
            .map(|(&(parent, stop, complete), &samples)| {
                let mut frames = Vec::new();
                let mut at = parent;
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
                    stop,
                    complete,
                    samples,
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

    #[test]
    fn equal_stacks_are_counted_and_others_told_apart() {
        let mut aggregate = Aggregate::default();
        aggregate.add(process(1), &[kernel(2), kernel(1)], StopReason::UserMode);
        aggregate.add(process(1), &[kernel(2), kernel(1)], StopReason::UserMode);
        aggregate.add(process(1), &[kernel(3), kernel(1)], StopReason::UserMode);
        aggregate.add(process(1), &[kernel(1)], StopReason::EndOfStack);
        aggregate.add(process(2), &[kernel(2), kernel(1)], StopReason::UserMode);
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
                aggregate.add(process(pid), &frames, StopReason::UserMode);
                *expected.entry((pid, ips)).or_default() += 1;
            }
            let mut actual = BTreeMap::new();
            for stack in aggregate.stacks() {
                let ips = stack.frames.iter().map(|frame| match frame {
                    RawFrame::Kernel { ip, .. } => *ip,
                    RawFrame::User { .. } => panic!("not added"),
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
            aggregate.add(process(1), &[kernel(ip)], StopReason::UserMode);
        }
        assert_eq!(aggregate.nodes.len(), MAX_NODES);
        assert_eq!(aggregate.shortened(), 10);
        assert_eq!(aggregate.total(), MAX_NODES as u64 + 10);
        for pid in 0..MAX_PROCESSES as u32 + 10 {
            aggregate.add(process(pid), &[], StopReason::UserSample);
        }
        assert_eq!(aggregate.processes.len(), MAX_PROCESSES + 1);
        assert_eq!(
            aggregate.total(),
            (MAX_NODES + 10 + MAX_PROCESSES + 10) as u64
        );
    }
}
