//! stackwalk's user-space side as a library.
//!
//! The layers point one way: [`capture`] → [`classify`] → [`unwind`] →
//! [`stack_tree`] → [`recording`] → [`symbolize`] → [`profile`] → [`output`]. [`kernel`] and [`btf`] hold what is known of the
//! kernel that is sampled; [`core_dump`] walks the dump of one. See `ARCHITECTURE.md` for the path of one sample.

// What tests and benches share names this crate as an outsider does.
#[cfg(test)]
extern crate self as walker_user;

pub mod btf;
pub mod capture;
pub mod ci;
pub mod classify;
pub mod cli;
pub mod core_dump;
pub mod elf;
pub mod interrupts;
pub mod kernel;
pub mod live;
mod numbered;
pub mod output;
pub mod process;
pub mod profile;
pub mod recording;
pub mod resolve;
pub mod stack_tree;
pub mod symbolize;
pub mod sys;
pub mod unwind;
pub mod user_side;
pub mod verify;
pub mod waits;
