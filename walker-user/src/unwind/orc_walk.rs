//! One step of an ORC walk, and the registers it carries along.
//!
//! The order of the checks is that of `unwind_next_frame()`, `arch/x86/kernel/unwind_orc.c`
//! (6.18), so that both arrive at the same frames. Unlike the kernel, every end has its reason.

use walker_common::{StackKind, wire::Registers};

use super::{
    FrameSource, StopReason,
    cursor::{PT_REGS_BYTES, PT_REGS_IP, StackCursor},
    orc::{OrcEntry, OrcKind, OrcRegister},
};

/// Offsets of registers in `struct pt_regs`.
mod pt_regs {
    pub(super) const R13: u64 = 2 * 8;
    pub(super) const BP: u64 = 4 * 8;
    pub(super) const R10: u64 = 7 * 8;
    pub(super) const AX: u64 = 10 * 8;
    pub(super) const DX: u64 = 12 * 8;
    pub(super) const DI: u64 = 14 * 8;
}

/// Registers that are known besides ip, sp and bp.
#[derive(Debug, Clone, Copy)]
enum SavedRegisters {
    /// Those the event interrupted.
    Event,
    /// A `struct pt_regs` at this address.
    At(u64),
}

/// The state between two frames.
pub(super) struct OrcState<'a> {
    event: &'a Registers,
    pub(super) cursor: StackCursor<'a>,
    pub(super) ip: u64,
    pub(super) sp: u64,
    pub(super) bp: u64,
    /// Whether `ip` was interrupted, rather than being a return address.
    pub(super) signal: bool,
    /// A whole register set that belongs to this frame.
    full: Option<SavedRegisters>,
    /// The whole set before a partial one: its callee-saved registers still hold.
    previous: Option<SavedRegisters>,
}

/// What a step led to.
pub(super) enum Step {
    /// The caller's frame: how it was found, and the stack it counts for. For a return address
    /// that is the stack it lies on, for an interrupted frame the one it was using.
    Frame(FrameSource, StackKind),
    /// The end.
    Stop(StopReason),
}

impl<'a> OrcState<'a> {
    /// The state at the event. `interrupted`: all registers are known, else only ip, sp and bp, and
    /// ip is where a call returns to.
    pub(super) fn new(event: &'a Registers, interrupted: bool, cursor: StackCursor<'a>) -> Self {
        Self {
            event,
            cursor,
            ip: event.ip,
            sp: event.sp,
            bp: event.bp,
            signal: interrupted,
            full: interrupted.then_some(SavedRegisters::Event),
            previous: None,
        }
    }

    /// Moves to the caller's frame by `entry`. `call_source` is what to report for a frame found
    /// by a return address.
    pub(super) fn step(&mut self, entry: &OrcEntry, call_source: FrameSource) -> Step {
        match self.try_step(entry, call_source) {
            Ok(step) => step,
            Err(stop) => Step::Stop(stop),
        }
    }

    fn try_step(&mut self, entry: &OrcEntry, call_source: FrameSource) -> Result<Step, StopReason> {
        match entry.kind {
            OrcKind::Undefined => return Err(StopReason::NoUnwindInfo { ip: self.ip }),
            OrcKind::EndOfStack => return Ok(Step::Stop(StopReason::EndOfStack)),
            OrcKind::Call | OrcKind::Regs | OrcKind::RegsPartial => {}
        }
        let code = self.ip;
        let previous_sp = self.sp;
        let previous_kind = self.cursor.kind();
        self.signal = entry.signal;
        let cfa = self.cfa(entry)?;

        let (source, return_slot) = match entry.kind {
            OrcKind::Regs => {
                // The kernel asks for the whole set to be on the stack before it reads any of it.
                self.cursor.allow(cfa, PT_REGS_BYTES)?;
                let frame = self.cursor.iret_frame(cfa.wrapping_add(PT_REGS_IP))?;
                if frame.user_mode {
                    return Ok(Step::Stop(StopReason::UserMode));
                }
                (self.ip, self.sp) = (frame.ip, frame.sp);
                self.full = Some(SavedRegisters::At(cfa));
                self.previous = None;
                (FrameSource::OrcRegs, None)
            }
            OrcKind::RegsPartial => {
                let frame = self.cursor.iret_frame(cfa)?;
                if frame.user_mode {
                    return Ok(Step::Stop(StopReason::UserMode));
                }
                (self.ip, self.sp) = (frame.ip, frame.sp);
                if self.full.is_some() {
                    self.previous = self.full;
                }
                self.full = None;
                (FrameSource::OrcRegs, None)
            }
            _ => {
                self.ip = self.cursor.word(cfa.wrapping_sub(8))?;
                self.sp = cfa;
                self.full = None;
                self.previous = None;
                (call_source, Some(self.cursor.kind()))
            }
        };

        self.bp = match entry.bp_reg {
            OrcRegister::PrevSp => self.cursor.word(offset(cfa, entry.bp_offset))?,
            OrcRegister::Bp => self.cursor.word(offset(self.bp, entry.bp_offset))?,
            OrcRegister::Undefined => self.saved(pt_regs::BP).unwrap_or(self.bp),
            _ => return Err(StopReason::NoUnwindInfo { ip: code }),
        };

        if self.cursor.kind() == previous_kind
            && self.cursor.holds(self.sp, 8)
            && self.sp <= previous_sp
        {
            return Err(StopReason::NoProgress { sp: self.sp });
        }
        let stack = return_slot.unwrap_or_else(|| self.cursor.kind_at(self.sp));
        Ok(Step::Frame(source, stack))
    }

