//! The perf_event programs: one event, one record.
//!
//! The capture copies, for a kernel-mode event, the bytes from the interrupted stack pointer to
//! the end of the stack that holds it, then from that stack's saved pointer to the end of the
//! next, until a task stack ends the chain. Each kind of stack is taken at most once (a visit
//! mask, as in the kernel's `get_stack_info()`), so a corrupt pointer cannot make it loop.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
        bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::{bpf_get_current_comm, bpf_get_stack, bpf_probe_read_kernel},
    },
    macros::perf_event,
    maps::RingBuf,
    programs::PerfEventContext,
};
use walker_common::{
    StackKind,
    maps::{COUNTERS_OF_COST, COUNTERS_OF_SAMPLES, Counters, CpuStacks, FILTER_NONE, MAX_RANGES},
    wire::{
        CHAIN_BYTES, FLAG_NO_CPU_TABLE, FLAG_USER_MODE, MAX_DATA_BYTES, MAX_SEGMENT_BYTES,
        MAX_SEGMENTS, SEGMENT_CUT_BY_BUDGET, SampleHeader, SegmentStatus, WIRE_VERSION,
    },
};

use crate::{
    config::{
        FILTER, IDLE_BEGIN, IDLE_END, KEEP_IDLE, NO_KERNEL, OFF_TASK_STACK, THREAD_SIZE, WAKE_AT,
    },
    kernel::{opaque, read_word},
    maps::{COST, COUNTERS, DATA_BYTES, Record, SAMPLES, SCRATCH, STACKS},
    target::is_target,
    user::{ABSENT, copy_user},
};

const HEADER_BYTES: usize = size_of::<SampleHeader>();

/// Takes a sample with the raw bytes of every kernel stack in play.
#[perf_event]
pub(crate) fn capture(ctx: PerfEventContext) -> u32 {
    if let Some((record, counters)) = begin(&ctx, COUNTERS_OF_SAMPLES) {
        let used = if NO_KERNEL.load() == 0 {
            copy_stacks(record, 0)
        } else {
            0
        };
        let used = copy_user(record, used);
        finish(&SAMPLES, record, counters, used);
    }
    0
}

/// Takes the same sample without its user stack, and asks the kernel's own unwinder at the same
/// event.
#[perf_event]
pub(crate) fn oracle(ctx: PerfEventContext) -> u32 {
    if let Some((record, counters)) = begin(&ctx, COUNTERS_OF_SAMPLES) {
        kernel_chain(&ctx, record);
        let used = copy_stacks(record, CHAIN_BYTES);
        finish(&SAMPLES, record, counters, used);
    }
    0
}

/// For the cost comparison: `capture` with its own ring buffer.
#[perf_event]
pub(crate) fn capture_cost(ctx: PerfEventContext) -> u32 {
    if let Some((record, counters)) = begin(&ctx, COUNTERS_OF_COST) {
        let used = copy_stacks(record, 0);
        finish(&COST, record, counters, used);
    }
    0
}

/// For the cost comparison: `capture_cost` with the kernel's unwinder in place of the copy.
#[perf_event]
pub(crate) fn kernel_unwind(ctx: PerfEventContext) -> u32 {
    if let Some((record, counters)) = begin(&ctx, COUNTERS_OF_COST) {
        kernel_chain(&ctx, record);
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

/// Counts and filters the event and fills the header. `None`: no record is to be made.
#[inline(always)]
fn begin(ctx: &PerfEventContext, counters: u32) -> Option<(*mut Record, *mut Counters)> {
    let counters = COUNTERS.get_ptr_mut(counters)?;
    unsafe { (*counters).taken += 1 };

    let regs = unsafe { &raw const (*ctx.ctx).regs };
    let ip = unsafe { (&raw const (*regs).rip).read_volatile() };
    let ids = bpf_get_current_pid_tgid();
    let (pid, tid) = ((ids >> 32) as u32, ids as u32);
    if FILTER.load() != FILTER_NONE && !is_target(pid, tid) {
        unsafe { (*counters).filtered_target += 1 };
        return None;
    }
    if tid == 0 && KEEP_IDLE.load() == 0 && is_idle(ip) {
        unsafe { (*counters).filtered_idle += 1 };
        return None;
    }
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(record) = SCRATCH.get_ptr_mut(cpu) else {
        unsafe { (*counters).lost_no_scratch += 1 };
        return None;
    };

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
        bpf_get_current_comm((&raw mut (*header).comm).cast(), 16);

        // One volatile load a register: the verifier allows only constant offsets into the
        // context, which a loop or a block copy would hide from it.
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
            cs = cs,
            flags = eflags,
            sp = rsp,
            ss = ss,
        );
        (*saved).ip = ip;
        if (*saved).cs & 3 != 0 {
            (*header).flags |= FLAG_USER_MODE;
        }
    }
    Some((record, counters))
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

/// Asks `bpf_get_stack` for the kernel stack, into the first [`CHAIN_BYTES`] of the data.
#[inline(always)]
fn kernel_chain(ctx: &PerfEventContext, record: *mut Record) {
    unsafe {
        (*record).header.chain_bytes = bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut (*record).data).cast(),
            CHAIN_BYTES as u32,
            0,
        ) as i32;
    }
}

/// Where a stack ends, what it is, and where it keeps the pointer to the interrupted stack.
struct Found {
    kind: u32,
    end: u64,
    next_sp_below_end: u32,
}

/// The stack that `sp` is on.
#[inline(always)]
fn find_stack(sp: u64, task_stack: u64, stacks: Option<*const CpuStacks>) -> Option<Found> {
    let task_end = task_stack.wrapping_add(THREAD_SIZE.load());
    if task_stack != 0 && sp >= task_stack && sp < task_end {
        return Some(Found {
            kind: StackKind::Task as u32,
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
                end: range.end,
                next_sp_below_end: range.next_sp_below_end,
            });
        }
    }
    None
}

/// Copies every stack in play behind `used` bytes of data; returns the new length of the data.
#[inline(always)]
fn copy_stacks(record: *mut Record, used: usize) -> usize {
    let mut used = used;
    let header = unsafe { &raw mut (*record).header };
    unsafe { (*header).data_offset = (HEADER_BYTES + used) as u32 };
    if unsafe { (*header).flags } & FLAG_USER_MODE != 0 {
        return used;
    }
    let stacks = STACKS
        .get_ptr(unsafe { (*header).cpu })
        .filter(|stacks| unsafe { (**stacks).count } != 0);
    if stacks.is_none() {
        unsafe { (*header).flags |= FLAG_NO_CPU_TABLE };
    }
    let task_stack = unsafe { (*header).task_stack };
    let mut sp = unsafe { (*header).regs.sp };
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

/// Puts the record into the ring buffer and counts what became of it.
#[inline(always)]
fn finish(ring: &RingBuf, record: *mut Record, counters: *mut Counters, used: usize) {
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
    let wake = if cut || ring.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKE_AT.load() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    let bytes = unsafe { core::slice::from_raw_parts(record.cast::<u8>().cast_const(), size) };
    let result = ring.output::<[u8]>(bytes, u64::from(wake));
    unsafe {
        if result.is_ok() {
            (*counters).delivered += 1;
        } else {
            (*counters).lost_ring_full += 1;
        }
    }
}
