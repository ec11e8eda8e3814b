//! One event, one record: what the programs of every kind have in common.
//!
//! The capture copies the bytes from the stack pointer to the end of the stack that holds it, then
//! from that stack's saved pointer to the end of the next, until a task stack ends the chain. Each
//! kind of stack is taken at most once (a visit mask, as in the kernel's `get_stack_info()`), so a
//! corrupt pointer cannot make it loop. It begins at the interrupted stack pointer, or, for a
//! program that is called by what it reports (a tracepoint, a watchpoint's handler), a little below
//! the program's context, which that caller keeps on its stack.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, pt_regs},
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_smp_processor_id,
        bpf_ktime_get_ns,
        generated::{bpf_get_current_comm, bpf_get_stack, bpf_probe_read_kernel},
    },
    maps::RingBuf,
};
use walker_common::{
    StackKind,
    maps::{Counters, CpuStacks, FILTER_NONE, LEVELS, MAX_RANGES, WINDOW_SHIFT},
    wire::{
        BELOW_CONTEXT, CHAIN_BYTES, FLAG_NO_CPU_TABLE, FLAG_USER_MODE, MAX_DATA_BYTES,
        MAX_SEGMENT_BYTES, MAX_SEGMENTS, Registers, SEGMENT_CUT_BY_BUDGET, SampleHeader,
        SegmentStatus, Start, WIRE_VERSION,
    },
};

use crate::{
    config::{
        CPUS, FILTER, IN_NAMESPACE, NO_KERNEL, OFF_TASK_STACK, ORACLE, THREAD_SIZE, WAKE_AT,
        WINDOW_LIMIT,
    },
    kernel::{opaque, read_word},
    maps::{
        COUNTERS, DATA_BYTES, ENABLED, EVENT_STATES, EVENTS, LAST_WAKE, Record, SAMPLES, SCRATCH,
        STACKS,
    },
    namespace::current_ids,
    target::is_target,
    user::{ABSENT, copy_user},
};

/// How long a CPU waits before it wakes the reader again, in nanoseconds.
const WAKE_AGAIN_NS: u64 = 1_000_000;

const HEADER_BYTES: usize = size_of::<SampleHeader>();

/// A record that a program has to itself until it is given back.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) record: *mut Record,
    pub(crate) counters: *mut Counters,
}

/// Counts an event and filters it by its task. `None`: it is not to be sampled.
#[inline(always)]
pub(crate) fn count(event: u32) -> Option<*mut Counters> {
    let counters = COUNTERS.get_ptr_mut(event)?;
    increment(unsafe { &raw mut (*counters).taken });
    let filtered = FILTER.load() != FILTER_NONE;
    let outside = IN_NAMESPACE.load() != 0;
    if filtered || outside {
        let (pid, tid) = current_ids();
        if (!outside || pid != 0) && (!filtered || is_target(pid, tid)) {
            return Some(counters);
        }
        increment(unsafe { &raw mut (*counters).filtered_target });
        return None;
    }
    Some(counters)
}

/// Whether events that cannot be disabled are taken.
#[inline(always)]
pub(crate) fn is_enabled() -> bool {
    ENABLED.get(0).is_some_and(|enabled| *enabled != 0)
}

/// Whether it is the turn of an event whose period the kernel does not count, and there were not
/// too many samples lately.
#[inline(always)]
pub(crate) fn is_due(event: u32, counters: *mut Counters) -> bool {
    let (Some(config), Some(state)) = (EVENTS.get(event), EVENT_STATES.get_ptr_mut(event)) else {
        return false;
    };
    unsafe {
        (*state).count += 1;
        if (*state).count < config.period {
            increment(&raw mut (*counters).filtered_period);
            return false;
        }
        (*state).count = 0;
        let window = bpf_ktime_get_ns() >> WINDOW_SHIFT;
        if (*state).window != window {
            (*state).window = window;
            (*state).in_window = 0;
        }
        if (*state).in_window >= WINDOW_LIMIT.load() {
            increment(&raw mut (*counters).lost_throttled);
            return false;
        }
        (*state).in_window += 1;
    }
    true
}

