//! The unwind information of one object file: finds the entry for an address and runs its program
//! up to there.
//!
//! gimli parses what is in an entry. This module decides which entry, and sees to it that neither
//! that nor the program takes long, whatever the sections hold. What a row means is the job of
//! `rule` and `row`.

use gimli::{
    BaseAddresses, DebugFrame, EhFrame, EndianSlice, FrameDescriptionEntry, LittleEndian, Register,
    RegisterRule, UnwindContext, UnwindContextStorage, UnwindOffset, UnwindSection, UnwindTableRow,
};

use super::{
    header::HeaderTable,
    sections::{CfiSections, Section},
};

/// Longest augmentation string that is looked at. Those in use have up to six characters.
const MAX_AUGMENTATION: usize = 12;
/// Most entries that are tried for one address where several begin before it.
const MAX_CANDIDATES: usize = 4;
/// What a lookup costs besides the bytes of the program it runs.
const LOOKUP_COST: u32 = 64;

type Reader<'a> = EndianSlice<'a, LittleEndian>;
type Fde<'a> = FrameDescriptionEntry<Reader<'a>>;

/// Room for the rows of a running program: enough for every register of x86-64 that compilers
/// write rules for, and more nesting than any of them uses.
#[derive(Debug)]
pub(super) struct RowStorage;

impl UnwindContextStorage<usize> for RowStorage {
    type Rules = [(Register, RegisterRule<usize>); 40];
    type Stack = Box<[UnwindTableRow<usize, Self>; 6]>;
}

/// Where rows are made. Allocated once and used for every lookup.
pub(super) type RowContext = UnwindContext<usize, RowStorage>;

/// Why an object's unwind information cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum CfiError {
    /// There is none.
    #[error("the object has neither .eh_frame nor .debug_frame")]
    NoSection,
    /// A section is too long for its entries to be numbered.
    #[error("{section} is {bytes} bytes long, which no unwind section of real code is")]
    TooLong {
        /// Its name.
        section: &'static str,
        /// Its length.
        bytes: usize,
    },
}

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

/// How to unwind the frame of one address.
#[derive(Debug)]
pub(super) struct Row<'t, 'c> {
    /// The rules.
    pub(super) rules: &'c UnwindTableRow<usize, RowStorage>,
    /// The section that the rules' expressions are in.
    pub(super) section: &'t [u8],
    /// Whether the code runs on top of a signal frame, so that its caller was interrupted.
    pub(super) signal: bool,
    /// The register whose rule finds the return address.
    pub(super) return_column: Register,
}

impl<'t> Row<'t, '_> {
    /// The bytes of one of the rules' expressions.
    pub(super) fn expression(
        &self,
        expression: &gimli::UnwindExpression<usize>,
    ) -> Option<&'t [u8]> {
        let rest = self.section.get(expression.offset..)?;
        rest.get(..expression.length)
    }
}

/// An entry of an index that was made here.
#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    /// The first address of the code.
    code: u64,
    /// Bytes of code.
    length: u32,
    /// Where the FDE is in its section.
    fde: u32,
}

/// The FDEs of a section, sorted by address.
#[derive(Debug)]
struct FdeIndex(Vec<IndexEntry>);

impl FdeIndex {
    /// Reads every FDE once. Those that cannot be parsed are left out, and what follows an entry
    /// whose length is wrong cannot be found.
    fn new<'t, S>(section: &S, bytes: &'t [u8], bases: &BaseAddresses) -> Self
    where
        S: UnwindSection<Reader<'t>>,
    {
        let mut entries = Vec::new();
        let mut offset = 0;
        while let Some(end) = entry_end(bytes, offset) {
            // Code that the linker dropped is left at address 0.
            if let Ok(fde) = parse_fde(section, bytes, bases, offset)
                && fde.initial_address() != 0
                && let Ok(length @ 1..) = u32::try_from(fde.len())
                && let Ok(fde_offset) = u32::try_from(offset)
            {
                entries.push(IndexEntry {
                    code: fde.initial_address(),
                    length,
                    fde: fde_offset,
                });
            }
            offset = end;
        }
        entries.sort_unstable_by_key(|entry| (entry.code, entry.fde));
        entries.shrink_to_fit();
        Self(entries)
    }

    fn candidates(&self, address: u64) -> impl Iterator<Item = usize> + use<'_> {
        let after = self.0.partition_point(|entry| entry.code <= address);
        let before = self.0.get(..after).unwrap_or_default();
        let near = before.iter().rev().take(MAX_CANDIDATES);
        near.filter(move |entry| address - entry.code < u64::from(entry.length))
            .filter_map(|entry| usize::try_from(entry.fde).ok())
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<IndexEntry>()
    }
}

