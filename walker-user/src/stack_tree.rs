//! Distinct stacks, before they are symbolized: what is kept of a sample's stack once it was walked.
//!
//! Stacks are kept as a tree of frames from the outermost frame on, so that stacks that differ
//! only near the leaf share the rest. Its size is bounded; what does not fit is counted, not
//! dropped. Samples, which refer to the tree, are kept in a [`recording`](crate::recording).

use rustc_hash::FxHashMap;
use walker_common::StackKind;

use crate::{
    process::{names::Comm, object::ObjectId},
    unwind,
};

/// Most nodes of the tree, about 40 MiB with its index.
const MAX_NODES: usize = 500_000;
/// How many latest stacks are kept.
const LATEST: usize = 8;
/// Most processes that are told apart.
const MAX_PROCESSES: usize = 100_000;
/// Most notes that are told apart.
const MAX_NOTES: usize = 10_000;
/// What stands for all notes past that.
const MORE_NOTES: &str = "[more notes]";

/// Whose a stack is: a process, by ID and name, and the name of the thread. Under each of its names a
/// thread counts as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// The process's ID.
    pub pid: u32,
    /// The thread's name, zero padded.
    pub comm: Comm,
    /// The process's name, zero padded.
    pub name: Comm,
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

/// Where a stack is kept: as a process, if it has no frames, or as its innermost frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A process, by its index in [`StackTree::processes`].
    Process(u32),
    /// A frame, by its index in [`StackTree::nodes`].
    Node(u32),
}

/// Keeps stacks.
#[derive(Debug, Default)]
pub struct StackTree {
    processes: Vec<Process>,
    /// The number of the first process that is not forgotten; likewise below.
    first_process: u32,
    process_ids: FxHashMap<Process, u32>,
    nodes: Vec<(Place, RawFrame)>,
    /// How many nodes were forgotten: the number of the first that is not.
    first: u32,
    node_ids: FxHashMap<(Place, RawFrame), u32>,
    notes: Vec<String>,
    first_note: u32,
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

impl StackTree {
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
            Some((_, node)) => Place::Node(*node),
            None => Place::Process(process),
        };
        for frame in frames.iter().rev().skip(path.len()) {
            let Some(node) = self.child(at, *frame) else {
                self.shortened += 1;
                break;
            };
            path.push((*frame, node));
            at = Place::Node(node);
        }
        self.latest[slot] = Latest { process, path };
        at
    }

    /// The place of a stack that has this note as its leaf.
    pub fn noted(&mut self, place: Place, note: &str) -> Place {
        let note = self.note(note);
        match self.child(place, RawFrame::Note(note)) {
            Some(node) => Place::Node(node),
            None => place,
        }
    }

    /// The number of a note. Past the bound all further ones share the last entry's place.
    fn note(&mut self, text: &str) -> u32 {
        if let Some(id) = self.note_ids.get(text) {
            return *id;
        }
        if self.notes.len() > MAX_NOTES {
            return self.first_note + MAX_NOTES as u32;
        }
        let id = self.first_note + self.notes.len() as u32;
        let entry = match self.notes.len() == MAX_NOTES {
            true => MORE_NOTES,
            false => text,
        };
        self.notes.push(entry.to_owned());
        self.note_ids.insert(entry.to_owned(), id);
        id
    }

    fn process(&mut self, process: Process) -> u32 {
        if let Some(id) = self.process_ids.get(&process) {
            return *id;
        }
        // Past the bound all further processes share the last entry's place.
        if self.processes.len() > MAX_PROCESSES {
            return self.first_process + MAX_PROCESSES as u32;
        }
        let id = self.first_process + self.processes.len() as u32;
        let entry = if self.processes.len() == MAX_PROCESSES {
            Process {
                pid: 0,
                comm: *b"[more processes]",
                name: *b"[more processes]",
            }
        } else {
            process
        };
        self.processes.push(entry);
        self.process_ids.insert(entry, id);
        id
    }

    fn child(&mut self, parent: Place, frame: RawFrame) -> Option<u32> {
        if let Some(node) = self.node_ids.get(&(parent, frame)) {
            return Some(*node);
        }
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let node = self.first.checked_add(self.nodes.len() as u32)?;
        self.nodes.push((parent, frame));
        self.node_ids.insert((parent, frame), node);
        Some(node)
    }

    /// The processes, in the order in which they were first seen.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Forgets all frames, which have to be written down, so that there is room for others. Their
    /// numbers still stand for them; stacks that begin like them get new ones.
    pub fn forget_nodes(&mut self) {
        self.first = self.first.saturating_add(self.nodes.len() as u32);
        self.nodes.clear();
        self.node_ids.clear();
        self.latest = Default::default();
    }

    /// Forgets processes and notes, too. Their numbers are not given to others.
    pub fn forget_all(&mut self) {
        self.forget_nodes();
        self.first_process += self.processes.len() as u32;
        self.processes.clear();
        self.process_ids.clear();
        self.first_note += self.notes.len() as u32;
        self.notes.clear();
        self.note_ids.clear();
    }

    /// Whether there is little room for more of anything.
    #[must_use]
    pub fn has_little_room(&self) -> bool {
        self.is_nearly_full()
            || self.processes.len() >= MAX_PROCESSES / 4 * 3
            || self.notes.len() >= MAX_NOTES / 4 * 3
    }

    /// The number of the first of [`StackTree::processes`].
    #[must_use]
    pub const fn first_process(&self) -> u32 {
        self.first_process
    }

    /// The number of the first of [`StackTree::notes`].
    #[must_use]
    pub const fn first_note(&self) -> u32 {
        self.first_note
    }

    /// Whether there is little room for more frames.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.nodes.len() >= MAX_NODES / 4 * 3
    }

    /// The number of the first of [`StackTree::nodes`].
    #[must_use]
    pub const fn first_node(&self) -> u32 {
        self.first
    }

    /// The frames that are not forgotten, in the order in which they were first seen, each with what
    /// it is kept below.
    #[must_use]
    pub fn nodes(&self) -> &[(Place, RawFrame)] {
        &self.nodes
    }

    /// The texts of notes, by number.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Samples whose stacks lost their inner frames because the tree was full.
    #[must_use]
    pub const fn shortened(&self) -> u64 {
        self.shortened
    }
}

