//! DWARF expressions, as far as unwind information can mean anything by them: arithmetic over
//! registers, constants and the bytes of the captured stack.
//!
//! Everything else (locations, types, other debug information, addresses that would have to be
//! relocated) is an error, and so is an expression that takes too long.

use gimli::{Encoding, EndianSlice, Format, LittleEndian, Operation};

use super::{mode::Mode, registers::UserRegisters, stack::StackReader};

/// Most operations one expression may take. glibc's longest has five, that of a PLT ten.
const MAX_STEPS: usize = 256;
/// Most values that may wait on an expression's stack.
const MAX_DEPTH: usize = 32;

/// How addresses are encoded in an expression.
fn encoding(mode: Mode) -> Encoding {
    Encoding {
        address_size: mode.word_bytes(),
        format: Format::Dwarf32,
        version: 4,
    }
}

/// Why an expression has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoValue {
    /// It is no valid expression, or does too much.
    Malformed,
    /// It needs a register that is not known.
    Register,
    /// It needs bytes at this address that were not captured.
    Bytes(u64),
}

/// The values an expression works on.
#[derive(Debug, Default)]
struct Values {
    values: [u64; MAX_DEPTH],
    used: usize,
    mode: Mode,
}

impl Values {
    fn push(&mut self, value: u64) -> Result<(), NoValue> {
        *self.values.get_mut(self.used).ok_or(NoValue::Malformed)? = self.mode.narrow(value);
        self.used += 1;
        Ok(())
    }

    fn pop(&mut self) -> Result<u64, NoValue> {
        self.used = self.used.checked_sub(1).ok_or(NoValue::Malformed)?;
        Ok(self.values[self.used])
    }

    /// The place of the value with this index, counted from the top.
    fn nth(&mut self, index: usize) -> Result<&mut u64, NoValue> {
        let place = self.used.checked_sub(index + 1).ok_or(NoValue::Malformed)?;
        Ok(&mut self.values[place])
    }

    fn unary(&mut self, operation: impl FnOnce(u64) -> u64) -> Result<(), NoValue> {
        let value = self.pop()?;
        self.push(operation(value))
    }

    /// Replaces the two topmost values; `operation` gets the topmost last.
    fn binary(&mut self, operation: impl FnOnce(u64, u64) -> u64) -> Result<(), NoValue> {
        let right = self.pop()?;
        let left = self.pop()?;
        self.push(operation(left, right))
    }

    /// As [`Values::binary`], for comparisons, which are signed in DWARF.
    fn compare(&mut self, operation: impl FnOnce(&i64, &i64) -> bool) -> Result<(), NoValue> {
        let mode = self.mode;
        self.binary(|left, right| u64::from(operation(&mode.signed(left), &mode.signed(right))))
    }
}

/// Computes what is on top of the stack when `code` ends. `initial` is there when it begins: the
/// CFA for the expressions of registers, nothing for that of the CFA itself. `budget` is how many
/// operations may still be done, and is reduced by those that were.
pub(super) fn evaluate(
    code: &[u8],
    initial: Option<u64>,
    registers: &UserRegisters,
    stack: &mut StackReader<'_>,
    budget: &mut u32,
) -> Result<u64, NoValue> {
    let mode = registers.mode();
    let mut values = Values {
        mode,
        ..Values::default()
    };
    if let Some(initial) = initial {
        values.push(initial)?;
    }
    let mut rest = EndianSlice::new(code, LittleEndian);
    for _ in 0..MAX_STEPS {
        if rest.is_empty() {
            return values.pop();
        }
        *budget = budget.checked_sub(1).ok_or(NoValue::Malformed)?;
        let operation =
            Operation::parse(&mut rest, encoding(mode)).map_err(|_| NoValue::Malformed)?;
        if let Some(jump) = step(&operation, &mut values, registers, stack)? {
            let target = (code.len() - rest.len())
                .checked_add_signed(isize::from(jump))
                .ok_or(NoValue::Malformed)?;
            let target = code.get(target..).ok_or(NoValue::Malformed)?;
            rest = EndianSlice::new(target, LittleEndian);
        }
    }
    Err(NoValue::Malformed)
}

