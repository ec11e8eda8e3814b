//! Interrupts: how long each took, with the stack of what it interrupted, which is still there when
//! it ends.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel_str},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use walker_common::{
    maps::{IRQ_HARD, IRQ_SOFT, IRQ_VECTOR},
    wire::Start,
};

use crate::{
    config::{IRQ_EVENT, OFF_IRQACTION_NAME},
    kernel::read_word,
    maps::IRQS,
    sample::{claim, count, is_due, is_enabled, no_registers, take},
};

/// `irq_handler_entry(irq, action)`.
#[raw_tracepoint(tracepoint = "irq_handler_entry")]
pub(crate) fn irq_entry(_ctx: RawTracePointContext) -> i32 {
    begin(IRQ_HARD);
    0
}

/// `irq_handler_exit(irq, action, ret)`.
#[raw_tracepoint(tracepoint = "irq_handler_exit")]
pub(crate) fn irq_exit(ctx: RawTracePointContext) -> i32 {
    end(&ctx, IRQ_HARD, ctx.arg(0), ctx.arg(1));
    0
}

/// `softirq_entry(vec_nr)`.
#[raw_tracepoint(tracepoint = "softirq_entry")]
pub(crate) fn softirq_entry(_ctx: RawTracePointContext) -> i32 {
    begin(IRQ_SOFT);
    0
}

/// `softirq_exit(vec_nr)`.
#[raw_tracepoint(tracepoint = "softirq_exit")]
pub(crate) fn softirq_exit(ctx: RawTracePointContext) -> i32 {
    end(&ctx, IRQ_SOFT, ctx.arg(0), 0);
    0
}

/// `local_timer_entry(vector)` and its like.
#[raw_tracepoint(tracepoint = "local_timer_entry")]
pub(crate) fn vector_entry(_ctx: RawTracePointContext) -> i32 {
    begin(IRQ_VECTOR);
    0
}

/// `local_timer_exit(vector)` and its like.
#[raw_tracepoint(tracepoint = "local_timer_exit")]
pub(crate) fn vector_exit(ctx: RawTracePointContext) -> i32 {
    end(&ctx, IRQ_VECTOR, ctx.arg(0), 0);
    0
}

#[inline(always)]
fn begin(kind: u32) {
    let Some(irqs) = IRQS.get_ptr_mut(0) else {
        return;
    };
    unsafe {
        (*irqs).since_ns[kind as usize] = bpf_ktime_get_ns();
        if kind == IRQ_SOFT {
            (*irqs).hard_ns_before = (*irqs).hard_ns;
        }
    }
}

/// `number` is the second half of what user space is told: which one of its kind. `action` is the
/// kernel's `struct irqaction`, or 0.
#[inline(always)]
fn end(ctx: &RawTracePointContext, kind: u32, number: u64, action: u64) {
    let Some(irqs) = IRQS.get_ptr_mut(0) else {
        return;
    };
    let now = unsafe { bpf_ktime_get_ns() };
    let since = unsafe { (*irqs).since_ns[kind as usize] };
    // It began before the recording.
    if since == 0 {
        return;
    }
    let mut duration = now.wrapping_sub(since);
    unsafe {
        (*irqs).since_ns[kind as usize] = 0;
        if kind == IRQ_SOFT {
            // What interrupted the softirq is counted for itself.
            let hard = (*irqs).hard_ns.wrapping_sub((*irqs).hard_ns_before);
            duration = duration.saturating_sub(hard);
        } else {
            (*irqs).hard_ns = (*irqs).hard_ns.wrapping_add(duration);
        }
    }
    if !is_enabled() {
        return;
    }
    let event = IRQ_EVENT.load() as u32;
    if let Some(counters) = count(event)
        && is_due(event, counters)
        && let Some(claim) = claim(event, Start::Caller as u32, ctx.as_ptr(), counters)
    {
        no_registers(claim.record);
        unsafe {
            let header = &raw mut (*claim.record).header;
            (*header).duration_ns = duration;
            (*header).subject = u64::from(kind) << 32 | number & 0xffff_ffff;
            if action != 0 {
                let name = read_word(action.wrapping_add(OFF_IRQACTION_NAME.load()));
                bpf_probe_read_kernel_str(
                    (&raw mut (*header).subject_name).cast(),
                    16,
                    name as *const _,
                );
            }
        }
        take(ctx.as_ptr(), claim.record, claim.counters);
    }
}
