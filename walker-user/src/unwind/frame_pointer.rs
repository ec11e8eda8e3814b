//! The walk of a kernel that is built with frame pointers instead of ORC
//! (`CONFIG_UNWINDER_FRAME_POINTER`), of 64 or of 32 bits.
//!
//! Follows `arch/x86/kernel/unwind_frame.c` (6.18): a frame pointer leads to the caller's frame
//! pointer and the return address; one that is marked is the address of a `struct pt_regs`,
//! encoded by the entry code.

use walker_common::{StackKind, wire::Registers};

use super::{Frame, FrameSource, StopReason, cursor::StackCursor, kernel::TextMap};
use crate::classify::WordSize;

/// What the entry code may leave free above the registers of the entry from user mode
/// (`TOP_OF_KERNEL_STACK_PADDING`, `arch/x86/include/asm/thread_info.h`, 6.18), in bytes.
const PADDINGS: [u64; 3] = [0, 8, 16];
/// The most words that GCC puts between the frame of a function that aligns the stack and its real
/// return address, of which it pushes another copy (`GCC_REALIGN_WORDS`).
const MAX_ALIGNING_WORDS: u64 = 3;
/// `X86_VM_MASK`: virtual-8086 mode, which only 32-bit kernels have.
const FLAGS_VM: u64 = 1 << 17;

/// Above all segment selectors of the GDT (`arch/x86/include/asm/segment.h`).
const MAX_SELECTOR: u64 = 0x100;

/// Offsets in `struct pt_regs` (`arch/x86/include/asm/ptrace.h`, 6.18), in bytes.
struct PtRegs {
    bp: u64,
    ip: u64,
    cs: u64,
    flags: u64,
    sp: u64,
    ss: u64,
    bytes: u64,
}

const PT_REGS_64: PtRegs = PtRegs {
    bp: 32,
    ip: 128,
    cs: 136,
    flags: 144,
    sp: 152,
    ss: 160,
    bytes: 168,
};

/// With `ss` and `sp` also where the kernel was interrupted, as the entry code puts them there
/// since 5.4.
const PT_REGS_32: PtRegs = PtRegs {
    bp: 20,
    ip: 48,
    cs: 52,
    flags: 56,
    sp: 60,
    ss: 64,
    bytes: 68,
};

impl PtRegs {
    const fn of(word: WordSize) -> &'static Self {
        match word {
            WordSize::Eight => &PT_REGS_64,
            WordSize::Four => &PT_REGS_32,
        }
    }
}

/// The address of the registers that a frame pointer stands for (`decode_frame_pointer()`): the
/// entry code of 64-bit kernels sets the lowest bit, that of 32-bit kernels clears the highest.
const fn decode(bp: u64, word: WordSize) -> Option<u64> {
    match word {
        WordSize::Eight if bp & 1 != 0 => Some(bp & !1),
        WordSize::Four if bp != 0 && bp & (1 << 31) == 0 => Some(bp | (1 << 31)),
        _ => None,
    }
}

/// Walks from the registers of the event; the event's own frame is already in `frames`.
pub(super) fn walk(
    event: &Registers,
    cursor: &mut StackCursor<'_>,
    text: &TextMap,
    mut budget: usize,
    frames: &mut Vec<Frame>,
) -> StopReason {
    let word = cursor.stacks().word;
    let mut bp = event.bp;
    // What was read last ends here; on the same stack, the next frame must not be below.
    let mut above = event.sp;
    loop {
        // Every frame lies above its callee or on a stack not entered before, so no walk gets to
        // this bound unless stacks overlap.
        if budget == 0 {
            return StopReason::NoProgress { sp: bp };
        }
        budget -= 1;
        let target = decode(bp, word).unwrap_or(bp);
        let on_entry = frames
            .last()
            .is_some_and(|frame| frame.stack == StackKind::Entry);
        if on_entry && cursor.kind_at(target) != StackKind::Entry {
            // Only the code that enters from user mode, and leaves for it, is on this stack, with
            // user mode's own frame pointer, which may be made to point anywhere.
            return StopReason::UserMode;
        }
        let result = match decode(bp, word) {
            Some(regs) => step_regs(cursor, regs, above),
            None => step_call(cursor, bp, above),
        };
        let (frame, next_bp, end) = match result {
            Ok(found) => found,
            Err(stop) => return stop,
        };
        if !text.contains(frame.ip) {
            return StopReason::BadReturnAddress { ip: frame.ip };
        }
        above = end;
        bp = next_bp;
        let outermost = match frame.source {
            FrameSource::FramePointer => end_of_task(cursor, end, frame.ip),
            _ => None,
        };
        frames.push(frame);
        if let Some(stop) = outermost {
            return stop;
        }
    }
}

/// A frame, the frame pointer of its caller, and where what was read ends.
type Found = (Frame, u64, u64);

