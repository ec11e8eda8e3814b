//! Waiting: a sample when a task is switched out, a short record when it runs again.
//!
//! The stack can only be copied while the task is still there, and how long it waits is known only
//! when it is back, in another task's context; user space brings the two together.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::bpf_get_current_comm,
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use walker_common::{
    maps::{SWITCH_PREEMPTED, Wait},
    wire::{FLAG_WAIT_END, Start, WAKER_INTERRUPT, WAKER_NONE, WAKER_TASK, WIRE_VERSION, WaitEnd},
};

use crate::{
    config::{OFF_TASK_PID, SWITCH_HAS_STATE, SWITCHES, WAIT_EVENT},
    kernel::read_word,
    maps::{SAMPLES, WAITS},
    namespace::{current_ids, tid_of},
    sample::{Claim, claim, count, is_due, is_enabled, no_registers, stacks_of, take},
    target::read_id,
};

/// `TASK_DEAD` (`include/linux/sched.h`): it will not run again.
const TASK_DEAD: u64 = 0x80;

/// `sched_switch(preempt, prev, next, prev_state)`, in the context of `prev`.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub(crate) fn switch(ctx: RawTracePointContext) -> i32 {
    if !is_enabled() {
        return 0;
    }
    let next: u64 = ctx.arg(2);
    end_wait(next);
    let preempted = ctx.arg::<u64>(0) & 0xff != 0;
    let state = if SWITCH_HAS_STATE.load() != 0 {
        ctx.arg::<u64>(3) & 0xffff_ffff
    } else {
        u64::from(!preempted)
    };
    let runnable = preempted || state == 0;
    if state & TASK_DEAD != 0 || runnable && SWITCHES.load() & SWITCH_PREEMPTED == 0 {
        return 0;
    }
    begin_wait(&ctx, if runnable { 0 } else { state });
    0
}

/// The present task is switched out, in this state.
#[inline(always)]
fn begin_wait(ctx: &RawTracePointContext, state: u64) {
    let tid = bpf_get_current_pid_tgid() as u32;
    if tid == 0 {
        return;
    }
    let event = WAIT_EVENT.load() as u32;
    let Some(counters) = count(event) else {
        return;
    };
    if !is_due(event, counters) {
        return;
    }
    let Some(claim) = claim(event, Start::Caller as u32, ctx.as_ptr(), counters) else {
        return;
    };
    let Claim { record, .. } = claim;
    no_registers(record);
    unsafe { (*record).header.subject = state };
    let since_ns = unsafe { (*record).header.time_ns };
    if take(ctx.as_ptr(), claim.record, claim.counters) {
        let wait = Wait {
            since_ns,
            waker_tid: 0,
            waker_kind: WAKER_NONE,
            waker_comm: [0; 16],
            event,
            pad: 0,
        };
        // If there is no room the end of the wait will not be told, which user space sees.
        let _full = WAITS.insert(tid, wait, 0);
    }
}

/// A task runs again.
#[inline(always)]
fn end_wait(task: u64) {
    let key = read_id(task.wrapping_add(OFF_TASK_PID.load()));
    let Some(wait) = WAITS.get_ptr(key) else {
        return;
    };
    let end = unsafe {
        WaitEnd {
            size: size_of::<WaitEnd>() as u32,
            version: WIRE_VERSION,
            flags: FLAG_WAIT_END,
            time_ns: bpf_ktime_get_ns(),
            since_ns: (*wait).since_ns,
            tid: tid_of(task),
            waker_tid: (*wait).waker_tid,
            waker_kind: (*wait).waker_kind,
            pad: 0,
            waker_comm: (*wait).waker_comm,
        }
    };
    // Both fail only if something is lost, which user space sees by the task's next wait.
    let _lost = SAMPLES.output::<WaitEnd>(&end, u64::from(BPF_RB_NO_WAKEUP));
    let _gone = WAITS.remove(key);
}

/// `sched_waking(task)`, in the context of who wakes it.
#[raw_tracepoint(tracepoint = "sched_waking")]
pub(crate) fn waking(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let tid = read_id(task.wrapping_add(OFF_TASK_PID.load()));
    let Some(wait) = WAITS.get_ptr_mut(tid) else {
        return 0;
    };
    unsafe {
        if (*wait).waker_kind != WAKER_NONE {
            return 0;
        }
        (*wait).waker_tid = current_ids().1;
        (*wait).waker_kind = if in_interrupt() {
            WAKER_INTERRUPT
        } else {
            WAKER_TASK
        };
        bpf_get_current_comm((&raw mut (*wait).waker_comm).cast(), 16);
    }
    0
}

/// The bits of the preemption count that say that an interrupt or an NMI is served, and the one for
/// a softirq; more of the softirqs' bits are set where they are only disabled
/// (`include/linux/preempt.h`, 6.18).
const IN_INTERRUPT: u64 = 0x00ff_0000 | 0x0000_0100;

/// Whether an interrupt or a softirq is served, on whatever stack.
#[inline(always)]
fn in_interrupt() -> bool {
    let cpu = unsafe { bpf_get_smp_processor_id() };
    stacks_of(cpu)
        .is_some_and(|stacks| read_word(unsafe { (*stacks).preempt_count }) & IN_INTERRUPT != 0)
}
