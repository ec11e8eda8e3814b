//! What the chunks of a recording hold besides bytes: the rows of its tables. They refer to each
//! other by number.
//!
//! They are encoded by postcard, whose format is specified. A change of any type here, or of
//! [`CodeSymbol`], is a change of the file format: see [`super::chunk::MAJOR`] and
//! `docs/format.md`.

use serde::{Deserialize, Serialize};

use crate::{
    symbolize::{CodeSymbol, KernelSymbol},
    unwind::orc::OrcEntry,
};

/// One entry of a [`Tables`](super::chunk::Kind::Tables) chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A process: an ID and the name of one of its threads, zero padded, by which the process is
    /// called as well unless [`Entry::ProcessName`] follows.
    Process {
        /// Its number.
        number: u32,
        /// Its ID.
        pid: u32,
        /// The name.
        comm: [u8; 16],
    },
    /// An object file, and its number.
    Object(u32, ObjectRow),
    /// The name of a mapped file that was not at hand, and its number.
    NoFile(u32, String),
    /// A note, and its number.
    Note(u32, String),
    /// What a process had mapped, as far as a walk looked.
    Mapping(MappingRow),
    /// Code of a process that is in no file, as far as a walk read it.
    Code {
        /// The record from which on it holds.
        since: u64,
        /// The process.
        pid: u32,
        /// The address of the first byte.
        address: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Something a process did.
    Event(ProcessEvent),
    /// The name of a process whose thread has another one (minor version 2).
    ProcessName {
        /// The process's number.
        number: u32,
        /// The name, zero padded.
        name: [u8; 16],
    },
}

/// An object file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    /// Its path as the process saw it that mapped it first.
    pub path: Vec<u8>,
    /// Its build ID; none if it has none.
    pub build_id: Vec<u8>,
    /// Its length in bytes and when it was last modified (seconds and nanoseconds since 1970),
    /// which tell it if it has no build ID.
    pub state: Option<(u64, i64, i64)>,
}

/// What an address range of a process held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRow {
    /// The record from which on it holds.
    pub since: u64,
    /// The process.
    pub pid: u32,
    /// The first address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// What is there.
    pub place: PlaceRow,
}

/// What an executable range of addresses shows. A bias is added, modulo 2^64, to an address of the
/// process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlaceRow {
    /// An object file; the sum is the address as linked.
    Object {
        /// Which.
        object: u32,
        /// The bias.
        bias: u64,
    },
    /// A file that was not at hand; the sum is the offset in it.
    NoFile {
        /// The bias.
        bias: u64,
    },
    /// Memory without a file.
    Memory,
    /// Nothing any more.
    Gone,
    /// What the process had mapped is not known.
    Unknown,
}

/// Something a process did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEvent {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// What.
    pub what: ProcessDid,
}

/// What a process did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessDid {
    /// It was made by another, or the thread was made in it.
    Forked {
        /// The process that made it.
        parent_pid: u32,
        /// The thread that made it.
        parent_tid: u32,
    },
    /// It executes another program, of this name.
    Executed(Vec<u8>),
    /// The thread has another name.
    Named(Vec<u8>),
    /// It mapped a file as code.
    Mapped {
        /// The first address.
        start: u64,
        /// Bytes.
        len: u64,
        /// Where in the file it begins.
        offset: u64,
        /// The path.
        path: Vec<u8>,
        /// Its build ID, if the kernel told it.
        build_id: Vec<u8>,
    },
    /// The thread ended.
    Exited,
    /// So many such events were lost before this one.
    Lost(u64),
}

/// Where a stack is kept: with a process alone, or behind a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PlacedAt {
    /// No frames.
    Process(u32),
    /// Up to and with this one.
    Node(u32),
}

/// A frame of the tree of stacks. Frames are numbered in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeRow {
    /// What it was called from, in the direction of the root.
    pub parent: PlacedAt,
    /// The frame.
    pub frame: FrameRow,
}

/// A frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FrameRow {
    /// In the kernel.
    Kernel {
        /// The address.
        ip: u64,
        /// 1 if it is a return address, 0 if it was interrupted.
        after: u8,
        /// The stack kind, by number.
        stack: u8,
        /// Whether the walk was exact up to here.
        reliable: bool,
    },
    /// In user space.
    User {
        /// What holds the code.
        code: CodeRow,
        /// The address: as linked in an object, an offset in a file that was not at hand, in the
        /// process otherwise.
        address: u64,
        /// 1 if it is a return address, 0 if it was interrupted.
        after: u8,
        /// Whether the walk was exact up to here.
        reliable: bool,
    },
    /// No frame, but a note, by number.
    Note(u32),
}

/// What holds the code of a user frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CodeRow {
    /// An object file, by number.
    Object(u32),
    /// A file that was not at hand, by the number of its name.
    NoFile(u32),
    /// Memory that was filled at run time.
    Memory,
    /// No mapping that is known.
    Unmapped,
}

/// A [`Samples`](super::chunk::Kind::Samples) chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleChunk {
    /// What the first row's record is relative to.
    pub record: u64,
    /// What the first row's time is relative to.
    pub time_ns: u64,
    /// The samples.
    pub rows: Vec<SampleRow>,
}

/// A sample. Its record and its time are relative to those of the row before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRow {
    /// The number of its record among all records of the recording.
    pub record: i64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: i64,
    /// The thread.
    pub tid: u32,
    /// The CPU.
    pub cpu: u32,
    /// The event, by number.
    pub event: u32,
    /// Its stack.
    pub place: PlacedAt,
    /// Why its walk ended, by its number in `StopReason::NAMES`.
    pub stop: u8,
    /// How many frames at the leaf were left out, as they only report the event.
    pub reporting: u8,
    /// What it weighs.
    pub weight: u64,
    /// The kernel stacks in use, from the interrupted one outwards: kind, bytes used, bytes in all.
    pub uses: Vec<(u8, u32, u32)>,
}

/// A [`Names`](super::chunk::Kind::Names) chunk is a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameRow {
    /// An address of the kernel, of return addresses the byte before.
    Kernel {
        /// The address.
        lookup: u64,
        /// The function.
        name: String,
        /// Its module.
        module: Option<String>,
        /// Bytes from the start of the function.
        offset: u64,
        /// Bytes of the function; 0 if not known.
        size: u64,
    },
    /// An address of user space, of return addresses the byte before.
    User {
        /// What holds it.
        code: CodeRow,
        /// The process, if that is memory; 0 otherwise.
        pid: u32,
        /// The address.
        lookup: u64,
        /// What is known of it.
        symbol: CodeSymbol,
    },
}

/// An [`Orc`](super::chunk::Kind::Orc) chunk: a part of one unwind table, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrcChunk {
    /// Which table of `KernelHead::orc`.
    pub table: u32,
    /// Entries, each with how many bytes of code it begins after the one before it, or, if it is
    /// the table's first, after the table's begin.
    pub entries: Vec<(u32, OrcEntry)>,
}

impl From<(u64, KernelSymbol)> for NameRow {
    fn from((lookup, symbol): (u64, KernelSymbol)) -> Self {
        Self::Kernel {
            lookup,
            name: symbol.name,
            module: symbol.module,
            offset: symbol.offset,
            size: symbol.size,
        }
    }
}
