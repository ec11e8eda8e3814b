//! The registers a walk of user stacks carries from frame to frame, numbered as DWARF numbers them.
//!
//! Which of them hold after a step is decided by the step; here they are only kept.

use walker_common::wire::Registers;

use super::mode::Mode;

/// DWARF numbers of registers (x86-64 psABI, figure "DWARF Register Number Mapping").
pub(super) mod dwarf {
    pub(in super::super) const RBX: usize = 3;
    pub(in super::super) const RSI: usize = 4;
    pub(in super::super) const RDI: usize = 5;
    pub(in super::super) const RBP: usize = 6;
    pub(in super::super) const RSP: usize = 7;
    pub(in super::super) const R12: usize = 12;
    pub(in super::super) const R15: usize = 15;
    /// The column of the return address.
    pub(in super::super) const RA: usize = 16;
    /// How many are kept.
    pub(in super::super) const COUNT: usize = 17;
}

const fn bit(number: usize) -> u32 {
    1 << number
}

/// The registers a function hands back to its caller as it found them.
const CALLEE_SAVED: u32 = bit(dwarf::RBX)
    | bit(dwarf::RBP)
    | bit(dwarf::R12)
    | bit(dwarf::R12 + 1)
    | bit(dwarf::R12 + 2)
    | bit(dwarf::R15);

/// The same of code of 32 bits.
const CALLEE_SAVED_32: u32 = bit(dwarf::RBX) | bit(dwarf::RBP) | bit(dwarf::RSI) | bit(dwarf::RDI);

/// Those without which there is no frame.
const ALWAYS: u32 = bit(dwarf::RSP) | bit(dwarf::RA);

/// The general registers and the instruction pointer of one frame. The stack pointer and the
/// instruction pointer are always known, each of the others may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRegisters {
    values: [u64; dwarf::COUNT],
    known: u32,
    mode: Mode,
}

impl UserRegisters {
    /// The registers of a frame of which only these are known.
    #[must_use]
    pub fn new(ip: u64, sp: u64) -> Self {
        let mut values = [0; dwarf::COUNT];
        values[dwarf::RA] = ip;
        values[dwarf::RSP] = sp;
        Self {
            values,
            known: ALWAYS,
            mode: Mode::Bits64,
        }
    }

    /// The same registers as those of code that runs in this mode.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self.values = self.values.map(|value| mode.narrow(value));
        self
    }

    /// The mode that the code runs in.
    #[inline]
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The instruction pointer.
    #[inline]
    #[must_use]
    pub fn ip(&self) -> u64 {
        self.values[dwarf::RA]
    }

    /// The stack pointer.
    #[inline]
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.values[dwarf::RSP]
    }

    /// The register with this x86-64 DWARF number (0 to 15 in the order rax, rdx, rcx, rbx, rsi, rdi,
    /// rbp, rsp, r8 to r15; 16 for the instruction pointer), if there is one and it is known.
    #[inline]
    #[must_use]
    pub fn get(&self, number: usize) -> Option<u64> {
        let value = *self.values.get(number)?;
        (self.known & bit(number) != 0).then_some(value)
    }

    /// Sets a register, or forgets it. The stack pointer and the instruction pointer stay what
    /// they are when they would be forgotten; a number without a register is ignored.
    #[inline]
    pub fn set(&mut self, number: usize, value: Option<u64>) {
        let Some(slot) = self.values.get_mut(number) else {
            return;
        };
        match value {
            Some(value) => {
                *slot = self.mode.narrow(value);
                self.known |= bit(number);
            }
            None => self.known &= !bit(number) | ALWAYS,
        }
    }

    /// Forgets what a function does not keep for its caller.
    #[inline]
    pub(super) fn forget_caller_saved(&mut self) {
        self.known &= ALWAYS
            | match self.mode {
                Mode::Bits64 => CALLEE_SAVED,
                Mode::Bits32 => CALLEE_SAVED_32,
            };
    }
}

impl From<&Registers> for UserRegisters {
    fn from(registers: &Registers) -> Self {
        Self {
            values: [
                registers.ax,
                registers.dx,
                registers.cx,
                registers.bx,
                registers.si,
                registers.di,
                registers.bp,
                registers.sp,
                registers.r8,
                registers.r9,
                registers.r10,
                registers.r11,
                registers.r12,
                registers.r13,
                registers.r14,
                registers.r15,
                registers.ip,
            ],
            known: bit(dwarf::COUNT) - 1,
            mode: Mode::Bits64,
        }
        .in_mode(Mode::of_code_segment(registers.cs).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use walker_common::wire::Registers;

    use super::{UserRegisters, dwarf};

    #[test]
    fn the_order_is_that_of_dwarf() {
        let registers = UserRegisters::from(&Registers {
            ax: 0,
            dx: 1,
            cx: 2,
            bx: 3,
            si: 4,
            di: 5,
            bp: 6,
            sp: 7,
            r8: 8,
            r9: 9,
            r10: 10,
            r11: 11,
            r12: 12,
            r13: 13,
            r14: 14,
            r15: 15,
            ip: 16,
            ..Registers::default()
        });
        for number in 0..dwarf::COUNT {
            assert_eq!(registers.get(number), Some(number as u64));
        }
        assert_eq!(registers.get(dwarf::COUNT), None);
        assert_eq!(registers.get(usize::MAX), None);
        assert_eq!((registers.sp(), registers.ip()), (7, 16));
    }

    #[test]
    fn a_call_leaves_the_callee_saved_registers_known() {
        let mut registers = UserRegisters::from(&Registers::default());
        registers.forget_caller_saved();
        let known: Vec<usize> = (0..dwarf::COUNT)
            .filter(|&number| registers.get(number).is_some())
            .collect();
        assert_eq!(known, [3, 6, 7, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn the_stack_pointer_cannot_be_forgotten() {
        let mut registers = UserRegisters::new(1, 2);
        for number in 0..dwarf::COUNT + 1 {
            registers.set(number, None);
        }
        assert_eq!((registers.ip(), registers.sp()), (1, 2));
        assert_eq!(registers.get(dwarf::RBP), None);
    }
}
