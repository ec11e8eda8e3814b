//! The programs of perf events: clocks, counters, faults, watchpoints.
//!
//! Which event a program was called for is its cookie. How often is the kernel's business. A
//! sample begins at the registers that the event interrupted, but that of a watchpoint in its handler,
//! which has a stack of its own.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_attach_cookie},
    macros::perf_event,
    programs::PerfEventContext,
};
use walker_common::{
    maps::{COUNTERS_OF_COST, Counters},
    wire::{CHAIN_BYTES, Start},
};

use crate::{
    config::{IDLE_BEGIN, IDLE_END, KEEP_IDLE},
    kernel::read_word,
    maps::{COST, EVENTS},
    sample::{
        Claim, claim, copy_stacks, count, finish, increment, is_due, kernel_chain, save_registers,
        take,
    },
};

/// Takes a sample of what the event interrupted.
#[perf_event]
pub(crate) fn capture(ctx: PerfEventContext) -> u32 {
    let context = ctx.as_ptr();
    let event = unsafe { bpf_get_attach_cookie(context) } as u32;
    if let Some(counters) = count(event)
        && let Some(claim) = begin(&ctx, event, counters)
    {
        take(context, claim.record, claim.counters);
    }
    0
}

/// Takes a sample of an event that can come at any rate, and may have a stack of its own.
#[perf_event]
pub(crate) fn capture_event(ctx: PerfEventContext) -> u32 {
    let context = ctx.as_ptr();
    let event = unsafe { bpf_get_attach_cookie(context) } as u32;
    let Some(config) = EVENTS.get(event) else {
        return 0;
    };
    if let Some(counters) = count(event)
        && is_due(event, counters)
        && let Some(claim) = claim(event, config.start as u32, context, counters)
    {
        save_registers(registers(context), claim.record);
        take(context, claim.record, claim.counters);
    }
    0
}

/// For the cost comparison: `capture` of kernel stacks with its own ring buffer.
#[perf_event]
pub(crate) fn capture_cost(ctx: PerfEventContext) -> u32 {
    if let Some(counters) = count(COUNTERS_OF_COST)
        && let Some(Claim { record, .. }) = begin(&ctx, COUNTERS_OF_COST, counters)
    {
        let used = copy_stacks(record, 0);
        finish(&COST, record, counters, used);
    }
    0
}

/// For the cost comparison: `capture_cost` with the kernel's unwinder in place of the copy.
#[perf_event]
pub(crate) fn kernel_unwind(ctx: PerfEventContext) -> u32 {
    if let Some(counters) = count(COUNTERS_OF_COST)
        && let Some(Claim { record, .. }) = begin(&ctx, COUNTERS_OF_COST, counters)
    {
        kernel_chain(ctx.as_ptr(), record);
        // The chain's real length, so that as little is copied into the ring as can be.
        let bytes = unsafe { (*record).header.chain_bytes };
        let used = if bytes > 0 && bytes as usize <= CHAIN_BYTES {
            bytes as usize
        } else {
            0
        };
        finish(&COST, record, counters, used);
    }
    0
}

/// Where the registers are: at the beginning of the context (`struct bpf_perf_event_data`).
#[inline(always)]
fn registers(context: *mut c_void) -> *const pt_regs {
    context.cast_const().cast()
}

/// Leaves out an idle CPU, and prepares the record of what was interrupted.
#[inline(always)]
fn begin(ctx: &PerfEventContext, event: u32, counters: *mut Counters) -> Option<Claim> {
    let regs = registers(ctx.as_ptr());
    let ip = unsafe { (&raw const (*regs).rip).read_volatile() };
    if bpf_get_current_pid_tgid() as u32 == 0 && KEEP_IDLE.load() == 0 && is_idle(ip) {
        increment(unsafe { &raw mut (*counters).filtered_idle });
        return None;
    }
    let claim = claim(event, Start::Registers as u32, ctx.as_ptr(), counters)?;
    save_registers(regs, claim.record);
    Some(claim)
}

/// Whether an idle task interrupted at `ip` was doing nothing: in the text of the idle drivers, or
/// just woken from one of the instructions with which a CPU waits, wherever that stands. An
/// interrupt that it serves meanwhile is work and has another `ip`.
#[inline(always)]
fn is_idle(ip: u64) -> bool {
    if ip >= IDLE_BEGIN.load() && ip < IDLE_END.load() {
        return true;
    }
    let [.., third_last, before_last, last] = read_word(ip.wrapping_sub(8)).to_le_bytes();
    match (third_last, before_last, last) {
        // sti; hlt
        (_, 0xfb, 0xf4) => true,
        // mwait, mwaitx
        (0x0f, 0x01, 0xc9 | 0xfb) => true,
        _ => false,
    }
}
