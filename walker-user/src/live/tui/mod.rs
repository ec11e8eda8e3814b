//! The live view in a terminal: the heaviest functions and the tree of calls, by the second.
//!
//! `picture` is what is shown of the samples, `state` what the user has chosen, `draw` how it looks;
//! all three without a terminal. `screen` has the terminal.

mod draw;
mod picture;
mod screen;
mod state;

#[cfg(test)]
mod tests;

pub use screen::{Screen, Shown};
