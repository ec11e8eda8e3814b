//! The gate: whether a workload got slower from one build of a kernel to the next, in which function,
//! and how sure that is.
//!
//! A [`set`] holds the runs of a workload and the [`facts`] they were measured under. [`sums`] makes
//! numbers of them, by the [names](crate::profile::build_names) that builds have in common. [`check`]
//! says whether two sets can be compared at all, [`compare`] judges with the help of [`stats`]. How runs
//! are made is the business of the command line, how a verdict is shown that of [`crate::output`].

mod causes;
pub mod check;
pub mod compare;
pub mod facts;
#[cfg(test)]
pub(crate) mod fixture;
pub mod load;
mod paths;
pub mod set;
pub mod stats;
pub mod sums;
pub mod trend;

pub use causes::Cause;
