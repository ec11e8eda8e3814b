//! Which tasks are sampled: the check made at every event, and the programs that keep the target
//! maps true while processes fork, exec and go.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use walker_common::maps::{TARGET_AT_EXEC, TARGET_PROCESS, TARGET_THREADS};

use crate::{
    config::IN_NAMESPACE,
    maps::{COUNTERS, TARGETS, THREADS},
    namespace::{current_ids, ids_of},
    sample::increment,
};

/// Writes a log line when the object is built with the feature `log`.
macro_rules! log {
    ($($argument:tt)*) => {
        #[cfg(feature = "log")]
        aya_log_ebpf::info!($($argument)*);
    };
}

/// Whether the current thread is a target.
#[inline(always)]
pub(crate) fn is_target(pid: u32, tid: u32) -> bool {
    match unsafe { TARGETS.get(pid) } {
        Some(&TARGET_PROCESS) => true,
        Some(&TARGET_THREADS) => unsafe { THREADS.get(tid) }.is_some(),
        _ => false,
    }
}

#[inline(always)]
pub(crate) fn read_id(address: u64) -> u32 {
    let mut id = 0u32;
    let result = unsafe {
        bpf_probe_read_kernel((&raw mut id).cast(), 4, address as *const core::ffi::c_void)
    };
    if result < 0 { 0 } else { id }
}

#[inline(always)]
fn count_missed(result: Result<(), i32>) {
    if result.is_err()
        && let Some(counters) = COUNTERS.get_ptr_mut(0)
    {
        increment(unsafe { &raw mut (*counters).targets_missed });
    }
}

/// `sched_process_fork(parent, child)`, in the parent's context: a target's children are targets.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn follow_fork(ctx: RawTracePointContext) -> i32 {
    let (pid, tid) = current_ids();
    let (child_pid, child_tid) = ids_of(ctx.arg(1));
    match unsafe { TARGETS.get(pid) } {
        Some(&TARGET_PROCESS) if child_pid != pid => {
            log!(&ctx, "process {} forked {}", pid, child_pid);
            count_missed(TARGETS.insert(child_pid, TARGET_PROCESS, 0));
        }
        Some(&TARGET_THREADS) if unsafe { THREADS.get(tid) }.is_some() => {
            log!(&ctx, "thread {} made {}/{}", tid, child_pid, child_tid);
            if child_pid == pid {
                count_missed(THREADS.insert(child_tid, 1, 0));
            } else {
                count_missed(TARGETS.insert(child_pid, TARGET_PROCESS, 0));
            }
        }
        _ => {}
    }
    0
}

/// `sched_process_exec(task, old_pid, bprm)`, in the context of the task: a waiting target wakes,
/// and a target thread, which exec makes the only one, takes its process with it.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn follow_exec(ctx: RawTracePointContext) -> i32 {
    let (pid, tid) = current_ids();
    // The old number is one of the initial namespace. Elsewhere a thread that was not the first of
    // its process, which exec makes it, is no longer known as a target.
    let old_tid = match IN_NAMESPACE.load() {
        0 => ctx.arg::<u64>(1) as u32,
        _ => tid,
    };
    let becomes_target = match unsafe { TARGETS.get(pid) } {
        Some(&TARGET_AT_EXEC) => true,
        Some(&TARGET_THREADS) => unsafe { THREADS.get(old_tid) }.is_some(),
        _ => false,
    };
    if becomes_target {
        log!(&ctx, "process {} is a target from its exec on", pid);
        count_missed(TARGETS.insert(pid, TARGET_PROCESS, 0));
    }
    0
}

/// `sched_process_free(task)`: the ID may be given to another task from here on. It comes a grace
/// period after the exit, long before the kernel's cyclic allocator hands the number out again.
#[raw_tracepoint(tracepoint = "sched_process_free")]
pub(crate) fn forget_task(ctx: RawTracePointContext) -> i32 {
    let (pid, tid) = ids_of(ctx.arg(0));
    if pid == tid && TARGETS.remove(pid).is_ok() {
        log!(&ctx, "process {} is gone", pid);
    }
    // A task that was no target is in neither map, and removing it then fails: that is the usual
    // case and nothing to report.
    let _was_listed = THREADS.remove(tid);
    0
}
