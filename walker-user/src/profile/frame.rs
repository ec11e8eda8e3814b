//! One frame of a stack: its symbol, the kind of code and stack it is on, and how far to trust it.
//!
//! Not how a frame was found (that is the unwinder's) and not how it is drawn (that is
//! [`crate::output`]'s).

use std::path::PathBuf;

use walker_common::StackKind;

use super::strings::SymbolId;
use crate::elf::BuildId;

/// What a frame stands for.
///
/// The order of the variants breaks ties between frames of equal name when they are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameClass {
    /// A process, by its name; also the root of a tree. Never in [`WeightedStack::frames`].
    ///
    /// [`WeightedStack::frames`]: super::WeightedStack::frames
    Process,
    /// A function in user space.
    User,
    /// A function of the kernel, and the stack it was running on.
    Kernel(StackKind),
    /// No function: says that the frames above it, towards the leaf, are on this stack.
    /// [`Profile::path`] inserts markers; they are never in [`WeightedStack::frames`].
    ///
    /// [`Profile::path`]: super::Profile::path
    /// [`WeightedStack::frames`]: super::WeightedStack::frames
    Marker(StackKind),
    /// An event, where a recording has several. Never in [`WeightedStack::frames`].
    ///
    /// [`WeightedStack::frames`]: super::WeightedStack::frames
    Event,
    /// No function: something about the event, such as who woke the task. Always the leaf.
    Note,
}

/// One symbolized frame.
///
/// Equal frames are stored once, see [`Profile::intern_frame`].
///
/// [`Profile::intern_frame`]: super::Profile::intern_frame
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function; `None` if no symbol covers [`Frame::address`].
    pub name: Option<SymbolId>,
    /// The kernel module, or the base name of the user-space object; `None` for the kernel image
    /// itself and where it is not known. What is no file is in brackets, such as `[jit]`.
    pub module: Option<SymbolId>,
    /// What kind of code this is, and on which stack.
    pub class: FrameClass,
    /// Whether the compiler inlined the function into that of the frame before it, towards the
    /// root; both then have the same address.
    pub inlined: bool,
    /// The source file and the line in it, from 1, or 0 if only the file is known.
    pub source: Option<(SymbolId, u32)>,
    /// `false` if the address was found by scanning the stack for what looks like a return
    /// address: the function may have returned long ago. An oops marks these with `? `.
    pub reliable: bool,
    /// The address of the instruction: of a user frame with an object as it was linked, of any
    /// other in the address space of the sampled task.
    pub address: u64,
    /// Bytes from the start of the function to [`Frame::address`]; for a user frame without a
    /// name, the address in the object as it was linked.
    pub offset: u64,
    /// Length of the function in bytes; 0 if not known.
    pub size: u64,
    /// The object file of a user frame, if it is one: [`Frame::address`] then is as linked.
    pub object: Option<ObjectIndex>,
}

/// An object file that frames are from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProfileObject {
    /// Its path as the process saw it that mapped it first.
    pub path: PathBuf,
    /// Its build ID, if it has one.
    pub build_id: Option<BuildId>,
}

/// An object stored in a [`Profile`](super::Profile).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectIndex(pub(super) u32);

impl ObjectIndex {
    /// Its place among the [objects](super::Profile::objects).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A frame stored in a [`Profile`](super::Profile).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub(super) u32);

impl FrameId {
    /// Its place among the [frames](super::Profile::frames).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What two frames must have in common to be drawn as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label {
    /// The text to show, without any decoration for class or reliability.
    pub name: SymbolId,
    /// What the frame stands for.
    pub class: FrameClass,
    /// See [`Frame::reliable`].
    pub reliable: bool,
    /// See [`Frame::inlined`].
    pub inlined: bool,
}

/// Where the code of a frame is from, as far as all frames that are drawn as one agree on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// See [`Frame::module`].
    pub module: Option<SymbolId>,
    /// See [`Frame::source`].
    pub source: Option<(SymbolId, u32)>,
}

impl Origin {
    /// What this origin and another have in common.
    pub(super) fn merge(&mut self, other: Self) {
        if self.module != other.module {
            self.module = None;
        }
        self.source = match (self.source, other.source) {
            (Some((file, line)), Some((other, same))) if file == other => {
                Some((file, if line == same { line } else { 0 }))
            }
            _ => None,
        };
    }
}
