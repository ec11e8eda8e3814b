//! The short form of a row, as it is kept for the next time: what almost every function needs,
//! and a note of what the others are.
//!
//! A row that does not fit exactly is [`Rule::Slow`], and evaluated in `row` each time.

use gimli::{CfaRule, RegisterRule};

use super::{
    mode::Mode,
    registers::{UserRegisters, dwarf},
    stack::StackReader,
    tables::Row,
};
use crate::unwind::StopReason;

/// How many callee-saved registers the short form has room for.
pub(super) const SAVED: usize = Mode::Bits64.saved().len();

/// The slot of a register whose value in the caller is not known.
pub(super) const LOST: i8 = i8::MIN;

/// What the unwind information of one address amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A return address below the CFA, and registers saved beside it.
    Call(CallRule),
    /// The return address is undefined: there is no caller.
    Outermost,
    /// The row has to be evaluated.
    Slow,
    /// There is none, and nothing was found in the code either.
    NoInfo,
    /// There is none; this is the way out of the function that its code takes.
    Exit(CallRule),
    /// There is none, and the code does not return.
    NoReturn,
    /// There is none, and the code leaves the program or the thread by a system call.
    Exits,
    /// There is none, and the code returns from a signal handler.
    Restorer,
    /// The row one byte further has to be evaluated: that of what returns from a signal handler.
    SlowAfter,
    /// A return address that no call is before.
    NotCalled,
    /// The code switches stacks, and its information does not say how.
    StackSwitch,
    /// It is malformed.
    Malformed,
}

impl Rule {
    /// Whether it is what was made up for code without a row.
    pub(super) const fn is_without_row(self) -> bool {
        matches!(
            self,
            Self::NoInfo | Self::Exit(_) | Self::NoReturn | Self::Exits
        )
    }
}

/// The frame of an ordinary function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallRule {
    /// The CFA, from the register it is based on.
    pub(super) cfa_offset: i32,
    /// Whether that is the frame pointer rather than the stack pointer.
    pub(super) frame_pointer: bool,
    /// Words above the return address that the function takes off the stack as it returns.
    pub(super) popped: u8,
    /// Where each of [`Mode::saved`] is, in words from the CFA; 0 if it still holds, [`LOST`] if it
    /// cannot be told.
    pub(super) slots: [i8; SAVED],
}

impl Rule {
    /// The short form of a row.
    pub(super) fn of(row: &Row<'_, '_>) -> Self {
        if row.mode.slot(row.return_column.0) != dwarf::RA || row.signal {
            return Self::Slow;
        }
        if let Some(RegisterRule::Undefined) = row.rules.register(row.return_column) {
            return Self::Outermost;
        }
        call_rule(row).map_or(Self::Slow, Self::Call)
    }
}

/// The row as the frame of an ordinary function, if that is all it says.
fn call_rule(row: &Row<'_, '_>) -> Option<CallRule> {
    let CfaRule::RegisterAndOffset { register, offset } = *row.rules.cfa() else {
        return None;
    };
    let mode = row.mode;
    let word = i64::from(mode.word_bytes());
    let frame_pointer = match mode.slot(register.0) {
        dwarf::RSP => false,
        dwarf::RBP => true,
        _ => return None,
    };
    let cfa_offset = i32::try_from(offset).ok()?;
    let mut slots = [0; SAVED];
    let mut has_return_address = false;
    for (register, rule) in row.rules.registers() {
        let number = mode.slot(register.0);
        let saved = mode.saved().iter().position(|&saved| saved == number);
        match (number, rule) {
            (dwarf::COUNT.., _) | (dwarf::RSP, RegisterRule::ValOffset(0)) => {}
            (dwarf::RA, RegisterRule::Offset(offset)) if *offset == -word => {
                has_return_address = true
            }
            (_, RegisterRule::SameValue) if saved.is_some() => {}
            (_, RegisterRule::Offset(offset)) if offset % word == 0 && *offset != 0 => {
                let slot = i8::try_from(offset / word).ok()?;
                *slots.get_mut(saved?)? = Some(slot).filter(|slot| *slot != LOST)?;
            }
            _ => return None,
        }
    }
    has_return_address.then_some(CallRule {
        cfa_offset,
        frame_pointer,
        popped: 0,
        slots,
    })
}

impl CallRule {
    /// Turns the registers into those of the caller. They are of no use if this fails.
    #[inline]
    pub(super) fn step(
        &self,
        registers: &mut UserRegisters,
        stack: &mut StackReader<'_>,
    ) -> Result<(), StopReason> {
        let mode = registers.mode();
        let word = mode.word_bytes();
        let base = if self.frame_pointer {
            let ip = registers.ip();
            let value = registers.get(dwarf::RBP);
            value.ok_or(StopReason::MissingRegister { ip })?
        } else {
            registers.sp()
        };
        let cfa = base.wrapping_add_signed(i64::from(self.cfa_offset));
        let return_slot = cfa.wrapping_sub(word.into());
        let Some(return_address) = stack.word(return_slot) else {
            return Err(stack.missing(return_slot));
        };
        registers.forget_caller_saved();
        for (&number, &slot) in mode.saved().iter().zip(&self.slots) {
            if slot != 0 {
                let address = cfa.wrapping_add_signed(i64::from(slot) * i64::from(word));
                let value = (slot != LOST).then(|| stack.word(address)).flatten();
                registers.set(number, value);
            }
        }
        let sp = cfa.wrapping_add(u64::from(self.popped) * u64::from(word));
        registers.set(dwarf::RSP, Some(sp));
        registers.set(dwarf::RA, Some(return_address));
        Ok(())
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