#[cfg(test)]
mod tests {
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
            name: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
            comm: *b"name\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    /// The process and the frames of a place, root first.
    fn stack_at(tree: &StackTree, mut place: Place) -> (u32, Vec<RawFrame>) {
        let mut frames = Vec::new();
        loop {
            match place {
                Place::Process(id) => {
                    frames.reverse();
                    return (tree.processes()[id as usize].pid, frames);
                }
                Place::Node(id) => {
                    let (parent, frame) = tree.nodes()[id as usize];
                    frames.push(frame);
                    place = parent;
                }
            }
        }
    }

    #[test]
    fn equal_stacks_have_one_place_and_others_another() {
        let mut tree = StackTree::default();
        let place = tree.place(process(1), &[kernel(2), kernel(1)]);
        assert_eq!(tree.place(process(1), &[kernel(2), kernel(1)]), place);
        assert_ne!(tree.place(process(1), &[kernel(3), kernel(1)]), place);
        assert_ne!(tree.place(process(2), &[kernel(2), kernel(1)]), place);
        assert_eq!(stack_at(&tree, place), (1, vec![kernel(1), kernel(2)]));
        assert_eq!(tree.nodes().len(), 5);
    }

    #[test]
    fn a_note_is_the_leaf() {
        let mut tree = StackTree::default();
        let place = tree.place(process(1), &[kernel(1)]);
        let noted = tree.noted(place, "woken");
        assert_eq!(tree.noted(place, "woken"), noted);
        let expected = vec![kernel(1), RawFrame::Note(0)];
        assert_eq!(stack_at(&tree, noted), (1, expected));
        assert_eq!(tree.notes(), ["woken"]);
    }

    #[test]
    fn frames_that_were_forgotten_keep_their_numbers() {
        let mut tree = StackTree::default();
        let before = tree.place(process(1), &[kernel(2), kernel(1)]);
        assert_eq!(before, Place::Node(1));
        tree.forget_nodes();
        assert_eq!((tree.first_node(), tree.nodes().len()), (2, 0));
        // The same stack again, whole, and a note on the one that was forgotten.
        assert_eq!(
            tree.place(process(1), &[kernel(2), kernel(1)]),
            Place::Node(3)
        );
        assert_eq!(tree.noted(before, "woken"), Place::Node(4));
        assert_eq!(tree.nodes()[0], (Place::Process(0), kernel(1)));
        assert_eq!(tree.nodes()[1], (Place::Node(2), kernel(2)));
        assert_eq!(tree.nodes()[2], (before, RawFrame::Note(0)));
    }

    #[test]
    fn notes_are_bounded() {
        let mut tree = StackTree::default();
        let place = tree.place(process(1), &[]);
        for note in 0..MAX_NOTES + 10 {
            tree.noted(place, &note.to_string());
        }
        assert_eq!(tree.notes().len(), MAX_NOTES + 1);
        assert_eq!(tree.nodes().len(), MAX_NOTES + 1);
        // What is not known any more is not said to be another.
        let noted = tree.noted(place, "one more");
        assert_eq!(noted, Place::Node(MAX_NOTES as u32));
        assert_eq!(tree.notes()[MAX_NOTES], MORE_NOTES);
    }

    #[test]
    fn what_was_forgotten_is_not_taken_for_another() {
        let mut tree = StackTree::default();
        let before = tree.place(process(1), &[]);
        tree.noted(before, "woken");
        tree.forget_all();
        assert!(tree.processes().is_empty() && tree.notes().is_empty());
        assert_eq!((tree.first_process(), tree.first_note()), (1, 1));
        let after = tree.place(process(2), &[]);
        assert_eq!(after, Place::Process(1));
        tree.noted(after, "another");
        assert_eq!(tree.nodes(), [(after, RawFrame::Note(1))]);
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
            let mut tree = StackTree::default();
            for (pid, ips) in added {
                let leaf_first: Vec<RawFrame> = ips.iter().rev().map(|ip| kernel(*ip)).collect();
                let place = tree.place(process(pid), &leaf_first);
                let root_first = ips.iter().map(|ip| kernel(*ip)).collect();
                prop_assert_eq!(stack_at(&tree, place), (pid, root_first));
            }
        }
    }

    #[test]
    fn past_its_bounds_it_counts_and_does_not_grow() {
        let mut tree = StackTree::default();
        for ip in 0..MAX_NODES as u64 + 10 {
            tree.place(process(1), &[kernel(ip)]);
        }
        assert_eq!(tree.nodes().len(), MAX_NODES);
        assert_eq!(tree.shortened(), 10);
        for pid in 0..MAX_PROCESSES as u32 + 10 {
            tree.place(process(pid), &[]);
        }
        assert_eq!(tree.processes().len(), MAX_PROCESSES + 1);
    }
}
