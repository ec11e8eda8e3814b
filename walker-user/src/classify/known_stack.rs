//! One stack of a CPU or a task, as data.
//!
//! The rules of an architecture (which word links to the next stack, whether an empty stack
//! counts) are fields here, so that the lookup is the same code for all of them.

use std::{error::Error, fmt};

use walker_common::StackKind;

use super::{
    StackInfo,
    stack_info::{Memory, WordSize},
};

/// Where a stack keeps the stack pointer of the context it interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextSp {
    /// Nowhere.
    None,
    /// In the word this many bytes below the end of the stack.
    BelowEnd(u64),
    /// In the lowest word of the stack.
    AtBegin,
    /// Not on the stack: this is the pointer itself, read from elsewhere (a TSS).
    Value(u64),
}

/// A stack whose place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KnownStack {
    /// The kind of stack.
    pub kind: StackKind,
    /// Lowest address.
    pub begin: u64,
    /// First address past it.
    pub end: u64,
    /// Whether a stack pointer equal to `end` is on this stack, which is then empty.
    pub may_be_empty: bool,
    /// How it leads to the next stack.
    pub next_sp: NextSp,
}

/// Addresses or sizes that cannot be those of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayoutError {
    /// A stack at null, of no bytes, or one that would not fit into the address space.
    Impossible {
        /// The kind of stack.
        kind: StackKind,
        /// The address its place was derived from.
        addr: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// The x86_64 IRQ stack's pointer is neither at the end of a page nor one word below it.
    IrqStackPointer {
        /// The pointer.
        pointer: u64,
    },
}

impl KnownStack {
    /// The `size` bytes from `begin` up, never empty.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Impossible`] if there can be no such stack.
    pub fn from_begin(
        kind: StackKind,
        begin: u64,
        size: u64,
        next_sp: NextSp,
    ) -> Result<Self, LayoutError> {
        match begin.checked_add(size) {
            Some(end) if begin != 0 && size != 0 => Ok(Self {
                kind,
                begin,
                end,
                may_be_empty: false,
                next_sp,
            }),
            _ => Err(LayoutError::Impossible {
                kind,
                addr: begin,
                size,
            }),
        }
    }

    /// The `size` bytes below `end`, never empty.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Impossible`] if there can be no such stack.
    pub fn from_end(
        kind: StackKind,
        end: u64,
        size: u64,
        next_sp: NextSp,
    ) -> Result<Self, LayoutError> {
        let begin = end.checked_sub(size).ok_or(LayoutError::Impossible {
            kind,
            addr: end,
            size,
        })?;
        Self::from_begin(kind, begin, size, next_sp)
    }

    /// The kernel stack of a task (`in_task_stack()`, `arch/x86/kernel/dumpstack.c`): `thread_size`
    /// bytes from `task_struct.stack` up. It is the outermost stack and leads nowhere.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Impossible`] if there can be no such stack.
    pub fn task(stack: u64, thread_size: u64) -> Result<Self, LayoutError> {
        Self::from_begin(StackKind::Task, stack, thread_size, NextSp::None)
    }

    /// Whether a stack pointer of this value is on the stack.
    #[inline]
    #[must_use]
    pub fn holds(&self, sp: u64) -> bool {
        self.kind != StackKind::Unknown
            && sp >= self.begin
            && (sp < self.end || (sp == self.end && self.may_be_empty))
    }

    /// Fills in what depends on the bytes of the stack.
    #[inline]
    pub(super) fn info(&self, memory: &impl Memory, word: WordSize) -> StackInfo {
        let slot = match self.next_sp {
            NextSp::None | NextSp::Value(_) => None,
            NextSp::BelowEnd(distance) => self.end.checked_sub(distance),
            NextSp::AtBegin => Some(self.begin),
        };
        let mut info = StackInfo {
            kind: self.kind,
            begin: self.begin,
            end: self.end,
            next_sp: None,
            next_sp_slot: None,
        };
        // A table with a stack too small for its own link must not make us read another stack.
        info.next_sp_slot = slot.filter(|&slot| info.on_stack(slot, word.bytes()));
        info.next_sp = match self.next_sp {
            NextSp::Value(sp) => Some(sp),
            _ => info
                .next_sp_slot
                .and_then(|slot| memory.read_word(slot, word)),
        };
        info
    }
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Impossible { kind, addr, size } => {
                write!(
                    f,
                    "no {} stack of {size} bytes can be at {addr:#x}",
                    kind.name()
                )
            }
            Self::IrqStackPointer { pointer } => {
                write!(
                    f,
                    "IRQ stack pointer {pointer:#x} is not at the top of a page"
                )
            }
        }
    }
}

impl Error for LayoutError {}
