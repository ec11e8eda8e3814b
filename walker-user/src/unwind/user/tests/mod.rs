//! Tests of whole walks.

mod process;
mod program;
mod real;
