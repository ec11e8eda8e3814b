//! The user side of a sample: where its registers are, and the bytes of its stack.
//!
//! How much is copied is the process's budget, which user space keeps in a map by how far its
//! walks read. What lies past the stack's end is not copied where that end is known: the kernel
//! keeps that of a main thread, and C libraries put a thread's control block, which the FS base
//! points to, right above the stack they made for it.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_get_current_task,
        generated::{
            bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user, bpf_task_pt_regs,
        },
    },
};
use walker_common::{
    StackKind,
    wire::{
        CHAIN_BYTES, FLAG_USER_MODE, MAX_DATA_BYTES, MAX_USER_BYTES, REGISTER_BYTES, Registers,
        SEGMENT_CUT_BY_BUDGET, SEGMENT_CUT_BY_FAULT, SegmentHeader, SegmentStatus, USER_CS,
        USER32_CS,
    },
};

use crate::{
    config::{
        NO_KERNEL, OFF_MM_START_STACK, OFF_TASK_FSBASE, OFF_TASK_MM, USER_BUDGET, USER_BUDGET_MAX,
    },
    kernel::{opaque, read_word},
    maps::{BUDGETS, NAME_BUDGETS, Record},
};

/// Bytes below the stack pointer that functions may use (the psABI's red zone). Saved registers can
/// be there: of a function that calls nothing, or of one that is about to return.
const RED_ZONE: u64 = 128;
const PAGE: u64 = 4096;
/// Pages that the largest budget can touch.
const MAX_PAGES: usize = MAX_USER_BYTES / PAGE as usize + 1;

/// A segment that is not there.
pub(crate) const ABSENT: SegmentHeader = SegmentHeader {
    address: 0,
    length: 0,
    kind: StackKind::Unknown as u8,
    status: SegmentStatus::Absent as u8,
    flags: 0,
};

/// Copies the user side behind `used` bytes of data; returns the new length of the data.
#[inline(always)]
pub(crate) fn copy_user(record: *mut Record, used: usize) -> usize {
    let used = opaque(used as u64) as usize;
    if USER_BUDGET.load() == 0 || used > CHAIN_BYTES + MAX_DATA_BYTES {
        return used;
    }
    let header = unsafe { &raw mut (*record).header };
    let mut used = used;
    let (sp, cs) = if unsafe { (*header).flags } & FLAG_USER_MODE != 0 {
        unsafe { ((*header).regs.sp, (*header).regs.cs) }
    } else {
        let address = pt_regs();
        let cs = read_word(address.wrapping_add(core::mem::offset_of!(Registers, cs) as u64));
        let sp = read_word(address.wrapping_add(core::mem::offset_of!(Registers, sp) as u64));
        // A kernel thread has no such registers, and an I/O worker none that mean anything.
        if cs & 3 == 0 || sp == 0 {
            return used;
        }
        unsafe {
            (*header).user_regs.address = address;
            (*header).user_regs.length = REGISTER_BYTES as u32;
            (*header).user_regs.kind = StackKind::Task as u8;
        }
        if !has_task_stack(record) {
            let result = unsafe {
                let to = (&raw mut (*record).data).cast::<u8>().add(used);
                bpf_probe_read_kernel(to.cast(), REGISTER_BYTES as u32, address as *const _)
            };
            if result < 0 {
                unsafe { (*header).user_regs.status = SegmentStatus::Unreadable as u8 };
                return used;
            }
            unsafe { (*header).user_regs.status = SegmentStatus::Captured as u8 };
            used += REGISTER_BYTES;
        }
        (sp, cs)
    };
    // Code in other segments has addresses of its own.
    if cs & 0xffff != USER_CS && cs & 0xffff != USER32_CS {
        return used;
    }
    let mut from = sp.wrapping_sub(RED_ZONE);
    let (end, mut flags) = end_of_copy(record, from);
    let mut copied = copy_stack(record, used, from, end.wrapping_sub(from));
    if copied == 0 {
        // Nothing has been down there yet.
        from = sp;
        copied = copy_stack(record, used, from, end.wrapping_sub(from));
    }
    if copied < end.wrapping_sub(from) {
        flags = SEGMENT_CUT_BY_FAULT;
    }
    let status = if copied == 0 {
        SegmentStatus::Unreadable
    } else {
        SegmentStatus::Captured
    };
    unsafe {
        (*header).user_stack.address = from;
        (*header).user_stack.length = copied as u32;
        (*header).user_stack.kind = StackKind::User as u8;
        (*header).user_stack.status = status as u8;
        (*header).user_stack.flags = flags;
    }
    used + ((copied as usize + 7) & !7)
}

