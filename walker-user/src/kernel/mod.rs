//! What the running kernel is like: field offsets, stack ranges, text, unwind tables, symbols'
//! bounds. Everything is found out at run time and nothing is assumed from a version number.
//!
//! Reading kernel memory is behind [`memory::KernelMemory`]; no walk happens here.

pub mod bpf_text;
pub mod image;
pub mod kallsyms;
pub mod kcore;
pub mod memory;
pub mod offsets;
pub mod orc_source;
pub mod running;
pub mod sampled;
pub mod stacks;
