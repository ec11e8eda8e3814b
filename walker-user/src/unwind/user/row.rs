//! The evaluation of a whole row: every kind of rule, for all registers.
//!
//! This is the slow way, for what has no short form (`rule`): signal frames, expressions, and
//! whatever else a compiler or a person writes.

use gimli::{CfaRule, RegisterRule};

use super::{
    expression::{NoValue, evaluate},
    registers::{UserRegisters, dwarf},
    stack::{RED_ZONE, StackReader},
    tables::Row,
};
use crate::unwind::{FrameSource, StopReason};

/// Turns the registers into those of the caller by `row`, and returns how they were found. They are
/// as they were if this fails. `interrupted` tells that the code may be anywhere in its function,
/// not only at a call.
pub(super) fn step(
    row: &Row<'_, '_>,
    registers: &mut UserRegisters,
    stack: &mut StackReader<'_>,
    budget: &mut u32,
    interrupted: bool,
) -> Result<FrameSource, StopReason> {
    let ip = registers.ip();
    let mut evaluation = Evaluation {
        row,
        registers,
        stack,
        budget,
        interrupted,
        expressions: false,
    };
    match evaluation.caller() {
        Ok(Some((caller, source))) => {
            *registers = caller;
            Ok(source)
        }
        Ok(None) => Err(StopReason::OutermostFrame),
        Err(NoValue::Malformed) => Err(StopReason::BadUnwindInfo { ip }),
        Err(NoValue::Register) => Err(StopReason::MissingRegister { ip }),
        Err(NoValue::Bytes(address)) => Err(stack.missing(address)),
    }
}

struct Evaluation<'e, 's> {
    row: &'e Row<'e, 'e>,
    /// Those of the frame that is left.
    registers: &'e UserRegisters,
    stack: &'e mut StackReader<'s>,
    /// How many operations may still be done.
    budget: &'e mut u32,
    /// Whether the frame that is left was interrupted, and not by a call.
    interrupted: bool,
    /// Whether an expression took part.
    expressions: bool,
}

impl Evaluation<'_, '_> {
    /// The caller's registers; `None` if the row says that there is no caller.
    fn caller(&mut self) -> Result<Option<(UserRegisters, FrameSource)>, NoValue> {
        let cfa = self.cfa()?;
        let mut caller = *self.registers;
        caller.forget_caller_saved();
        caller.set(dwarf::RSP, Some(cfa));
        let column = self.row.mode.slot(self.row.return_column.0);
        if column >= dwarf::COUNT {
            return Err(NoValue::Malformed);
        }
        let mut return_address = None;
        for (register, rule) in self.row.rules.registers() {
            let number = self.row.mode.slot(register.0);
            if number >= dwarf::COUNT {
                continue;
            }
            if number == column && matches!(rule, RegisterRule::Undefined) {
                return Ok(None);
            }
            let value = self.register(number, rule, cfa);
            if number == column {
                return_address = Some(value?.ok_or(NoValue::Malformed)?);
            } else {
                // A register that cannot be told is not known in the caller, and that is only an
                // end if something depends on it. The stack pointer always does.
                match value {
                    Ok(None) | Err(NoValue::Register | NoValue::Bytes(_))
                        if number != dwarf::RSP =>
                    {
                        caller.set(number, None);
                    }
                    Ok(value) => caller.set(number, Some(value.ok_or(NoValue::Malformed)?)),
                    Err(error) => return Err(error),
                }
            }
        }
        caller.set(dwarf::RA, Some(return_address.ok_or(NoValue::Malformed)?));
        let source = match (self.row.signal, self.expressions) {
            (true, _) => FrameSource::CfiSignal,
            (false, true) => FrameSource::CfiExpression,
            (false, false) => FrameSource::Cfi,
        };
        Ok(Some((caller, source)))
    }

    fn cfa(&mut self) -> Result<u64, NoValue> {
        match self.row.rules.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                let value = self.registers.get(self.row.mode.slot(register.0));
                let value = value.ok_or(NoValue::Register)?;
                Ok(value.wrapping_add_signed(*offset))
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        }
    }

    /// The caller's value of a register; `None` if the row says that it has none.
    fn register(
        &mut self,
        number: usize,
        rule: &RegisterRule<usize>,
        cfa: u64,
    ) -> Result<Option<u64>, NoValue> {
        let known = |number| self.registers.get(number).ok_or(NoValue::Register);
        match *rule {
            RegisterRule::Undefined => return Ok(None),
            RegisterRule::SameValue => known(number),
            RegisterRule::Register(register) => known(self.row.mode.slot(register.0)),
            RegisterRule::Offset(offset) => self.word(cfa.wrapping_add_signed(offset)),
            RegisterRule::ValOffset(offset) => Ok(cfa.wrapping_add_signed(offset)),
            RegisterRule::Expression(ref expression) => {
                let address = self.evaluate(expression, Some(cfa))?;
                if number == dwarf::RBP && self.interrupted && !self.row.signal {
                    // GCC does not say that `leave` restores rbp in a function that realigns its
                    // stack, and has it saved where rbp points to until the end. A place outside
                    // of the frame tells that rbp is the caller's already.
                    let begin = self.registers.sp().saturating_sub(RED_ZONE);
                    if !(begin..cfa).contains(&address) {
                        return known(number).map(Some);
                    }
                }
                self.word(address)
            }
            RegisterRule::ValExpression(ref expression) => self.evaluate(expression, Some(cfa)),
            RegisterRule::Architectural | RegisterRule::Constant(_) => Err(NoValue::Malformed),
        }
        .map(Some)
    }

    fn word(&mut self, address: u64) -> Result<u64, NoValue> {
        self.stack.word(address).ok_or(NoValue::Bytes(address))
    }

    fn evaluate(
        &mut self,
        expression: &gimli::UnwindExpression<usize>,
        initial: Option<u64>,
    ) -> Result<u64, NoValue> {
        self.expressions = true;
        let code = self.row.expression(expression).ok_or(NoValue::Malformed)?;
        evaluate(code, initial, self.registers, self.stack, self.budget)
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