/// Takes a free buffer and fills the header, without registers.
#[inline(always)]
pub(crate) fn claim(
    event: u32,
    start: u32,
    context: *mut c_void,
    counters: *mut Counters,
) -> Option<Claim> {
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(record) = free_record(cpu) else {
        increment(unsafe { &raw mut (*counters).lost_no_scratch });
        return None;
    };
    let (pid, tid) = current_ids();
    unsafe {
        let header = &raw mut (*record).header;
        (*header).version = WIRE_VERSION;
        (*header).flags = 0;
        (*header).time_ns = bpf_ktime_get_ns();
        (*header).cgroup_id = bpf_get_current_cgroup_id();
        (*header).pid = pid;
        (*header).tid = tid;
        (*header).cpu = cpu;
        (*header).segment_count = 0;
        (*header).task_stack =
            read_word(bpf_get_current_task().wrapping_add(OFF_TASK_STACK.load()));
        (*header).data_offset = HEADER_BYTES as u32;
        (*header).chain_bytes = 0;
        (*header).user_regs = ABSENT;
        (*header).user_stack = ABSENT;
        (*header).event = event;
        (*header).start = start;
        // As a number; a program may not calculate with its context.
        (&raw mut (*header).context)
            .cast::<*mut c_void>()
            .write_volatile(context);
        (*header).duration_ns = 0;
        (*header).subject = 0;
        (*header).subject_name = [0; 16];
        bpf_get_current_comm((&raw mut (*header).comm).cast(), 16);
    }
    Some(Claim { record, counters })
}

/// Counts, in one instruction: the programs of an event can interrupt each other.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) fn increment(counter: *mut u64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}

/// The same where it is only compiled to be looked at.
#[cfg(not(target_arch = "bpf"))]
pub(crate) fn increment(counter: *mut u64) {
    use core::sync::atomic::{AtomicU64, Ordering};
    unsafe { AtomicU64::from_ptr(counter) }.fetch_add(1, Ordering::Relaxed);
}

/// Sets a flag to 1 in one instruction, as programs of probes can be preempted by others; returns
/// what it was.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn set(flag: *mut u64) -> u64 {
    use core::intrinsics::{AtomicOrdering, atomic_xchg};
    unsafe { atomic_xchg::<u64, { AtomicOrdering::Relaxed }>(flag, 1) }
}

/// The same where it is only compiled to be looked at.
#[cfg(not(target_arch = "bpf"))]
fn set(flag: *mut u64) -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    unsafe { AtomicU64::from_ptr(flag) }.swap(1, Ordering::Relaxed)
}

/// The first buffer of this CPU that no program builds a record in.
#[inline(always)]
fn free_record(cpu: u32) -> Option<*mut Record> {
    for level in 0..LEVELS {
        let record = SCRATCH.get_ptr_mut(cpu + level * CPUS.load() as u32)?;
        if set(unsafe { &raw mut (*record).busy }) == 0 {
            return Some(record);
        }
    }
    None
}

/// Copies the registers that the event interrupted, which begin the context of programs of perf
/// events and of probes.
///
/// One volatile load a register: the verifier allows only constant offsets into the context, which
/// a loop or a block copy would hide from it.
#[inline(always)]
pub(crate) fn save_registers(regs: *const pt_regs, record: *mut Record) {
    unsafe {
        let header = &raw mut (*record).header;
        let saved = &raw mut (*header).regs;
        macro_rules! save {
            ($($to:ident = $from:ident),* $(,)?) => {
                $((*saved).$to = (&raw const (*regs).$from).read_volatile();)*
            };
        }
        save!(
            r15 = r15,
            r14 = r14,
            r13 = r13,
            r12 = r12,
            bp = rbp,
            bx = rbx,
            r11 = r11,
            r10 = r10,
            r9 = r9,
            r8 = r8,
            ax = rax,
            cx = rcx,
            dx = rdx,
            si = rsi,
            di = rdi,
            orig_ax = orig_rax,
            ip = rip,
            cs = cs,
            flags = eflags,
            sp = rsp,
            ss = ss,
        );
        // A handler that runs on the stack of what it interrupted in user mode still has a stack.
        if (*saved).cs & 3 != 0 && (*header).start == Start::Registers as u32 {
            (*header).flags |= FLAG_USER_MODE;
        }
    }
}

