//! The walk over synthetic stacks: every rule, every end, every crossing, and random input.

mod chains;
mod crossing;
mod frame_pointer;
mod fred;
mod machine;
mod properties;
mod rules;
mod scans;
mod starts;
mod stops;
mod thunks;
mod x86_32;
