//! What the BPF programs and the user-space side of stackwalk must agree on.
//!
//! This crate holds data layouts and names only: the sample record ([`wire`]), the values of the
//! BPF maps ([`maps`]) and the numbering of the stack kinds ([`stack_kind`]). It is compiled for
//! both sides, so it is `no_std` and has no logic beyond naming a number; what a layout *means*
//! is decided in user space.
#![no_std]

pub mod maps;
pub mod stack_kind;
pub mod wire;

pub use stack_kind::StackKind;