/// How the entries of `.eh_frame` are found.
#[derive(Debug)]
enum EhFrameIndex {
    Header(HeaderTable),
    Own(FdeIndex),
}

/// What an object file says of how to unwind its code, ready to be asked.
#[derive(Debug)]
pub struct CfiTables {
    sections: CfiSections,
    eh_bases: BaseAddresses,
    debug_bases: BaseAddresses,
    eh_index: Option<EhFrameIndex>,
    debug_index: Option<FdeIndex>,
}

impl CfiTables {
    /// Makes the sections of one object ready. Unless `.eh_frame_hdr` has a usable table this
    /// reads all of `.eh_frame`, and in any case all of `.debug_frame`; the index made of a
    /// section is at most a third longer than the section.
    ///
    /// # Errors
    ///
    /// If there is no section to use, or one is longer than 4 GiB. Sections that are malformed
    /// are no error here: what can be found in them is used, and lookups tell the rest.
    pub fn new(sections: CfiSections) -> Result<Self, CfiError> {
        if sections.eh_frame.is_none() && sections.debug_frame.is_none() {
            return Err(CfiError::NoSection);
        }
        for (name, section) in [
            (".eh_frame", &sections.eh_frame),
            (".debug_frame", &sections.debug_frame),
        ] {
            if let Some(section) = section
                && u32::try_from(section.bytes.len()).is_err()
            {
                return Err(CfiError::TooLong {
                    section: name,
                    bytes: section.bytes.len(),
                });
            }
        }
        let mut debug_bases = BaseAddresses::default();
        if let Some(text) = sections.text {
            debug_bases = debug_bases.set_text(text);
        }
        if let Some(got) = sections.got {
            debug_bases = debug_bases.set_got(got);
        }
        let mut eh_bases = debug_bases.clone();
        if let Some(eh_frame) = &sections.eh_frame {
            eh_bases = eh_bases.set_eh_frame(eh_frame.address);
        }
        let eh_index = sections.eh_frame.as_ref().map(|eh_frame| {
            let header = sections.eh_frame_hdr.as_ref();
            let table = header.and_then(|header| HeaderTable::parse(header, eh_frame.address));
            match table {
                Some(table) => EhFrameIndex::Header(table),
                None => EhFrameIndex::Own(FdeIndex::new(
                    &EhFrame::new(&eh_frame.bytes, LittleEndian),
                    &eh_frame.bytes,
                    &eh_bases,
                )),
            }
        });
        let debug_index = sections.debug_frame.as_ref().map(|section| {
            FdeIndex::new(
                &DebugFrame::new(&section.bytes, LittleEndian),
                &section.bytes,
                &debug_bases,
            )
        });
        Ok(Self {
            sections,
            eh_bases,
            debug_bases,
            eh_index,
            debug_index,
        })
    }

