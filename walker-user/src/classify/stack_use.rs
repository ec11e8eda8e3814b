//! How much of a stack is in use. Who uses it is known to the walk.

use walker_common::StackKind;

/// How much of one kernel stack was in use at a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackUse {
    /// Which.
    pub kind: StackKind,
    /// Bytes from the stack pointer to the end that the stack begins at (its highest address).
    pub used: u32,
    /// Bytes of the whole stack.
    pub size: u32,
}

impl StackUse {
    /// Bytes that were left.
    #[must_use]
    pub const fn room(&self) -> u32 {
        self.size.saturating_sub(self.used)
    }
}