/// Says that there are no registers.
#[inline(always)]
pub(crate) fn no_registers(record: *mut Record) {
    unsafe { (*record).header.regs = NO_REGISTERS };
}

const NO_REGISTERS: Registers = Registers {
    r15: 0,
    r14: 0,
    r13: 0,
    r12: 0,
    bp: 0,
    bx: 0,
    r11: 0,
    r10: 0,
    r9: 0,
    r8: 0,
    ax: 0,
    cx: 0,
    dx: 0,
    si: 0,
    di: 0,
    orig_ax: 0,
    ip: 0,
    cs: 0,
    flags: 0,
    sp: 0,
    ss: 0,
};

/// Copies the stacks and hands the record over; returns whether it will arrive.
///
/// It is the larger part of every program, and is one function for all of them.
#[inline(never)]
pub(crate) fn take(context: *mut c_void, record: *mut Record, counters: *mut Counters) -> bool {
    let mut used = 0;
    if ORACLE.load() != 0 {
        kernel_chain(context, record);
        used = CHAIN_BYTES;
    }
    if NO_KERNEL.load() == 0 {
        used = copy_stacks(record, used);
    }
    let used = copy_user(record, used);
    finish(&SAMPLES, record, counters, used)
}

/// Takes a sample in a program that is called by what it reports.
#[inline(always)]
pub(crate) fn take_here(event: u32, start: u32, context: *mut c_void) {
    if !is_enabled() {
        return;
    }
    if let Some(counters) = count(event)
        && is_due(event, counters)
        && let Some(claim) = claim(event, start, context, counters)
    {
        no_registers(claim.record);
        take(context, claim.record, claim.counters);
    }
}

/// Asks `bpf_get_stack` for the kernel stack, into the first [`CHAIN_BYTES`] of the data.
#[inline(always)]
pub(crate) fn kernel_chain(context: *mut c_void, record: *mut Record) {
    unsafe {
        (*record).header.chain_bytes = bpf_get_stack(
            context,
            (&raw mut (*record).data).cast(),
            CHAIN_BYTES as u32,
            0,
        ) as i32;
    }
}

/// Where a stack ends, what it is, and where it keeps the pointer to the interrupted stack.
pub(crate) struct Found {
    pub(crate) kind: u32,
    begin: u64,
    end: u64,
    next_sp_below_end: u32,
}

/// The stack that `sp` is on.
#[inline(always)]
pub(crate) fn find_stack(
    sp: u64,
    task_stack: u64,
    stacks: Option<*const CpuStacks>,
) -> Option<Found> {
    let task_end = task_stack.wrapping_add(THREAD_SIZE.load());
    if task_stack != 0 && sp >= task_stack && sp < task_end {
        return Some(Found {
            kind: StackKind::Task as u32,
            begin: task_stack,
            end: task_end,
            next_sp_below_end: 0,
        });
    }
    let stacks = unsafe { &*stacks? };
    for (index, range) in stacks.ranges.iter().enumerate().take(MAX_RANGES) {
        if index as u64 >= stacks.count {
            break;
        }
        if sp >= range.begin && sp < range.end {
            return Some(Found {
                kind: range.kind,
                begin: range.begin,
                end: range.end,
                next_sp_below_end: range.next_sp_below_end,
            });
        }
    }
    None
}

