//! The guard against stacks that lead to each other in a circle.

use std::{error::Error, fmt};

use walker_common::StackKind;

/// The kinds of stack a walk was on, one bit for each.
///
/// This is the `visit_mask` of `get_stack_info()` (`arch/x86/kernel/dumpstack_64.c` and
/// `dumpstack_32.c`, as fixed right after the interface came in): every kind is masked, the task
/// and IRQ stacks as well. A CPU has one stack of a kind, so no honest chain has a kind twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct VisitMask(u32);

/// A walk came back to a kind of stack it had been on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revisited {
    /// The kind of stack.
    pub kind: StackKind,
}

impl VisitMask {
    /// Notes that the walk enters a stack of this kind.
    ///
    /// # Errors
    ///
    /// [`Revisited`] if it had been on one before; the mask then stays as it was.
    #[inline]
    pub fn visit(&mut self, kind: StackKind) -> Result<(), Revisited> {
        if self.contains(kind) {
            return Err(Revisited { kind });
        }
        self.0 |= Self::bit(kind);
        Ok(())
    }

    /// Whether the walk was on a stack of this kind.
    #[inline]
    #[must_use]
    pub const fn contains(self, kind: StackKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    const fn bit(kind: StackKind) -> u32 {
        1 << kind as u8
    }
}

impl fmt::Display for Revisited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "came back to the {} stack", self.kind.name())
    }
}

impl Error for Revisited {}
