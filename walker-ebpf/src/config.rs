//! Globals that user space sets before the object is loaded: the running kernel's field offsets
//! and the options of the run. They end up in frozen read-only data, so the verifier sees
//! constants.

use aya_ebpf::Global;
use walker_common::maps::{FILTER_NONE, NO_FIELD};

/// Not 0: the kernel's unwinder is asked at every event.
#[unsafe(no_mangle)]
pub(crate) static ORACLE: Global<u64> = Global::new(0);
/// `SWITCH_*`: what is done at `sched_switch`.
#[unsafe(no_mangle)]
pub(crate) static SWITCHES: Global<u64> = Global::new(0);
/// Not 0: `sched_switch` has the state of the task as its fourth argument.
#[unsafe(no_mangle)]
pub(crate) static SWITCH_HAS_STATE: Global<u64> = Global::new(0);
/// Index of the event whose samples are tasks that begin to wait.
#[unsafe(no_mangle)]
pub(crate) static WAIT_EVENT: Global<u64> = Global::new(0);
/// Index of the event whose samples are interrupts.
#[unsafe(no_mangle)]
pub(crate) static IRQ_EVENT: Global<u64> = Global::new(0);
/// Offset of `irqaction.name`.
#[unsafe(no_mangle)]
pub(crate) static OFF_IRQACTION_NAME: Global<u64> = Global::new(NO_FIELD);
/// Most samples of an event in one window on each CPU.
#[unsafe(no_mangle)]
pub(crate) static WINDOW_LIMIT: Global<u64> = Global::new(u64::MAX);
/// One more than the highest possible CPU number.
#[unsafe(no_mangle)]
pub(crate) static CPUS: Global<u64> = Global::new(1);
/// `FILTER_*`: whether the target maps are asked.
#[unsafe(no_mangle)]
pub(crate) static FILTER: Global<u64> = Global::new(FILTER_NONE);
/// Offset of `task_struct.stack`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_STACK: Global<u64> = Global::new(NO_FIELD);
/// Offset of `task_struct.pid`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_PID: Global<u64> = Global::new(NO_FIELD);
/// Offset of `task_struct.tgid`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_TGID: Global<u64> = Global::new(NO_FIELD);
/// Offset of `task_struct.se.cfs_rq`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_CFS_RQ: Global<u64> = Global::new(NO_FIELD);
/// Offset of `cfs_rq.rq`.
#[unsafe(no_mangle)]
pub(crate) static OFF_CFS_RQ_RQ: Global<u64> = Global::new(NO_FIELD);
/// Bytes of a task's kernel stack.
#[unsafe(no_mangle)]
pub(crate) static THREAD_SIZE: Global<u64> = Global::new(0);
/// Offset of `task_struct.mm`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_MM: Global<u64> = Global::new(NO_FIELD);
/// Offset of `task_struct.thread.fsbase`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_FSBASE: Global<u64> = Global::new(NO_FIELD);
/// Offset of `mm_struct.start_stack`.
#[unsafe(no_mangle)]
pub(crate) static OFF_MM_START_STACK: Global<u64> = Global::new(NO_FIELD);
/// Bytes to copy of a user stack whose process has no budget; 0: none of any process.
#[unsafe(no_mangle)]
pub(crate) static USER_BUDGET: Global<u64> = Global::new(0);
/// The largest budget.
#[unsafe(no_mangle)]
pub(crate) static USER_BUDGET_MAX: Global<u64> = Global::new(0);
/// Not 0: no kernel stacks are wanted.
#[unsafe(no_mangle)]
pub(crate) static NO_KERNEL: Global<u64> = Global::new(0);
/// Not 0: samples of an idle CPU are wanted.
#[unsafe(no_mangle)]
pub(crate) static KEEP_IDLE: Global<u64> = Global::new(0);
/// First address of the idle drivers' text.
#[unsafe(no_mangle)]
pub(crate) static IDLE_BEGIN: Global<u64> = Global::new(0);
/// First address past it.
#[unsafe(no_mangle)]
pub(crate) static IDLE_END: Global<u64> = Global::new(0);
/// Waiting bytes at which the reader of the ring buffer is woken.
#[unsafe(no_mangle)]
pub(crate) static WAKE_AT: Global<u64> = Global::new(0);
/// Not 0: tasks have the numbers of a PID namespace that is not the initial one.
#[unsafe(no_mangle)]
pub(crate) static IN_NAMESPACE: Global<u64> = Global::new(0);
/// Offset of `task_struct.thread_pid`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_THREAD_PID: Global<u64> = Global::new(NO_FIELD);
/// Offset of `task_struct.group_leader`.
#[unsafe(no_mangle)]
pub(crate) static OFF_TASK_GROUP_LEADER: Global<u64> = Global::new(NO_FIELD);
/// Offset of `pid.level`.
#[unsafe(no_mangle)]
pub(crate) static OFF_PID_LEVEL: Global<u64> = Global::new(NO_FIELD);
/// Offset of `pid.numbers`.
#[unsafe(no_mangle)]
pub(crate) static OFF_PID_NUMBERS: Global<u64> = Global::new(NO_FIELD);
