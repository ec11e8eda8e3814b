//! The few system calls that no crate wraps. All `unsafe` of the user-space side is in here.

pub mod bpf;
pub mod clock;
pub(crate) mod confine;
pub mod limits;
pub mod perf;
pub mod perf_ring;
pub(crate) mod priority;
pub mod privileges;
pub(crate) mod process;
pub mod regular_file;
pub(crate) mod ring;
pub(crate) mod standard_error;
pub mod threads;
