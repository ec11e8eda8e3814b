//! Values of the BPF maps, and the names of maps, programs and globals.
//!
//! User space fills [`CpuStacks`] and the globals before a program runs and reads [`Counters`]
//! while it runs.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most ranges a CPU's stack table can hold: IRQ, entry and six exception stacks.
pub const MAX_RANGES: usize = 8;

/// Bytes the kernel-memory reader program hands over in one run.
pub const READ_CHUNK: usize = 64 * 1024;

/// One per-CPU stack, `begin <= address < end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct StackRange {
    /// Lowest address.
    pub begin: u64,
    /// First address past the stack.
    pub end: u64,
    /// The pointer to the interrupted stack is the word this many bytes below `end`;
    /// 0 if this kind of stack keeps none.
    pub next_sp_below_end: u32,
    /// A [`StackKind`](crate::StackKind), by number.
    pub kind: u32,
}

/// The per-CPU stacks of one CPU. A task's own stack is not in it: it moves with the task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct CpuStacks {
    /// Entries of `ranges` in use; 0 means that this CPU has no table.
    pub count: u64,
    /// The ranges; their order is the order of the search.
    pub ranges: [StackRange; MAX_RANGES],
}

/// What one CPU says of itself, from inside the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct CpuFacts {
    /// 1 once the program ran on this CPU.
    pub valid: u64,
    /// The running task (`task_struct`).
    pub task: u64,
    /// Lowest address of its kernel stack.
    pub task_stack: u64,
    /// Its `se.cfs_rq` (0 if the kernel has no such member or it could not be read).
    pub cfs_rq: u64,
    /// That queue's `rq` (0 likewise).
    pub rq: u64,
}

/// Per-CPU counters. For each CPU `taken` is the sum of `delivered`, `filtered_*` and `lost_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct Counters {
    /// Events the program was called for.
    pub taken: u64,
    /// Records put into the ring buffer.
    pub delivered: u64,
    /// Events of tasks that are not a target.
    pub filtered_target: u64,
    /// Events that found the CPU idle.
    pub filtered_idle: u64,
    /// Records for which the ring buffer had no room.
    pub lost_ring_full: u64,
    /// Events on a CPU number past the maps' size.
    pub lost_no_scratch: u64,
    /// New processes or threads of a target that could not be followed because the target map
    /// was full. Not samples, so not part of the sum.
    pub targets_missed: u64,
}

/// Index of the sampling programs' [`Counters`].
pub const COUNTERS_OF_SAMPLES: u32 = 0;
/// Index of the cost measurement's [`Counters`].
pub const COUNTERS_OF_COST: u32 = 1;

/// In the target map: every thread of the process is a target.
pub const TARGET_PROCESS: u32 = 1;
/// In the target map: only threads listed in the thread map are targets.
pub const TARGET_THREADS: u32 = 2;
/// In the target map: becomes [`TARGET_PROCESS`] at the process's next `exec`.
pub const TARGET_AT_EXEC: u32 = 3;

/// [`Global`](names::GLOBAL_FILTER): every task is a target.
pub const FILTER_NONE: u64 = 0;
/// [`Global`](names::GLOBAL_FILTER): only tasks in the target maps.
pub const FILTER_TARGETS: u64 = 1;

/// A global that stands for "this kernel has no such field".
pub const NO_FIELD: u64 = u64::MAX;

/// Names of programs, maps and globals in the BPF object.
pub mod names {
    /// perf_event: captures a sample.
    pub const PROG_CAPTURE: &str = "capture";
    /// perf_event: captures a sample and asks the kernel's unwinder at the same event.
    pub const PROG_ORACLE: &str = "oracle";
    /// perf_event: [`PROG_CAPTURE`] into [`MAP_COST`].
    pub const PROG_CAPTURE_COST: &str = "capture_cost";
    /// perf_event: like [`PROG_CAPTURE_COST`] with `bpf_get_stack` in the place of the capture.
    pub const PROG_KERNEL_UNWIND: &str = "kernel_unwind";
    /// raw_tp, by test run: copies kernel memory into [`MAP_READ_BUFFER`].
    pub const PROG_READ_KERNEL: &str = "read_kernel";
    /// raw_tp, by test run on a CPU: fills [`MAP_CPU_FACTS`].
    pub const PROG_CPU_FACTS: &str = "cpu_facts";
    /// raw_tp `sched_process_fork`: children of targets become targets.
    pub const PROG_FORK: &str = "follow_fork";
    /// raw_tp `sched_process_exec`: wakes targets that wait for their exec.
    pub const PROG_EXEC: &str = "follow_exec";
    /// raw_tp `sched_process_free`: forgets targets that are gone.
    pub const PROG_FREE: &str = "forget_task";