/// Copies every stack in play behind `used` bytes of data; returns the new length of the data.
#[inline(never)]
pub(crate) fn copy_stacks(record: *mut Record, used: usize) -> usize {
    let mut used = used;
    let header = unsafe { &raw mut (*record).header };
    unsafe { (*header).data_offset = (HEADER_BYTES + used) as u32 };
    if unsafe { (*header).flags } & FLAG_USER_MODE != 0 {
        return used;
    }
    let stacks = stacks_of(unsafe { (*header).cpu });
    if stacks.is_none() {
        unsafe { (*header).flags |= FLAG_NO_CPU_TABLE };
    }
    let task_stack = unsafe { (*header).task_stack };
    let start = unsafe { (*header).start };
    let from_context = start == Start::Caller as u32 || start == Start::Trampoline as u32;
    let mut sp = if from_context {
        unsafe { (&raw const (*header).context).read_volatile() }
    } else {
        unsafe { (*header).regs.sp }
    };
    let mut visited = 0u32;

    for index in 0..MAX_SEGMENTS {
        let segment = unsafe { &raw mut (*header).segments[index] };
        unsafe {
            (*header).segment_count = index as u32 + 1;
            (*segment).address = sp;
            (*segment).length = 0;
            (*segment).kind = StackKind::Unknown as u8;
            (*segment).status = SegmentStatus::UnknownStack as u8;
            (*segment).flags = 0;
        }
        let Some(found) = find_stack(sp, task_stack, stacks) else {
            break;
        };
        if from_context && index == 0 {
            let below = sp.wrapping_sub(BELOW_CONTEXT);
            sp = if below < found.begin {
                found.begin
            } else {
                below
            };
            unsafe { (*segment).address = sp };
        }
        let length = found.end.wrapping_sub(sp);
        unsafe {
            (*segment).length = length as u32;
            (*segment).kind = found.kind as u8;
        }
        let bit = 1u32 << (found.kind & 31);
        if visited & bit != 0 {
            unsafe { (*segment).status = SegmentStatus::Revisited as u8 };
            break;
        }
        visited |= bit;
        let (length, at) = (opaque(length), opaque(used as u64) as usize);
        let status = if length > MAX_SEGMENT_BYTES as u64 || at > MAX_DATA_BYTES - MAX_SEGMENT_BYTES
        {
            SegmentStatus::NoRoom
        } else {
            let result = unsafe {
                let to = (&raw mut (*record).data).cast::<u8>().add(at);
                bpf_probe_read_kernel(to.cast(), length as u32, sp as *const core::ffi::c_void)
            };
            if result < 0 {
                SegmentStatus::Unreadable
            } else {
                used = at + ((length as usize + 7) & !7);
                SegmentStatus::Captured
            }
        };
        unsafe { (*segment).status = status as u8 };
        if found.next_sp_below_end == 0 {
            break;
        }
        sp = read_word(found.end.wrapping_sub(u64::from(found.next_sp_below_end)));
    }
    used
}

/// The stack table of a CPU.
#[inline(always)]
pub(crate) fn stacks_of(cpu: u32) -> Option<*const CpuStacks> {
    STACKS
        .get_ptr(cpu)
        .filter(|stacks| unsafe { (**stacks).count } != 0)
}

/// Whether this CPU has not woken the reader lately. Waking takes an interrupt, which can itself be
/// an event.
#[inline(always)]
fn may_wake(now: u64) -> bool {
    let Some(last) = LAST_WAKE.get_ptr_mut(0) else {
        return false;
    };
    unsafe {
        if now.wrapping_sub(*last) < WAKE_AGAIN_NS {
            return false;
        }
        *last = now;
    }
    true
}

/// Puts the record into the ring buffer, counts what became of it, and gives the buffer back.
/// Returns whether it will arrive.
#[inline(always)]
pub(crate) fn finish(
    ring: &RingBuf,
    record: *mut Record,
    counters: *mut Counters,
    used: usize,
) -> bool {
    let size = opaque((HEADER_BYTES + used) as u64) as usize;
    let size = if size > HEADER_BYTES + DATA_BYTES {
        HEADER_BYTES + DATA_BYTES
    } else {
        size
    };
    unsafe { (*record).header.size = size as u32 };
    // The reader comes by on its own several times a second; it is woken only when it must hurry.
    // It must also when a budget has to grow, or more stacks would be cut.
    let cut = unsafe { (*record).header.user_stack.flags } & SEGMENT_CUT_BY_BUDGET != 0;
    let hurry = cut || ring.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKE_AT.load();
    let wake = if hurry && may_wake(unsafe { (*record).header.time_ns }) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    let bytes = unsafe { core::slice::from_raw_parts(record.cast::<u8>().cast_const(), size) };
    let result = ring.output::<[u8]>(bytes, u64::from(wake));
    unsafe {
        (&raw mut (*record).busy).write_volatile(0);
        if result.is_ok() {
            increment(&raw mut (*counters).delivered);
        } else {
            increment(&raw mut (*counters).lost_ring_full);
        }
    }
    result.is_ok()
}
