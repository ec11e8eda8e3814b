//! The programs that are called by what they report: raw tracepoints, probes, the beginning and
//! the end of functions.
//!
//! A raw tracepoint on an older kernel tells a program nothing of which one it is (cookies came
//! with 6.10), and fentry and fexit never do, so there is a program for each that can be asked
//! for. Probes have cookies.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_get_attach_cookie,
    macros::{fentry, fexit, kprobe, raw_tracepoint},
    programs::{FEntryContext, FExitContext, ProbeContext, RawTracePointContext},
};
use walker_common::{
    maps::{ENTRY_SLOTS, TRACE_SLOTS},
    wire::Start,
};

use crate::{
    maps::SLOTS,
    sample::{claim, count, is_due, is_enabled, save_registers, take, take_here},
};

/// Takes a sample that begins at the probed instruction.
#[kprobe]
pub(crate) fn probe(ctx: ProbeContext) -> u32 {
    let context = ctx.as_ptr();
    if !is_enabled() {
        return 0;
    }
    let event = unsafe { bpf_get_attach_cookie(context) } as u32;
    if let Some(counters) = count(event)
        && is_due(event, counters)
        && let Some(claim) = claim(event, Start::Registers as u32, context, counters)
    {
        save_registers(ctx.regs, claim.record);
        take(context, claim.record, claim.counters);
    }
    0
}

macro_rules! slots {
    ($attribute:ident, $context:ty, $result:ty, $start:ident, $first:expr, $($name:ident = $slot:literal),*) => {
        $(
            /// Takes a sample of the event in this slot.
            #[$attribute]
            pub(crate) fn $name(ctx: $context) -> $result {
                if let Some(event) = SLOTS.get($first + $slot) {
                    take_here(*event, Start::$start as u32, ctx.as_ptr());
                }
                0
            }
        )*
    };
}

slots!(
    raw_tracepoint,
    RawTracePointContext,
    i32,
    Caller,
    0,
    trace_0 = 0,
    trace_1 = 1,
    trace_2 = 2,
    trace_3 = 3,
    trace_4 = 4,
    trace_5 = 5,
    trace_6 = 6,
    trace_7 = 7
);
slots!(
    fentry,
    FEntryContext,
    i32,
    Trampoline,
    TRACE_SLOTS,
    entry_0 = 0,
    entry_1 = 1,
    entry_2 = 2,
    entry_3 = 3
);
slots!(
    fexit,
    FExitContext,
    i32,
    Trampoline,
    TRACE_SLOTS + ENTRY_SLOTS,
    exit_0 = 0,
    exit_1 = 1,
    exit_2 = 2,
    exit_3 = 3
);