    /// Ring buffer of sample records.
    pub const MAP_SAMPLES: &str = "SAMPLES";
    /// Ring buffer of the cost measurement, whose records nobody looks at.
    pub const MAP_COST: &str = "COST";
    /// Array of [`CpuStacks`](super::CpuStacks) by CPU.
    pub const MAP_STACKS: &str = "STACKS";
    /// Array of record buffers by CPU.
    pub const MAP_SCRATCH: &str = "SCRATCH";
    /// Per-CPU array of two [`Counters`](super::Counters).
    pub const MAP_COUNTERS: &str = "COUNTERS";
    /// Hash: PID to `TARGET_*`.
    pub const MAP_TARGETS: &str = "TARGETS";
    /// Hash: TID to 1.
    pub const MAP_THREADS: &str = "THREADS";
    /// LRU hash: PID to the bytes to copy of its user stacks.
    pub const MAP_BUDGETS: &str = "BUDGETS";
    /// LRU hash: thread name to the bytes to copy, for processes that are new.
    pub const MAP_NAME_BUDGETS: &str = "NAME_BUDGETS";
    /// Array of one buffer of [`READ_CHUNK`](super::READ_CHUNK) bytes.
    pub const MAP_READ_BUFFER: &str = "READ_BUFFER";
    /// Array of [`CpuFacts`](super::CpuFacts) by CPU.
    pub const MAP_CPU_FACTS: &str = "CPU_FACTS";

    /// `FILTER_*`.
    pub const GLOBAL_FILTER: &str = "FILTER";
    /// Offset of `task_struct.stack`.
    pub const GLOBAL_OFF_TASK_STACK: &str = "OFF_TASK_STACK";
    /// Offset of `task_struct.pid`.
    pub const GLOBAL_OFF_TASK_PID: &str = "OFF_TASK_PID";
    /// Offset of `task_struct.tgid`.
    pub const GLOBAL_OFF_TASK_TGID: &str = "OFF_TASK_TGID";
    /// Offset of `task_struct.se.cfs_rq`, or [`NO_FIELD`](super::NO_FIELD).
    pub const GLOBAL_OFF_TASK_CFS_RQ: &str = "OFF_TASK_CFS_RQ";
    /// Offset of `cfs_rq.rq`, or [`NO_FIELD`](super::NO_FIELD).
    pub const GLOBAL_OFF_CFS_RQ_RQ: &str = "OFF_CFS_RQ_RQ";
    /// Bytes of a task's kernel stack (`THREAD_SIZE`).
    pub const GLOBAL_THREAD_SIZE: &str = "THREAD_SIZE";
    /// Offset of `task_struct.mm`.
    pub const GLOBAL_OFF_TASK_MM: &str = "OFF_TASK_MM";
    /// Offset of `task_struct.thread.fsbase`.
    pub const GLOBAL_OFF_TASK_FSBASE: &str = "OFF_TASK_FSBASE";
    /// Offset of `mm_struct.start_stack`.
    pub const GLOBAL_OFF_MM_START_STACK: &str = "OFF_MM_START_STACK";
    /// Bytes to copy of the user stack of a process that no budget is known for; 0 if no user
    /// stacks are wanted.
    pub const GLOBAL_USER_BUDGET: &str = "USER_BUDGET";
    /// The largest budget there can be.
    pub const GLOBAL_USER_BUDGET_MAX: &str = "USER_BUDGET_MAX";
    /// Not 0 if no kernel stacks are wanted.
    pub const GLOBAL_NO_KERNEL: &str = "NO_KERNEL";
    /// Not 0 if samples of an idle CPU are wanted.
    pub const GLOBAL_KEEP_IDLE: &str = "KEEP_IDLE";
    /// First address of the idle drivers' text; events of PID 0 in it are filtered.
    pub const GLOBAL_IDLE_BEGIN: &str = "IDLE_BEGIN";
    /// First address past it.
    pub const GLOBAL_IDLE_END: &str = "IDLE_END";
    /// Bytes waiting in the ring buffer at which the reader is woken.
    pub const GLOBAL_WAKE_AT: &str = "WAKE_AT";
}

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<StackRange>() == 24);
    assert!(size_of::<CpuStacks>() == 8 + 24 * MAX_RANGES);
    assert!(size_of::<CpuFacts>() == 40);
    assert!(size_of::<Counters>() == 56);
};
