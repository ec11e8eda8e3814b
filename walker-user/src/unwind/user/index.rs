//! The FDEs of a section in the order of their code, for sections that come without such a table.

use gimli::{BaseAddresses, UnwindSection};

use super::{
    entry::{Reader, entry_end, parse_fde},
    mode::Mode,
};

/// Most entries that are tried for one address where several begin before it.
pub(super) const MAX_CANDIDATES: usize = 4;

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
pub(super) struct FdeIndex(Vec<IndexEntry>);

impl FdeIndex {
    /// Reads every FDE once. Those that cannot be parsed are left out, and what follows an entry
    /// whose length is wrong cannot be found.
    pub(super) fn new<'t, S>(
        section: &S,
        bytes: &'t [u8],
        bases: &BaseAddresses,
        mode: Mode,
    ) -> Self
    where
        S: UnwindSection<Reader<'t>>,
    {
        let mut entries = Vec::new();
        let mut offset = 0;
        while let Some(end) = entry_end(bytes, offset) {
            // Code that the linker dropped is left at address 0.
            if let Ok(fde) = parse_fde(section, bytes, bases, offset, mode)
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

    pub(super) fn candidates(&self, address: u64) -> impl Iterator<Item = usize> + use<'_> {
        let after = self.0.partition_point(|entry| entry.code <= address);
        let before = self.0.get(..after).unwrap_or_default();
        let near = before.iter().rev().take(MAX_CANDIDATES);
        near.filter(move |entry| address - entry.code < u64::from(entry.length))
            .filter_map(|entry| usize::try_from(entry.fde).ok())
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<IndexEntry>()
    }
}
