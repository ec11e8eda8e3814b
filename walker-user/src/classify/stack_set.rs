//! The lookup: which of the stacks that are in play holds an address.

use std::{error::Error, fmt};

use walker_common::StackKind;

use super::{KnownStack, Memory, StackInfo, VisitMask, WordSize};

/// The stacks one context can be on: its task's, and those of its CPU.
///
/// They are data, so one lookup serves every layout. The ranges need not make sense: they may
/// overlap or be empty or inverted, and the first that holds an address wins.
#[derive(Debug, Clone, Copy)]
pub struct StackSet<'a> {
    /// The stack of the running task, if it is known. It is searched first.
    pub task: Option<KnownStack>,
    /// The stacks of the CPU, in the order of the search; empty for a task that does not run. Made
    /// by [`x86_64::percpu_stacks`](super::x86_64::percpu_stacks) and
    /// [`x86_32::percpu_stacks`](super::x86_32::percpu_stacks).
    pub percpu: &'a [KnownStack],
    /// The size of the words on these stacks.
    pub word: WordSize,
}

impl StackSet<'_> {
    /// Every stack, in the order of the search.
    pub fn all(&self) -> impl Iterator<Item = &KnownStack> {
        self.task.iter().chain(self.percpu)
    }
}

/// Why there is no stack to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StackError {
    /// The address is null.
    NullPointer,
    /// The address is on no known stack.
    Unknown {
        /// The address.
        addr: u64,
    },
    /// The address is on a kind of stack that was entered before.
    Revisited {
        /// The kind of stack.
        kind: StackKind,
        /// The address.
        addr: u64,
    },
}

impl StackSet<'_> {
    /// The stack that holds `addr`, as the kernel's `get_stack_info()` finds it
    /// (`arch/x86/kernel/dumpstack_64.c` and `dumpstack_32.c`, 6.18).
    ///
    /// With a mask, the stack counts as entered and its kind is noted; without one, this is only a
    /// look. On an error the mask is unchanged.
    ///
    /// # Errors
    ///
    /// [`StackError`] says why there is none. An address on no stack is always an error: the first
    /// version of the kernel's function returned success with the info of the stack before.
    #[inline]
    pub fn get_stack_info(
        &self,
        memory: &impl Memory,
        addr: u64,
        mask: Option<&mut VisitMask>,
    ) -> Result<StackInfo, StackError> {
        if addr == 0 {
            return Err(StackError::NullPointer);
        }
        let stack = self
            .task
            .iter()
            .chain(self.percpu)
            .find(|stack| stack.holds(addr))
            .ok_or(StackError::Unknown { addr })?;
        if let Some(mask) = mask {
            mask.visit(stack.kind)
                .map_err(|revisited| StackError::Revisited {
                    kind: revisited.kind,
                    addr,
                })?;
        }
        Ok(stack.info(memory, self.word))
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NullPointer => write!(f, "the stack pointer is null"),
            Self::Unknown { addr } => write!(f, "{addr:#x} is on no known stack"),
            Self::Revisited { kind, addr } => {
                write!(f, "{addr:#x} leads back to the {} stack", kind.name())
            }
        }
    }
}

impl Error for StackError {}
