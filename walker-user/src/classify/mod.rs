//! Which kernel stack an address is on, and how one stack leads to the next.
//!
//! These are the user-space counterparts, over captured bytes, of the kernel's `get_stack_info()`
//! family (`arch/x86/kernel/dumpstack*.c`; the order of the search and the visit mask are the same
//! from 5.10 to 6.18) and of the `dump_trace()` that once was built on it. [`StackSet`] answers
//! for one CPU, from stack ranges given as data; [`x86_64`] and [`x86_32`] make those ranges.
//! [`dump`] walks a whole chain of stacks without any unwind tables.
//!
//! Everything is pure: bytes come through [`Memory`], nothing does I/O, a lookup or a step
//! allocates nothing, and no input makes it panic. Every captured word is taken for hostile. It is
//! not an unwinder (that is the `unwind` module), and finding out where the stacks are is the job
//! of whoever fills the ranges.

pub mod dump;
mod known_stack;
mod markers;
mod stack_info;
mod stack_set;
mod stack_use;
mod visit_mask;
pub mod x86_32;
pub mod x86_64;

#[cfg(test)]
mod tests;

pub use known_stack::{KnownStack, LayoutError, NextSp};
pub use markers::markers;
pub use stack_info::{Memory, StackInfo, WordSize};
pub use stack_set::{StackError, StackSet};
pub use stack_use::StackUse;
pub use visit_mask::{Revisited, VisitMask};
