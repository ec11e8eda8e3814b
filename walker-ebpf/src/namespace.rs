//! The numbers of tasks, as the recorder's PID namespace counts them.
//!
//! In the initial namespace they are what the helper says, and nothing here costs anything. In
//! another they are read from the task's `struct pid`, which has a number for each namespace from
//! the initial one down to the task's own. It does not decide what becomes of tasks without one.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task};

use crate::{
    config::{
        IN_NAMESPACE, OFF_PID_LEVEL, OFF_PID_NUMBERS, OFF_TASK_GROUP_LEADER, OFF_TASK_PID,
        OFF_TASK_TGID, OFF_TASK_THREAD_PID,
    },
    kernel::read_word,
    maps::NAMESPACE,
    target::read_id,
};

/// Bytes of a `struct upid`: the number, and the namespace at `UPID_NS`, which user space checks.
const UPID_BYTES: u64 = 16;
const UPID_NS: u64 = 8;

/// Process and thread ID of the current task; zeros for the idle task, and in a namespace for tasks
/// outside of it.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    if IN_NAMESPACE.load() == 0 {
        let ids = bpf_get_current_pid_tgid();
        return ((ids >> 32) as u32, ids as u32);
    }
    ids_of(unsafe { bpf_get_current_task() })
}

/// The same of any task; zeros where they cannot be read, too.
#[inline(always)]
pub(crate) fn ids_of(task: u64) -> (u32, u32) {
    if IN_NAMESPACE.load() == 0 {
        return (
            read_id(task.wrapping_add(OFF_TASK_TGID.load())),
            read_id(task.wrapping_add(OFF_TASK_PID.load())),
        );
    }
    let leader = read_word(task.wrapping_add(OFF_TASK_GROUP_LEADER.load()));
    (number_in_namespace(leader), number_in_namespace(task))
}

/// The thread ID of any task.
#[inline(always)]
pub(crate) fn tid_of(task: u64) -> u32 {
    if IN_NAMESPACE.load() == 0 {
        return read_id(task.wrapping_add(OFF_TASK_PID.load()));
    }
    number_in_namespace(task)
}

#[inline(never)]
fn number_in_namespace(task: u64) -> u32 {
    let (Some(namespace), Some(level)) = (NAMESPACE.get(0), NAMESPACE.get(1)) else {
        return 0;
    };
    let pid = read_word(task.wrapping_add(OFF_TASK_THREAD_PID.load()));
    if pid == 0 || u64::from(read_id(pid.wrapping_add(OFF_PID_LEVEL.load()))) < *level {
        return 0;
    }
    let number = upid(pid, *level);
    if read_word(number.wrapping_add(UPID_NS)) != *namespace {
        return 0;
    }
    read_id(number)
}

#[inline(always)]
fn upid(pid: u64, level: u64) -> u64 {
    pid.wrapping_add(OFF_PID_NUMBERS.load())
        .wrapping_add(level.wrapping_mul(UPID_BYTES))
}

/// The namespace of the current task, and its level.
#[inline(always)]
pub(crate) fn own_namespace() -> (u64, u64) {
    let task = unsafe { bpf_get_current_task() };
    let pid = read_word(task.wrapping_add(OFF_TASK_THREAD_PID.load()));
    let level = u64::from(read_id(pid.wrapping_add(OFF_PID_LEVEL.load())));
    (read_word(upid(pid, level).wrapping_add(UPID_NS)), level)
}
