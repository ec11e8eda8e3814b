//! Tests of whole walks, and what the tests of the parts share with them.

mod process;
mod program;
mod real;
pub(crate) mod sections;
