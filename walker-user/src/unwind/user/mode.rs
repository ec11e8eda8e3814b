//! What differs between code of 64 and of 32 bits: the size of words, and the registers.
//!
//! A walk keeps the mode that its first frame ran in. Registers of both are kept in the same slots,
//! those of x86-64; only their DWARF numbers and who saves them differ.

use walker_common::wire::{USER_CS, USER32_CS};

use super::registers::dwarf;

/// The slots of the i386 registers in the order of their DWARF numbers (i386 psABI, "DWARF Register
/// Number Mapping"): eax, ecx, edx, ebx, esp, ebp, esi, edi, and the return address.
const I386_SLOTS: [usize; 9] = [
    0,
    2,
    1,
    dwarf::RBX,
    dwarf::RSP,
    dwarf::RBP,
    dwarf::RSI,
    dwarf::RDI,
    dwarf::RA,
];

/// The mode that user code runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// x86-64.
    #[default]
    Bits64,
    /// i386.
    Bits32,
}

impl Mode {
    /// The mode of code in this segment (`cs`); `None` if it is none of the kernel's own, of which
    /// nothing is known.
    #[must_use]
    pub const fn of_code_segment(cs: u64) -> Option<Self> {
        match cs & 0xffff {
            USER_CS => Some(Self::Bits64),
            USER32_CS => Some(Self::Bits32),
            _ => None,
        }
    }

    /// Bytes of an address and of a word of the stack.
    #[inline]
    #[must_use]
    pub const fn word_bytes(self) -> u8 {
        match self {
            Self::Bits64 => 8,
            Self::Bits32 => 4,
        }
    }

    /// What is left of a number in a word.
    #[inline]
    #[must_use]
    pub const fn narrow(self, value: u64) -> u64 {
        match self {
            Self::Bits64 => value,
            Self::Bits32 => value & u32::MAX as u64,
        }
    }

    /// A word as a signed number.
    pub(super) const fn signed(self, value: u64) -> i64 {
        match self {
            Self::Bits64 => value.cast_signed(),
            Self::Bits32 => (value as u32).cast_signed() as i64,
        }
    }

    /// The slot of the register with this DWARF number; [`dwarf::COUNT`] or more if none is kept.
    pub(super) fn slot(self, number: u16) -> usize {
        match self {
            Self::Bits64 => number.into(),
            Self::Bits32 => *I386_SLOTS.get(usize::from(number)).unwrap_or(&dwarf::COUNT),
        }
    }

    /// The callee-saved registers besides the stack pointer, in the order of a rule's slots.
    #[inline]
    pub(super) const fn saved(self) -> &'static [usize; 6] {
        match self {
            Self::Bits64 => &[
                dwarf::RBP,
                dwarf::RBX,
                dwarf::R12,
                dwarf::R12 + 1,
                dwarf::R12 + 2,
                dwarf::R15,
            ],
            Self::Bits32 => &[
                dwarf::RBP,
                dwarf::RBX,
                dwarf::RSI,
                dwarf::RDI,
                dwarf::COUNT,
                dwarf::COUNT,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, dwarf};

    #[test]
    fn the_code_segment_tells_the_mode() {
        assert_eq!(Mode::of_code_segment(0x33), Some(Mode::Bits64));
        assert_eq!(Mode::of_code_segment(0x23), Some(Mode::Bits32));
        assert_eq!(Mode::of_code_segment(0xffff_0000_0023), Some(Mode::Bits32));
        assert_eq!(Mode::of_code_segment(0x1f), None);
    }

    #[test]
    fn i386_has_other_register_numbers() {
        let slots: Vec<usize> = (0..10).map(|number| Mode::Bits32.slot(number)).collect();
        assert_eq!(slots, [0, 2, 1, 3, 7, 6, 4, 5, 16, dwarf::COUNT]);
        assert_eq!(Mode::Bits64.slot(9), 9);
    }

    #[test]
    fn numbers_have_the_width_of_a_word() {
        assert_eq!(Mode::Bits32.narrow(0x1_0000_0004), 4);
        assert_eq!(Mode::Bits32.signed(0xffff_fffc), -4);
        assert_eq!(Mode::Bits64.signed(0xffff_fffc), 0xffff_fffc);
    }
}