/// Does one operation. Returns how far to jump from its end, if it says so.
fn step(
    operation: &Operation<EndianSlice<'_, LittleEndian>>,
    values: &mut Values,
    registers: &UserRegisters,
    stack: &mut StackReader<'_>,
) -> Result<Option<i16>, NoValue> {
    match *operation {
        Operation::UnsignedConstant { value } => values.push(value)?,
        Operation::SignedConstant { value } => values.push(value.cast_unsigned())?,
        Operation::RegisterOffset {
            register,
            offset,
            base_type,
        } if base_type.0 == 0 => {
            let value = registers
                .get(registers.mode().slot(register.0))
                .ok_or(NoValue::Register)?;
            values.push(value.wrapping_add_signed(offset))?;
        }
        Operation::Deref {
            base_type,
            size,
            space: false,
        } if base_type.0 == 0 => {
            if !matches!(size, 1 | 2 | 4 | 8) || size > registers.mode().word_bytes() {
                return Err(NoValue::Malformed);
            }
            let address = values.pop()?;
            let value = stack.number(address, size);
            values.push(value.ok_or(NoValue::Bytes(address))?)?;
        }
        Operation::Drop => {
            values.pop()?;
        }
        Operation::Pick { index } => {
            let value = *values.nth(usize::from(index))?;
            values.push(value)?;
        }
        Operation::Swap => {
            let (top, below) = (*values.nth(0)?, *values.nth(1)?);
            *values.nth(0)? = below;
            *values.nth(1)? = top;
        }
        Operation::Rot => {
            let (first, second) = (*values.nth(0)?, *values.nth(1)?);
            let third = *values.nth(2)?;
            *values.nth(0)? = second;
            *values.nth(1)? = third;
            *values.nth(2)? = first;
        }
        Operation::Bra { target } => {
            if values.pop()? != 0 {
                return Ok(Some(target));
            }
        }
        Operation::Skip { target } => return Ok(Some(target)),
        Operation::Nop => {}
        ref other => arithmetic(other, values)?,
    }
    Ok(None)
}

fn arithmetic(
    operation: &Operation<EndianSlice<'_, LittleEndian>>,
    values: &mut Values,
) -> Result<(), NoValue> {
    let mode = values.mode;
    match *operation {
        Operation::Abs => values.unary(|value| mode.signed(value).unsigned_abs()),
        Operation::Neg => values.unary(u64::wrapping_neg),
        Operation::Not => values.unary(|value| !value),
        Operation::PlusConstant { value } => values.unary(|left| left.wrapping_add(value)),
        Operation::And => values.binary(|left, right| left & right),
        Operation::Or => values.binary(|left, right| left | right),
        Operation::Xor => values.binary(|left, right| left ^ right),
        Operation::Plus => values.binary(u64::wrapping_add),
        Operation::Minus => values.binary(u64::wrapping_sub),
        Operation::Mul => values.binary(u64::wrapping_mul),
        Operation::Div => {
            if *values.nth(0)? == 0 {
                return Err(NoValue::Malformed);
            }
            values.binary(|left, right| {
                mode.signed(left)
                    .wrapping_div(mode.signed(right))
                    .cast_unsigned()
            })
        }
        Operation::Mod => {
            if *values.nth(0)? == 0 {
                return Err(NoValue::Malformed);
            }
            values.binary(|left, right| left % right)
        }
        Operation::Shl => {
            values.binary(|left, count| shift(count, |count| left.checked_shl(count)))
        }
        Operation::Shr => {
            values.binary(|left, count| shift(count, |count| left.checked_shr(count)))
        }
        Operation::Shra => values.binary(|left, count| {
            let count = u32::try_from(count).unwrap_or(63).min(63);
            (mode.signed(left) >> count).cast_unsigned()
        }),
        Operation::Eq => values.compare(i64::eq),
        Operation::Ne => values.compare(i64::ne),
        Operation::Ge => values.compare(i64::ge),
        Operation::Gt => values.compare(i64::gt),
        Operation::Le => values.compare(i64::le),
        Operation::Lt => values.compare(i64::lt),
        _ => Err(NoValue::Malformed),
    }
}

/// A logical shift, which leaves nothing of the value if it is by its whole width or more.
fn shift(count: u64, by: impl FnOnce(u32) -> Option<u64>) -> u64 {
    u32::try_from(count).ok().and_then(by).unwrap_or(0)
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
