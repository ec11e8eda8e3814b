//! Values of the BPF maps, and the names of maps, programs and globals.
//!
//! User space fills [`CpuStacks`], [`EventConfig`] and the globals before a program runs and reads
//! [`Counters`] while it runs.

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
    /// Address of the CPU's preemption count, in which interrupts are counted, too; 0 if it is not
    /// known.
    pub preempt_count: u64,
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
    /// Events on a CPU number past the maps' size, or while all its buffers were in use.
    pub lost_no_scratch: u64,
    /// Events that came faster than [`names::GLOBAL_WINDOW_LIMIT`] allows.
    pub lost_throttled: u64,
    /// Events between two that were to be taken.
    pub filtered_period: u64,
    /// New processes or threads of a target that could not be followed because the target map
    /// was full. Not samples, so not part of the sum.
    pub targets_missed: u64,
}

#[cfg(feature = "user")]
impl core::iter::Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Self::default(), |all, one| Self {
            taken: all.taken + one.taken,
            delivered: all.delivered + one.delivered,
            filtered_target: all.filtered_target + one.filtered_target,
            filtered_idle: all.filtered_idle + one.filtered_idle,
            lost_ring_full: all.lost_ring_full + one.lost_ring_full,
            lost_no_scratch: all.lost_no_scratch + one.lost_no_scratch,
            lost_throttled: all.lost_throttled + one.lost_throttled,
            filtered_period: all.filtered_period + one.filtered_period,
            targets_missed: all.targets_missed + one.targets_missed,
        })
    }
}

/// Most events of one recording. The counters of an event have its index.
pub const MAX_EVENTS: u32 = 16;
/// Index of the cost measurement's [`Counters`].
pub const COUNTERS_OF_COST: u32 = MAX_EVENTS;

/// How an event is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct EventConfig {
    /// Every how many events one is a sample; 1 where the kernel counts.
    pub period: u64,
    /// A [`Start`](crate::wire::Start), by number, for a perf event.
    pub start: u64,
}

/// The programs that are there several times, as one cannot tell what it was called for: raw
/// tracepoints, beginnings and ends of functions. In the map of slots they stand in this order.
pub const TRACE_SLOTS: u32 = 8;
/// See [`TRACE_SLOTS`].
pub const ENTRY_SLOTS: u32 = 4;
/// See [`TRACE_SLOTS`].
pub const EXIT_SLOTS: u32 = 4;
/// All of them.
pub const SLOT_COUNT: u32 = TRACE_SLOTS + ENTRY_SLOTS + EXIT_SLOTS;

/// What a CPU remembers of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct EventState {
    /// Events since the last sample.
    pub count: u64,
    /// Number of the present window.
    pub window: u64,
    /// Samples in it.
    pub in_window: u64,
}

/// Length of the windows in which samples of an event are limited, as a power of two in
/// nanoseconds: about 8 ms.
pub const WINDOW_SHIFT: u32 = 23;

/// How many buffers a CPU has for records under construction where programs can nest: one in a task,
/// one in an interrupt of it, and one in an NMI or an exception of that.
pub const LEVELS: u32 = 3;

/// Upper half of a sample's `subject` where that is an interrupt: a device's, by its number.
pub const IRQ_HARD: u32 = 0;
/// Likewise: a softirq, by its index.
pub const IRQ_SOFT: u32 = 1;
/// Likewise: one that CPUs send themselves or each other, by its vector.
pub const IRQ_VECTOR: u32 = 2;
/// How many there are.
pub const IRQ_KINDS: usize = 3;

/// A task that waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, KnownLayout, Immutable))]
#[repr(C)]
pub struct Wait {
    /// Since when.
    pub since_ns: u64,
    /// As [`WaitEnd`](crate::wire::WaitEnd)'s.
    pub waker_tid: u32,
    /// Likewise.
    pub waker_kind: u32,
    /// Likewise.
    pub waker_comm: [u8; 16],
    /// The event that its sample is of.
    pub event: u32,
    /// Nothing.
    pub pad: u32,
}