fn step_call(cursor: &mut StackCursor<'_>, bp: u64, above: u64) -> Result<Found, StopReason> {
    if bp == 0 && cursor.kind() == StackKind::Task {
        return Err(StopReason::EndOfStack);
    }
    let word = cursor.stacks().word.bytes();
    move_up(cursor, bp, 2 * word, above)?;
    let next_bp = cursor.captured_word(bp)?;
    let ip = cursor.captured_word(bp.wrapping_add(word))?;
    let end = bp.wrapping_add(2 * word);
    let frame = Frame {
        ip,
        sp: end,
        stack: cursor.kind(),
        source: FrameSource::FramePointer,
        reliable: true,
    };
    Ok((frame, next_bp, end))
}

fn step_regs(cursor: &mut StackCursor<'_>, regs: u64, above: u64) -> Result<Found, StopReason> {
    let layout = PtRegs::of(cursor.stacks().word);
    move_up(cursor, regs, layout.bytes, above)?;
    if is_user_mode(cursor, regs)? {
        return Err(StopReason::UserMode);
    }
    let ip = cursor.captured_word(regs.wrapping_add(layout.ip))?;
    let cs = cursor.captured_word(regs.wrapping_add(layout.cs))?;
    if (ip, cs) == (0, 0) && cursor.kind() == StackKind::Task {
        // A kernel thread never came from user mode: it starts out with registers that are all 0
        // (`copy_thread()`).
        return Err(StopReason::EndOfStack);
    }
    let next_bp = cursor.captured_word(regs.wrapping_add(layout.bp))?;
    let sp = cursor.captured_word(regs.wrapping_add(layout.sp))?;
    let frame = Frame {
        ip,
        sp,
        stack: cursor.kind_at(sp),
        source: FrameSource::FramePointerRegs,
        reliable: true,
    };
    Ok((frame, next_bp, regs.wrapping_add(layout.bytes)))
}

/// Whether these registers were saved in user mode (`user_mode()`).
fn is_user_mode(cursor: &StackCursor<'_>, regs: u64) -> Result<bool, StopReason> {
    let word = cursor.stacks().word;
    let layout = PtRegs::of(word);
    let cs = cursor.captured_word(regs.wrapping_add(layout.cs))?;
    let flags = cursor.captured_word(regs.wrapping_add(layout.flags))?;
    Ok(cs & 3 != 0 || (word == WordSize::Four && flags & FLAGS_VM != 0))
}

/// How the walk ended, if a frame that ends here and returns to `ip` is the outermost: nothing but
/// the registers of the entry from user mode lie between it and the end of the task's stack
/// (`is_last_task_frame()`). What it saved as its caller's frame pointer is then the register of
/// user mode, which the entry code of system calls neither encodes nor, on 32 bits, clears. Below
/// the first idle task is room for such registers, which are 0.
fn end_of_task(cursor: &StackCursor<'_>, frame_end: u64, ip: u64) -> Option<StopReason> {
    let stacks = cursor.stacks();
    let (layout, word) = (PtRegs::of(stacks.word), stacks.word.bytes());
    let task = stacks.task.filter(|task| cursor.kind() == task.kind)?;
    PADDINGS.iter().find_map(|padding| {
        let regs = task.end.checked_sub(padding + layout.bytes)?;
        let is_below = match regs.checked_sub(frame_end)? {
            0 => true,
            gap if gap <= MAX_ALIGNING_WORDS * word => cursor.captured_word(regs - word) == Ok(ip),
            _ => false,
        };
        is_below.then(|| entry(cursor, regs)).flatten()
    })
}

/// What registers at the end of a task's stack say of its outermost frame. As it is not known how
/// much the entry code leaves free above them, more than the privilege level is asked for.
fn entry(cursor: &StackCursor<'_>, regs: u64) -> Option<StopReason> {
    let word = cursor.stacks().word;
    let layout = PtRegs::of(word);
    let at = |offset: u64| cursor.captured_word(regs + offset).ok();
    let is_user_selector = |selector: u64| selector & 3 == 3 && selector < MAX_SELECTOR;
    let segments = match word {
        // The upper half of the word is not defined.
        WordSize::Four => [at(layout.cs)? & 0xffff, at(layout.ss)? & 0xffff],
        WordSize::Eight => [at(layout.cs)?, at(layout.ss)?],
    };
    let is_vm = word == WordSize::Four && at(layout.flags)? & FLAGS_VM != 0;
    if segments.into_iter().all(is_user_selector) || is_vm {
        return Some(StopReason::UserMode);
    }
    (0..layout.bytes)
        .step_by(word.bytes() as usize)
        .all(|offset| at(offset) == Some(0))
        .then_some(StopReason::EndOfStack)
}

/// Makes sure that the bytes may be read, and are not below `above` on the same stack
/// (`update_stack_state()`).
fn move_up(
    cursor: &mut StackCursor<'_>,
    address: u64,
    length: u64,
    above: u64,
) -> Result<(), StopReason> {
    let before = cursor.kind();
    cursor.allow(address, length)?;
    if cursor.kind() == before && address < above {
        return Err(StopReason::NoProgress { sp: address });
    }
    Ok(())
}