    /// Leaves a retpoline thunk, which has no unwind information, for the function that called it.
    /// Returns whether there was one to leave.
    ///
    /// A thunk (`arch/x86/lib/retpoline.S`, 6.18) calls into itself and overwrites the return
    /// address of that call with the register it is to jump to. Interrupted in between, the word
    /// at sp is therefore an address in the thunk or the value of a register, and the next one is
    /// the caller's. Only these two unmistakable states are left; anything else stays an end.
    /// `entry_at` finds the ORC entry for an address and where that entry begins.
    pub(super) fn leave_thunk(
        &mut self,
        entry_at: &impl Fn(u64) -> Option<(u64, OrcEntry)>,
    ) -> bool {
        if self.ip != self.event.ip || self.sp != self.event.sp || !self.signal {
            return false;
        }
        let (Ok(inner), Ok(caller)) = (
            self.cursor.word(self.sp),
            self.cursor.word(self.sp.wrapping_add(8)),
        ) else {
            return false;
        };
        let entry_start = |ip: u64| entry_at(ip).map(|(start, _)| start);
        let in_thunk = entry_start(self.ip).is_some() && entry_start(inner) == entry_start(self.ip);
        let from_call =
            entry_at(caller.wrapping_sub(1)).is_some_and(|(_, entry)| entry.kind == OrcKind::Call);
        if !from_call || !(in_thunk || self.is_in_register(inner)) {
            return false;
        }
        self.ip = caller;
        self.sp = self.sp.wrapping_add(16);
        self.signal = false;
        self.full = None;
        self.previous = None;
        true
    }

    /// Whether a register that a thunk can jump through holds this value.
    fn is_in_register(&self, value: u64) -> bool {
        let event = self.event;
        [
            event.ax, event.bx, event.cx, event.dx, event.si, event.di, event.bp, event.r8,
            event.r9, event.r10, event.r11, event.r12, event.r13, event.r14, event.r15,
        ]
        .contains(&value)
    }

    /// The canonical frame address: where the caller's stack pointer was before the call.
    fn cfa(&mut self, entry: &OrcEntry) -> Result<u64, StopReason> {
        let missing = StopReason::MissingRegister { ip: self.ip };
        let register = |value: Option<u64>| value.ok_or(missing);
        match entry.sp_reg {
            OrcRegister::Sp => Ok(offset(self.sp, entry.sp_offset)),
            OrcRegister::Bp => Ok(offset(self.bp, entry.sp_offset)),
            OrcRegister::SpIndirect => Ok(offset(self.cursor.word(self.sp)?, entry.sp_offset)),
            OrcRegister::SpIndirectOffsetFirst => {
                self.cursor.word(offset(self.sp, entry.sp_offset))
            }
            OrcRegister::BpIndirect => self.cursor.word(offset(self.bp, entry.sp_offset)),
            OrcRegister::Ax => register(self.saved(pt_regs::AX)),
            OrcRegister::Dx => register(self.saved(pt_regs::DX)),
            OrcRegister::Di => register(self.saved(pt_regs::DI)),
            OrcRegister::R10 => register(self.saved(pt_regs::R10)),
            OrcRegister::R13 => register(self.saved(pt_regs::R13)),
            OrcRegister::Undefined | OrcRegister::PrevSp | OrcRegister::Invalid => {
                Err(StopReason::NoUnwindInfo { ip: self.ip })
            }
        }
    }

    /// A register from the sets that are known here (`get_reg()`).
    fn saved(&self, at: u64) -> Option<u64> {
        match self.full.or(self.previous)? {
            SavedRegisters::At(address) => self.cursor.captured(address.wrapping_add(at)).ok(),
            SavedRegisters::Event => Some(match at {
                pt_regs::R13 => self.event.r13,
                pt_regs::BP => self.event.bp,
                pt_regs::R10 => self.event.r10,
                pt_regs::AX => self.event.ax,
                pt_regs::DX => self.event.dx,
                _ => self.event.di,
            }),
        }
    }
}

const fn offset(base: u64, offset: i16) -> u64 {
    base.wrapping_add_signed(offset as i64)
}
