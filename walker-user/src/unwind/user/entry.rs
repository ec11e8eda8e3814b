//! One entry of an unwind section, parsed in a time that does not depend on what is in it.
//!
//! gimli does the parsing; what it would read at any length is checked before.

use gimli::{
    BaseAddresses, EndianSlice, FrameDescriptionEntry, LittleEndian, UnwindOffset, UnwindSection,
};

use super::mode::Mode;

/// Longest augmentation string that is looked at. Those in use have up to six characters.
const MAX_AUGMENTATION: usize = 12;

pub(super) type Reader<'a> = EndianSlice<'a, LittleEndian>;
pub(super) type Fde<'a> = FrameDescriptionEntry<Reader<'a>>;

/// Why there is no row for an address that has unwind information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRow {
    /// The information is malformed.
    Malformed,
    /// Its program is longer than what is left of the walk's budget.
    Budget,
}

impl From<gimli::Error> for NoRow {
    fn from(_: gimli::Error) -> Self {
        Self::Malformed
    }
}

/// Where the entry at `offset` ends; `None` if it is not all there. An entry without length, which
/// ends `.eh_frame` but may stand between two parts that were linked together, is one too.
pub(super) fn entry_end(bytes: &[u8], offset: usize) -> Option<usize> {
    let (begin, length) = entry_length(bytes, offset)?;
    let end = begin.checked_add(length)?;
    (end <= bytes.len()).then_some(end)
}

/// Where the entry at `offset` begins behind its length, and that length.
fn entry_length(bytes: &[u8], offset: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(offset..)?;
    let (length, rest) = rest.split_first_chunk()?;
    match u32::from_le_bytes(*length) {
        u32::MAX => {
            let length = u64::from_le_bytes(*rest.first_chunk()?);
            Some((offset + 12, usize::try_from(length).ok()?))
        }
        length => Some((offset + 4, usize::try_from(length).ok()?)),
    }
}

/// Parses an FDE with its CIE, which takes the same short time whatever they hold.
pub(super) fn parse_fde<'t, S>(
    section: &S,
    bytes: &'t [u8],
    bases: &BaseAddresses,
    offset: usize,
    mode: Mode,
) -> Result<Fde<'t>, NoRow>
where
    S: UnwindSection<Reader<'t>>,
{
    let partial = section.partial_fde_from_offset(bases, S::Offset::from(offset))?;
    let cie = UnwindOffset::into(partial.cie_offset());
    check_augmentation(bytes, cie)?;
    let fde = partial.parse(UnwindSection::cie_from_offset)?;
    if fde.cie().address_size() != mode.word_bytes() {
        return Err(NoRow::Malformed);
    }
    Ok(fde)
}

/// Makes sure that the augmentation string of a CIE is short, as gimli reads all of it.
fn check_augmentation(bytes: &[u8], cie: usize) -> Result<(), NoRow> {
    let (begin, _) = entry_length(bytes, cie).ok_or(NoRow::Malformed)?;
    // The string follows the CIE's ID, of 8 bytes in a 64-bit `.debug_frame`, and the version.
    let window = bytes.get(begin..).unwrap_or_default();
    let window = window.get(..window.len().min(8 + 1 + MAX_AUGMENTATION));
    let string = window
        .and_then(|window| window.get(4 + 1..))
        .ok_or(NoRow::Malformed)?;
    if string.contains(&0) {
        Ok(())
    } else {
        Err(NoRow::Malformed)
    }
}
