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
/// The saved frame pointer and the return address.
const CALL_FRAME_BYTES: u64 = 16;

/// Walks from the registers of the event; the event's own frame is already in `frames`.
pub(super) fn walk(
    event: &Registers,
    mut cursor: StackCursor<'_>,
    text: &TextMap,
    mut budget: usize,
    frames: &mut Vec<Frame>,
) -> StopReason {
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
        let result = if bp & 1 != 0 {
            step_regs(&mut cursor, bp & !1, above)
        } else {
            step_call(&mut cursor, bp, above)
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
        frames.push(frame);
    }
}

/// A frame, the frame pointer of its caller, and where what was read ends.
type Found = (Frame, u64, u64);

fn step_call(cursor: &mut StackCursor<'_>, bp: u64, above: u64) -> Result<Found, StopReason> {
    if bp == 0 && cursor.kind() == StackKind::Task {
        return Err(StopReason::EndOfStack);
    }
    move_up(cursor, bp, CALL_FRAME_BYTES, above)?;
    let next_bp = cursor.captured(bp)?;
    let ip = cursor.captured(bp.wrapping_add(8))?;
    let end = bp.wrapping_add(CALL_FRAME_BYTES);
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
    move_up(cursor, regs, PT_REGS_BYTES, above)?;
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
    Ok((frame, next_bp, regs.wrapping_add(PT_REGS_BYTES)))
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
