//! stackwalk's BPF programs.
//!
//! They copy raw bytes and count; what the bytes mean is decided in user space. [`sample`] holds
//! what all captures have in common, [`user`] their copy of user stacks; [`perf`], [`trace`],
//! [`wait`] and [`irq`] the programs of each kind of event. [`target`] follows the processes to be
//! sampled, by the numbers that [`namespace`] gives them, [`kernel`] answers the questions user space has before it starts. No program walks
//! a stack.
//!
//! `unsafe` is everywhere here because every kernel helper takes raw pointers; the verifier, not
//! the compiler, proves each access.
#![no_std]
#![no_main]
// The target has no atomic types, but the kernel has had the instruction since 5.12.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", expect(internal_features))]
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "each access is proved by the kernel's verifier when the program is loaded"
)]

mod config;
mod irq;
mod kernel;
mod maps;
mod namespace;
mod perf;
mod sample;
mod target;
mod trace;
mod user;
mod wait;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used (`bpf_probe_read_kernel`, `bpf_get_stack`) are for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