    /// Bytes held: the sections and what was made of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let eh_index = match &self.eh_index {
            Some(EhFrameIndex::Own(index)) => index.bytes(),
            Some(EhFrameIndex::Header(_)) | None => 0,
        };
        let debug_index = self.debug_index.as_ref().map_or(0, FdeIndex::bytes);
        self.sections.bytes() + eh_index + debug_index
    }

    /// The row for the code at `address`, as linked; `None` if there is none. `budget` is how many
    /// bytes of programs may still be run, and is reduced by what this lookup runs.
    pub(super) fn row<'t, 'c>(
        &'t self,
        address: u64,
        context: &'c mut RowContext,
        budget: &mut u32,
    ) -> Result<Option<Row<'t, 'c>>, NoRow> {
        if let Some(bytes) = self
            .sections
            .eh_frame
            .as_ref()
            .map(|section| &section.bytes)
        {
            let section = EhFrame::new(bytes, LittleEndian);
            if let Some(fde) = self.eh_fde(&section, address)? {
                return run(
                    &section,
                    bytes,
                    &self.eh_bases,
                    &fde,
                    address,
                    context,
                    budget,
                )
                .map(Some);
            }
        }
        if let Some(bytes) = self
            .sections
            .debug_frame
            .as_ref()
            .map(|section| &section.bytes)
            && let Some(index) = &self.debug_index
        {
            let section = DebugFrame::new(bytes, LittleEndian);
            let bases = &self.debug_bases;
            for offset in index.candidates(address) {
                let fde = parse_fde(&section, bytes, bases, offset)?;
                if fde.contains(address) {
                    return run(&section, bytes, bases, &fde, address, context, budget).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The FDE in `.eh_frame` that covers `address`.
    fn eh_fde<'t>(
        &'t self,
        section: &EhFrame<Reader<'t>>,
        address: u64,
    ) -> Result<Option<Fde<'t>>, NoRow> {
        let Some(eh_frame) = &self.sections.eh_frame else {
            return Ok(None);
        };
        let parse = |offset| parse_fde(section, &eh_frame.bytes, &self.eh_bases, offset);
        let covers = |fde: &Fde<'_>| fde.contains(address);
        match (&self.eh_index, &self.sections.eh_frame_hdr) {
            (Some(EhFrameIndex::Own(index)), _) => {
                for offset in index.candidates(address) {
                    let fde = parse(offset)?;
                    if covers(&fde) {
                        return Ok(Some(fde));
                    }
                }
            }
            (Some(EhFrameIndex::Header(table)), Some(header)) => {
                for fde in table.candidates(header, address).take(MAX_CANDIDATES) {
                    let offset = offset_in(eh_frame, fde).ok_or(NoRow::Malformed)?;
                    let fde = parse(offset)?;
                    if covers(&fde) {
                        return Ok(Some(fde));
                    }
                }
            }
            _ => {}
        }
        Ok(None)
    }
}

/// Where in a section an address is.
fn offset_in(section: &Section, address: u64) -> Option<usize> {
    let offset = usize::try_from(address.checked_sub(section.address)?).ok()?;
    (offset < section.bytes.len()).then_some(offset)
}

/// Where the entry at `offset` ends; `None` if it is not all there. An entry without length, which
/// ends `.eh_frame` but may stand between two parts that were linked together, is one too.
fn entry_end(bytes: &[u8], offset: usize) -> Option<usize> {
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
fn parse_fde<'t, S>(
    section: &S,
    bytes: &'t [u8],
    bases: &BaseAddresses,
    offset: usize,
) -> Result<Fde<'t>, NoRow>
where
    S: UnwindSection<Reader<'t>>,
{
    let partial = section.partial_fde_from_offset(bases, S::Offset::from(offset))?;
    let cie = UnwindOffset::into(partial.cie_offset());
    check_augmentation(bytes, cie)?;
    let fde = partial.parse(UnwindSection::cie_from_offset)?;
    if fde.cie().address_size() != 8 {
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

/// Runs the program of `fde` up to `address`, which it covers.
fn run<'t, 'c, S>(
    section: &S,
    bytes: &'t [u8],
    bases: &BaseAddresses,
    fde: &Fde<'t>,
    address: u64,
    context: &'c mut RowContext,
    budget: &mut u32,
) -> Result<Row<'t, 'c>, NoRow>
where
    S: UnwindSection<Reader<'t>>,
{
    let programs = fde.entry_len().saturating_add(fde.cie().entry_len());
    let cost = u32::try_from(programs).unwrap_or(u32::MAX);
    *budget = budget
        .checked_sub(cost.saturating_add(LOOKUP_COST))
        .ok_or(NoRow::Budget)?;
    let rules = fde.unwind_info_for_address(section, bases, context, address)?;
    Ok(Row {
        rules,
        section: bytes,
        signal: fde.is_signal_trampoline(),
        return_column: fde.cie().return_address_register(),
    })
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
