//! Tests of whole walks, and what the tests of the parts share with them.

mod made_up;
mod process;
mod program;
mod properties;
mod real;
pub(crate) mod sections;
