//! Read access to the stack bytes of one sample. Nothing else can be read during a walk.

use walker_common::StackKind;

use crate::classify::{Memory, WordSize};

/// The most segments: one for each kind of stack. A record of a sample has fewer.
pub const MAX_SEGMENTS: usize = StackKind::ALL.len();

/// Bytes that a CPU reads from memory together.
const CACHE_LINE: usize = 64;

/// A run of captured bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Segment<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl Segment<'_> {
    /// The word at `address`, if all its bytes are in this segment.
    #[inline]
    fn word<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        self.bytes.get(offset..)?.first_chunk().copied()
    }
}

/// The captured segments of one sample.
#[derive(Debug, Clone, Copy, Default)]
pub struct SampleMemory<'a> {
    segments: [Segment<'a>; MAX_SEGMENTS],
    used: usize,
}

impl<'a> SampleMemory<'a> {
    /// No bytes at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a segment. Those past [`MAX_SEGMENTS`] are dropped, which no context with one stack
    /// of each kind has.
    pub fn push(&mut self, segment: Segment<'a>) {
        if let Some(slot) = self.segments.get_mut(self.used) {
            *slot = segment;
            self.used += 1;
        }
    }

    /// The segments, in capture order.
    #[must_use]
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments[..self.used]
    }

    /// Reads a byte of every cache line, all at once: a walk would wait for one after the other,
    /// as each word tells it where the next one is.
    pub(super) fn warm(&self) {
        let lines = self
            .segments()
            .iter()
            .flat_map(|segment| segment.bytes.iter().step_by(CACHE_LINE));
        std::hint::black_box(lines.fold(0, |sum, byte| sum ^ byte));
    }

    /// The little-endian 64-bit word at `address`; `None` if any byte of it was not captured.
    #[inline]
    #[must_use]
    pub fn read_u64(&self, address: u64) -> Option<u64> {
        self.segments()
            .iter()
            .find_map(|segment| segment.word(address))
            .map(u64::from_le_bytes)
    }
}

impl Memory for SampleMemory<'_> {
    fn read_word(&self, address: u64, size: WordSize) -> Option<u64> {
        match size {
            WordSize::Eight => self.read_u64(address),
            WordSize::Four => self
                .segments()
                .iter()
                .find_map(|segment| segment.word(address))
                .map(|word| u64::from(u32::from_le_bytes(word))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SampleMemory, Segment};

    #[test]
    fn a_word_must_be_whole_to_be_read() {
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 2];
        let mut memory = SampleMemory::new();
        memory.push(Segment {
            address: 0x1000,
            bytes: &bytes,
        });
        assert_eq!(memory.read_u64(0x1000), Some(1));
        assert_eq!(memory.read_u64(0x1001), Some(2 << 56));
        assert_eq!(memory.read_u64(0x1002), None);
        assert_eq!(memory.read_u64(0xfff), None);
        assert_eq!(memory.read_u64(u64::MAX), None);
    }

    #[test]
    fn a_segment_at_the_top_of_the_address_space_does_not_wrap() {
        let bytes = [7; 8];
        let mut memory = SampleMemory::new();
        memory.push(Segment {
            address: u64::MAX - 7,
            bytes: &bytes,
        });
        assert_eq!(
            memory.read_u64(u64::MAX - 7),
            Some(u64::from_le_bytes(bytes))
        );
        assert_eq!(memory.read_u64(0), None);
    }
}
