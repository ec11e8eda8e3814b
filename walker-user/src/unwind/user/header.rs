//! The sorted table in `.eh_frame_hdr`, in the one encoding that linkers write.
//!
//! What it says is a hint: whoever uses it checks the entry it leads to. Parsed here rather than
//! by gimli, which computes with its numbers unchecked.

use super::sections::Section;

/// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`, `DW_EH_PE_udata4`, `DW_EH_PE_datarel | DW_EH_PE_sdata4`:
/// how the pointer to `.eh_frame`, the number of entries and the entries are encoded.
const ENCODINGS: [u8; 3] = [0x1b, 0x03, 0x3b];
/// Version, encodings, pointer and number.
const TABLE_OFFSET: usize = 12;
/// A code address and the address of its FDE, both relative to the section.
const ENTRY_BYTES: usize = 8;

/// The size of a table that was found to be usable.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderTable {
    entries: usize,
}

impl HeaderTable {
    /// The table of `header`, if it is of the usual form, belongs to an `.eh_frame` at
    /// `eh_frame`, lies in the section and is sorted.
    pub(super) fn parse(header: &Section, eh_frame: u64) -> Option<Self> {
        let (fixed, entries) = header.bytes.split_first_chunk::<TABLE_OFFSET>()?;
        let [1, a, b, c, p0, p1, p2, p3, n0, n1, n2, n3] = *fixed else {
            return None;
        };
        // The pointer is relative to itself, which is at offset 4.
        let pointer = i64::from(i32::from_le_bytes([p0, p1, p2, p3])) + 4;
        let points_to = header.address.wrapping_add_signed(pointer);
        let count = usize::try_from(u32::from_le_bytes([n0, n1, n2, n3])).ok()?;
        if [a, b, c] != ENCODINGS || points_to != eh_frame || count == 0 {
            return None;
        }
        let entries = entries.get(..count.checked_mul(ENTRY_BYTES)?)?;
        entries
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| number(entry, 0))
            .is_sorted()
            .then_some(Self { entries: count })
    }

    /// The addresses of the FDEs that may cover `address`, best first: of the last entry that is
    /// not above it, and of those with the same code address. `header` is the section that was
    /// parsed.
    pub(super) fn candidates(
        self,
        header: &Section,
        address: u64,
    ) -> impl Iterator<Item = u64> + use<'_> {
        let base = header.address;
        let entry = move |index: usize| {
            let at = TABLE_OFFSET + index * ENTRY_BYTES;
            let bytes = header.bytes.get(at..at + ENTRY_BYTES)?;
            Some((number(bytes, 0), number(bytes, 4)))
        };
        // Nothing linked reaches further from its tables than the table's numbers can say.
        let wanted = i32::try_from(address.wrapping_sub(base).cast_signed()).ok();
        let (mut low, mut high) = (0, self.entries);
        while let Some(wanted) = wanted
            && low < high
        {
            let middle = low + (high - low) / 2;
            match entry(middle) {
                Some((code, _)) if code <= wanted => low = middle + 1,
                _ => high = middle,
            }
        }
        let best = low.checked_sub(1).filter(|_| wanted.is_some());
        let code = best.and_then(entry).map(|(code, _)| code);
        let indices = (0..best.map_or(0, |best| best + 1)).rev();
        indices
            .map_while(entry)
            .take_while(move |(of, _)| Some(*of) == code)
            .map(move |(_, fde)| base.wrapping_add_signed(i64::from(fde)))
    }
}

/// The signed 32-bit number at this offset; 0 if it is not there, which its callers rule out.
fn number(bytes: &[u8], offset: usize) -> i32 {
    let bytes = bytes.get(offset..).and_then(|bytes| bytes.first_chunk());
    bytes.copied().map_or(0, i32::from_le_bytes)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