/// Where the current task saved the registers of user space (`task_pt_regs()`).
#[inline(always)]
fn pt_regs() -> u64 {
    unsafe {
        let task: *mut task_struct = bpf_get_current_task_btf();
        bpf_task_pt_regs(task) as u64
    }
}

/// Whether the record holds the current task's kernel stack, at whose top those registers are. It
/// ends the chain of stacks, so it can only be the last.
#[inline(always)]
fn has_task_stack(record: *mut Record) -> bool {
    if NO_KERNEL.load() != 0 {
        return false;
    }
    let header = unsafe { &raw const (*record).header };
    let mut found = false;
    let segments = unsafe { &raw const (*header).segments };
    let count = unsafe { (*header).segment_count };
    for index in 0..walker_common::wire::MAX_SEGMENTS {
        if index as u32 >= count {
            break;
        }
        let segment = unsafe { &raw const (*segments)[index] };
        let (kind, status) = unsafe { ((*segment).kind, (*segment).status) };
        found |= kind == StackKind::Task as u8 && status == SegmentStatus::Captured as u8;
    }
    found
}

/// Where a copy that begins at `from` ends, and whether the budget is the reason that it ends there.
#[inline(always)]
fn end_of_copy(record: *mut Record, from: u64) -> (u64, u16) {
    let header = unsafe { &raw const (*record).header };
    let pid = unsafe { (*header).pid };
    let comm = unsafe { &(*header).comm };
    let budget = match unsafe { BUDGETS.get(pid) } {
        Some(budget) => u64::from(*budget),
        None => match unsafe { NAME_BUDGETS.get(comm) } {
            Some(budget) => u64::from(*budget),
            None => USER_BUDGET.load(),
        },
    };
    let most = USER_BUDGET_MAX.load();
    let budget = if budget > most { most } else { budget };
    let mut end = from.wrapping_add(budget);
    let mut flags = SEGMENT_CUT_BY_BUDGET;
    let task = unsafe { bpf_get_current_task() };
    let mm = read_word(task.wrapping_add(OFF_TASK_MM.load()));
    let start_stack = read_word(mm.wrapping_add(OFF_MM_START_STACK.load()));
    if start_stack > from && start_stack <= end {
        end = start_stack;
        flags = 0;
    }
    let thread_control_block = read_word(task.wrapping_add(OFF_TASK_FSBASE.load()));
    if thread_control_block > from && thread_control_block <= end {
        end = thread_control_block;
        flags = 0;
    }
    (end, flags)
}

/// Copies up to `wanted` bytes from `from` on; returns how many could be read.
#[inline(always)]
fn copy_stack(record: *mut Record, used: usize, from: u64, wanted: u64) -> u64 {
    let to = unsafe { (&raw mut (*record).data).cast::<u8>().add(used) };
    if read_user(to, from, wanted) {
        return wanted;
    }
    // A read fails as a whole. Stacks end at the end of a page, so the bytes up to the first page
    // that cannot be read are asked for again.
    let readable = readable_from(from, wanted);
    if read_user(to, from, readable) {
        readable
    } else {
        0
    }
}

/// Reads a piece of a user stack into the record.
#[inline(always)]
fn read_user(to: *mut u8, from: u64, length: u64) -> bool {
    let length = opaque(length);
    if length == 0 || length > MAX_USER_BYTES as u64 {
        return false;
    }
    unsafe { bpf_probe_read_user(to.cast(), length as u32, from as *const _) == 0 }
}

/// How many of `wanted` bytes from `from` on are before the first page that cannot be read.
#[inline(always)]
fn readable_from(from: u64, wanted: u64) -> u64 {
    let mut page = from & !(PAGE - 1);
    let mut readable = 0;
    for _ in 0..MAX_PAGES {
        let mut byte = 0u8;
        let at = if page < from { from } else { page };
        if unsafe { bpf_probe_read_user((&raw mut byte).cast(), 1, at as *const _) } < 0 {
            break;
        }
        page = page.wrapping_add(PAGE);
        readable = page.wrapping_sub(from);
        if readable >= wanted {
            return wanted;
        }
    }
    readable
}
