//! The captured bytes of a user stack, and reads of them.
//!
//! Nothing else of the process can be read during a walk.

use super::mode::Mode;
use crate::unwind::{StopReason, memory::Segment};

/// User addresses are below this: 57 bits of virtual address, of which the kernel has the upper
/// half. Anything at or above is the kernel's or not canonical.
const USER_END: u64 = 1 << 56;

/// How far below its stack pointer a function may keep data (x86-64 psABI, "the red zone").
pub(super) const RED_ZONE: u64 = 128;

/// Whether user space can have something at this address.
pub(super) const fn is_user_address(address: u64) -> bool {
    address < USER_END
}

/// The copy of a user stack.
///
/// It should begin 128 bytes below the stack pointer, at the end of the red zone: up to there the interrupted function may
/// keep data, and just before a function returns, what it has already popped lies there too,
/// where its unwind information still points. A register whose slot was not copied is not known in
/// the caller.
#[derive(Debug, Clone, Copy)]
pub struct UserStack<'a> {
    /// The bytes.
    pub segment: Segment<'a>,
    /// Whether more of the stack exists and was not copied for its length.
    pub cut_by_budget: bool,
}

/// Reads a user stack and remembers how far up it had to.
#[derive(Debug)]
pub(super) struct StackReader<'a> {
    stack: UserStack<'a>,
    used: usize,
    mode: Mode,
}

impl<'a> StackReader<'a> {
    pub(super) fn new(stack: &UserStack<'a>, mode: Mode) -> Self {
        Self {
            stack: *stack,
            used: 0,
            mode,
        }
    }

    /// Bytes from the segment's start to the end of the highest word read.
    pub(super) fn bytes_used(&self) -> u32 {
        u32::try_from(self.used).unwrap_or(u32::MAX)
    }

    /// How many words there are, rounded up.
    pub(super) fn words(&self) -> usize {
        self.stack
            .segment
            .bytes
            .len()
            .div_ceil(self.mode.word_bytes().into())
    }

    #[inline]
    fn bytes<const N: usize>(&mut self, address: u64) -> Option<[u8; N]> {
        let segment = &self.stack.segment;
        let address = self.mode.narrow(address);
        let offset = usize::try_from(address.checked_sub(segment.address)?).ok()?;
        let bytes = *segment.bytes.get(offset..)?.first_chunk()?;
        self.used = self.used.max(offset + N);
        Some(bytes)
    }

    /// The word at this address, which need not be aligned.
    #[inline]
    pub(super) fn word(&mut self, address: u64) -> Option<u64> {
        match self.mode {
            Mode::Bits64 => self.bytes(address).map(u64::from_le_bytes),
            Mode::Bits32 => self.bytes(address).map(u32::from_le_bytes).map(u64::from),
        }
    }

    /// The number of `size` bytes at this address; sizes other than 1, 2, 4 and 8 have none.
    pub(super) fn number(&mut self, address: u64, size: u8) -> Option<u64> {
        match size {
            1 => self.bytes(address).map(u8::from_le_bytes).map(u64::from),
            2 => self.bytes(address).map(u16::from_le_bytes).map(u64::from),
            4 => self.bytes(address).map(u32::from_le_bytes).map(u64::from),
            8 => self.bytes(address).map(u64::from_le_bytes),
            _ => None,
        }
    }

    /// Whether the copy ends at this address, and so does the stack.
    pub(super) fn ends_at(&self, address: u64) -> bool {
        let segment = &self.stack.segment;
        let end = segment.address.wrapping_add(segment.bytes.len() as u64);
        !self.stack.cut_by_budget && address == end
    }

    /// Why what a walk needs at this address could not be read.
    pub(super) fn missing(&self, address: u64) -> StopReason {
        let above = address >= self.stack.segment.address && is_user_address(address);
        if self.stack.cut_by_budget && above {
            StopReason::Truncated {
                bytes: u32::try_from(self.stack.segment.bytes.len()).unwrap_or(u32::MAX),
            }
        } else {
            StopReason::MissingBytes { address }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, StackReader, UserStack};
    use crate::unwind::{StopReason, memory::Segment};

    fn stack(bytes: &[u8], cut_by_budget: bool) -> UserStack<'_> {
        UserStack {
            segment: Segment {
                address: 0x1000,
                bytes,
            },
            cut_by_budget,
        }
    }

    #[test]
    fn the_highest_byte_read_is_remembered() {
        let bytes: Vec<u8> = (0..32).collect();
        let stack = stack(&bytes, false);
        let mut reader = StackReader::new(&stack, Mode::Bits64);
        assert_eq!(reader.bytes_used(), 0);
        assert_eq!(reader.number(0x1010, 1), Some(16));
        assert_eq!(reader.bytes_used(), 17);
        assert_eq!(reader.number(0x1001, 2), Some(0x0201));
        assert_eq!(reader.bytes_used(), 17);
        assert_eq!(reader.word(0x1018), Some(0x1f1e_1d1c_1b1a_1918));
        assert_eq!(reader.bytes_used(), 32);
    }

    #[test]
    fn a_word_must_be_whole_to_be_read() {
        let bytes = [0; 12];
        let stack = stack(&bytes, false);
        let mut reader = StackReader::new(&stack, Mode::Bits64);
        for address in [0, 0xfff, 0x1005, 0x100c, u64::MAX] {
            assert_eq!(reader.word(address), None);
        }
        assert_eq!(reader.number(0x1000, 3), None);
        assert_eq!(reader.bytes_used(), 0);
    }

    #[test]
    fn only_bytes_above_a_cut_copy_are_called_truncated() {
        let bytes = [0; 16];
        let cut = stack(&bytes, true);
        let whole = stack(&bytes, false);
        assert_eq!(
            StackReader::new(&cut, Mode::Bits64).missing(0x1010),
            StopReason::Truncated { bytes: 16 }
        );
        for (stack, address) in [(&cut, 0xff8), (&cut, 1 << 63), (&whole, 0x1010)] {
            assert_eq!(
                StackReader::new(stack, Mode::Bits64).missing(address),
                StopReason::MissingBytes { address }
            );
        }
    }
}