/// [`names::GLOBAL_SWITCHES`]: waits are followed.
pub const SWITCH_WAITS: u64 = 1;
/// [`names::GLOBAL_SWITCHES`]: so is the waiting of tasks that could run.
pub const SWITCH_PREEMPTED: u64 = 2;

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
    /// perf_event: the same of an event that can come at any rate, and that begins where its
    /// [`EventConfig`](super::EventConfig) says.
    pub const PROG_CAPTURE_EVENT: &str = "capture_event";
    /// kprobe, kretprobe and uprobe: captures a sample.
    pub const PROG_PROBE: &str = "probe";
    /// raw_tp, one for each event: captures a sample where the tracepoint is.
    pub const PROG_TRACE: [&str; super::TRACE_SLOTS as usize] = [
        "trace_0", "trace_1", "trace_2", "trace_3", "trace_4", "trace_5", "trace_6", "trace_7",
    ];
    /// fentry, one for each event: captures a sample at the beginning of a function.
    pub const PROG_ENTRY: [&str; super::ENTRY_SLOTS as usize] =
        ["entry_0", "entry_1", "entry_2", "entry_3"];
    /// fexit, one for each event: captures a sample at the end of a function.
    pub const PROG_EXIT: [&str; super::EXIT_SLOTS as usize] =
        ["exit_0", "exit_1", "exit_2", "exit_3"];
    /// raw_tp `sched_switch`: captures a sample of a task that begins to wait, and tells the end of
    /// the next one's wait.
    pub const PROG_SWITCH: &str = "switch";
    /// raw_tp `sched_waking`: remembers who wakes a task that waits.
    pub const PROG_WAKING: &str = "waking";
    /// raw_tp `irq_handler_entry`.
    pub const PROG_IRQ_ENTRY: &str = "irq_entry";
    /// raw_tp `irq_handler_exit`: captures a sample of what the handler interrupted.
    pub const PROG_IRQ_EXIT: &str = "irq_exit";
    /// raw_tp `softirq_entry`.
    pub const PROG_SOFTIRQ_ENTRY: &str = "softirq_entry";
    /// raw_tp `softirq_exit`: captures a sample likewise.
    pub const PROG_SOFTIRQ_EXIT: &str = "softirq_exit";
    /// raw_tp `*_entry` of the interrupts that CPUs send themselves and each other.
    pub const PROG_VECTOR_ENTRY: &str = "vector_entry";
    /// raw_tp `*_exit` of them: captures a sample likewise.
    pub const PROG_VECTOR_EXIT: &str = "vector_exit";
    /// perf_event: [`PROG_CAPTURE`] into [`MAP_COST`].
    pub const PROG_CAPTURE_COST: &str = "capture_cost";
    /// perf_event: like [`PROG_CAPTURE_COST`] with `bpf_get_stack` in the place of the capture.
    pub const PROG_KERNEL_UNWIND: &str = "kernel_unwind";
    /// raw_tp, by test run: copies kernel memory into [`MAP_READ_BUFFER`].
    pub const PROG_READ_KERNEL: &str = "read_kernel";
    /// raw_tp, by test run on a CPU: fills [`MAP_CPU_FACTS`].
    pub const PROG_CPU_FACTS: &str = "cpu_facts";
    /// Puts the PID namespace of who starts it into its map.
    pub const PROG_FIND_NAMESPACE: &str = "find_namespace";
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
    /// Per-CPU array of [`Counters`](super::Counters), by event, and one for the cost measurement.
    pub const MAP_COUNTERS: &str = "COUNTERS";
    /// Array of [`EventConfig`](super::EventConfig), by event.
    pub const MAP_EVENTS: &str = "EVENTS";
    /// Array of event indices, by slot.
    pub const MAP_SLOTS: &str = "SLOTS";
    /// Array of one word, which is not 0 while events are taken that cannot be disabled.
    pub const MAP_ENABLED: &str = "ENABLED";
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
    /// Array of one number: 0 or a negative errno, which says what came of reading.
    pub const MAP_READ_RESULT: &str = "READ_RESULT";
    /// Array of [`CpuFacts`](super::CpuFacts) by CPU.
    pub const MAP_CPU_FACTS: &str = "CPU_FACTS";

    /// Not 0: the kernel's unwinder is asked at every event.
    pub const GLOBAL_ORACLE: &str = "ORACLE";
    /// `SWITCH_*`: what the program on `sched_switch` does.
    pub const GLOBAL_SWITCHES: &str = "SWITCHES";
    /// Not 0: `sched_switch` tells the state of the task as its fourth argument.
    pub const GLOBAL_SWITCH_HAS_STATE: &str = "SWITCH_HAS_STATE";
    /// Index of the event whose samples are tasks that begin to wait.
    pub const GLOBAL_WAIT_EVENT: &str = "WAIT_EVENT";
    /// Index of the event whose samples are interrupts.
    pub const GLOBAL_IRQ_EVENT: &str = "IRQ_EVENT";
    /// Offset of `irqaction.name`.
    pub const GLOBAL_OFF_IRQACTION_NAME: &str = "OFF_IRQACTION_NAME";
    /// Most samples of an event in one window on each CPU.
    pub const GLOBAL_WINDOW_LIMIT: &str = "WINDOW_LIMIT";
    /// One more than the highest possible CPU number.
    pub const GLOBAL_CPUS: &str = "CPUS";
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
    /// Not 0 in a PID namespace that is not the initial one.
    pub const GLOBAL_IN_NAMESPACE: &str = "IN_NAMESPACE";
    /// Offset of `task_struct.thread_pid`.
    pub const GLOBAL_OFF_TASK_THREAD_PID: &str = "OFF_TASK_THREAD_PID";
    /// Offset of `task_struct.group_leader`.
    pub const GLOBAL_OFF_TASK_GROUP_LEADER: &str = "OFF_TASK_GROUP_LEADER";
    /// Offset of `pid.level`.
    pub const GLOBAL_OFF_PID_LEVEL: &str = "OFF_PID_LEVEL";
    /// Offset of `pid.numbers`.
    pub const GLOBAL_OFF_PID_NUMBERS: &str = "OFF_PID_NUMBERS";
}

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<StackRange>() == 24);
    assert!(size_of::<CpuStacks>() == 16 + 24 * MAX_RANGES);
    assert!(size_of::<CpuFacts>() == 40);
    assert!(size_of::<Counters>() == 72);
    assert!(size_of::<EventConfig>() == 16);
    assert!(size_of::<EventState>() == 24);
    assert!(size_of::<Wait>() == 40);
};
