//! The walk of a kernel that is built with frame pointers instead of ORC
//! (`CONFIG_UNWINDER_FRAME_POINTER`).
//!
//! Follows `arch/x86/kernel/unwind_frame.c` (6.18): a frame pointer leads to the caller's frame
//! pointer and the return address; one with its lowest bit set is the address of a
//! `struct pt_regs`, encoded by the entry code.

use walker_common::{StackKind, wire::Registers};

use super::{
    Frame, FrameSource, StopReason,
    cursor::{PT_REGS_BYTES, PT_REGS_IP, StackCursor},
    kernel::TextMap,
};

/// Offset of `bp` in `struct pt_regs`.
const PT_REGS_BP: u64 = 4 * 8;

/// Walks from the registers of the event; the event's own frame is already in `frames`.
pub(super) fn walk(
    event: &Registers,
    mut cursor: StackCursor<'_>,
    text: &TextMap,
    mut budget: usize,
    frames: &mut Vec<Frame>,
) -> StopReason {
    let mut bp = event.bp;
    let mut last_slot = event.sp;
    loop {
        // Every frame but the last of a stack lies above its callee, so this bound is met only by
        // a chain that loops between stacks' register sets.
        if budget == 0 {
            return StopReason::NoProgress { sp: bp };
        }
        budget -= 1;
        let result = if bp & 1 != 0 {
            step_regs(&mut cursor, bp & !1)
        } else {
            step_call(&mut cursor, bp, last_slot)
        };
        let (frame, next_bp) = match result {
            Ok(found) => found,
            Err(stop) => return stop,
        };
        if !text.contains(frame.ip) {
            return StopReason::BadReturnAddress { ip: frame.ip };
        }
        last_slot = frame.sp;
        bp = next_bp;
        frames.push(frame);
    }
}

fn step_call(
    cursor: &mut StackCursor<'_>,
    bp: u64,
    last_slot: u64,
) -> Result<(Frame, u64), StopReason> {
    let before = cursor.info().map(|info| info.kind);
    if bp == 0 && before == Some(StackKind::Task) {
        return Err(StopReason::EndOfStack);
    }
    cursor.allow(bp, 16)?;
    if cursor.info().map(|info| info.kind) == before && bp < last_slot {
        return Err(StopReason::NoProgress { sp: bp });
    }
    let next_bp = cursor.captured(bp)?;
    let ip = cursor.captured(bp.wrapping_add(8))?;
    let frame = Frame {
        ip,
        sp: bp.wrapping_add(16),
        stack: cursor.kind_at(bp),
        source: FrameSource::FramePointer,
        reliable: true,
    };
    Ok((frame, next_bp))
}

fn step_regs(cursor: &mut StackCursor<'_>, regs: u64) -> Result<(Frame, u64), StopReason> {
    cursor.allow(regs, PT_REGS_BYTES)?;
    let interrupted = cursor.iret_frame(regs.wrapping_add(PT_REGS_IP))?;
    if interrupted.user_mode {
        return Err(StopReason::UserMode);
    }
    let next_bp = cursor.captured(regs.wrapping_add(PT_REGS_BP))?;
    let frame = Frame {
        ip: interrupted.ip,
        sp: interrupted.sp,
        stack: cursor.kind_at(interrupted.sp),
        source: FrameSource::FramePointerRegs,
        reliable: true,
    };
    Ok((frame, next_bp))
}
