//! The walk of user stacks: captured bytes, registers and tables in, frames out.
//!
//! It knows nothing of files and processes; it does no I/O, and allocates nothing in a walk. What
//! it reads was written by programs that nobody trusts, so each walk has a bound on its work that
//! nothing in the tables or on the stack can raise.
//!
//! [`tables`] finds the unwind information of an address, through `header` or `index`, and `rule`
//! boils it down to what `cache` can keep; `row` and `expression` evaluate what does not fit.
//! [`walk`] goes from frame to frame, asking `lookup` for the rule; `progress` keeps it from going
//! in circles, and `call` from following what is no return address. `fallback` has the steps for
//! code without unwind information, and `exit` the one that follows the code itself. `mode` knows
//! what differs between code of 64 and of 32 bits.

mod cache;
pub mod call;
mod describe;
mod entry;
mod exit;
mod expression;
mod fallback;
mod header;
mod index;
mod lookup;
mod machine;
mod memory;
pub mod mode;
mod progress;
pub mod registers;
mod row;
mod rule;
pub mod sections;
pub mod stack;
pub mod tables;
#[cfg(test)]
pub(super) mod tests;
pub mod walk;

pub use describe::RowText;
