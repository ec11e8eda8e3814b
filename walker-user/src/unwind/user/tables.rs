//! The unwind information of one object file: finds the entry for an address and runs its program
//! up to there.
//!
//! This module decides which entry, and sees to it that its program does not take long, whatever
//! the sections hold. Parsing an entry is the job of `entry`; what a row means, that of `rule` and
//! `row`.

use gimli::{
    BaseAddresses, DebugFrame, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindContextStorage, UnwindSection, UnwindTableRow,
};

use super::{
    entry::{Fde, NoRow, Reader, parse_fde},
    header::HeaderTable,
    index::{FdeIndex, MAX_CANDIDATES},
    mode::Mode,
    sections::{CfiSections, Section},
};

/// What a lookup costs besides the bytes of the program it runs.
const LOOKUP_COST: u32 = 64;

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
    /// What the registers' numbers mean.
    pub(super) mode: Mode,
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
        let nothing = sections.eh_frame.is_none() && sections.debug_frame.is_none();
        if nothing && sections.stack_switches.is_empty() {
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
                    &eh_section(&eh_frame.bytes, sections.mode),
                    &eh_frame.bytes,
                    &eh_bases,
                    sections.mode,
                )),
            }
        });
        let debug_index = sections.debug_frame.as_ref().map(|section| {
            FdeIndex::new(
                &debug_section(&section.bytes, sections.mode),
                &section.bytes,
                &debug_bases,
                sections.mode,
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

    /// What code the object has.
    #[inline]
    pub(super) fn mode(&self) -> Mode {
        self.sections.mode
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

    /// Whether the function at `address`, as linked, switches stacks without its rows saying so.
    pub(super) fn switches_stacks(&self, address: u64) -> bool {
        let ranges = &self.sections.stack_switches;
        let after = ranges.partition_point(|range| range.start <= address);
        let last = after.checked_sub(1).and_then(|last| ranges.get(last));
        last.is_some_and(|range| range.contains(&address))
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
            let section = eh_section(bytes, self.sections.mode);
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
            let section = debug_section(bytes, self.sections.mode);
            let bases = &self.debug_bases;
            for offset in index.candidates(address) {
                let fde = parse_fde(&section, bytes, bases, offset, self.sections.mode)?;
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
        let parse = |offset| {
            let mode = self.sections.mode;
            parse_fde(section, &eh_frame.bytes, &self.eh_bases, offset, mode)
        };
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

fn eh_section(bytes: &[u8], mode: Mode) -> EhFrame<Reader<'_>> {
    let mut section = EhFrame::new(bytes, LittleEndian);
    section.set_address_size(mode.word_bytes());
    section
}

fn debug_section(bytes: &[u8], mode: Mode) -> DebugFrame<Reader<'_>> {
    let mut section = DebugFrame::new(bytes, LittleEndian);
    section.set_address_size(mode.word_bytes());
    section
}

fn mode_of(address_size: u8) -> Mode {
    if address_size == Mode::Bits32.word_bytes() {
        Mode::Bits32
    } else {
        Mode::Bits64
    }
}

/// Where in a section an address is.
fn offset_in(section: &Section, address: u64) -> Option<usize> {
    let offset = usize::try_from(address.checked_sub(section.address)?).ok()?;
    (offset < section.bytes.len()).then_some(offset)
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
        mode: mode_of(fde.cie().address_size()),
    })
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
