//! x86 page tables: where a virtual address is in physical memory.
//!
//! Follows the Intel SDM, volume 3, chapter 4 ("Paging"). The tables are the crashed kernel's and
//! may hold anything: a walk takes as many reads as there are levels, whatever they say.

/// Bits of an entry that are the physical address.
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
/// The entry is in use.
const PRESENT: u64 = 1;
/// The entry maps a page here, rather than lead to the next level.
const LARGE: u64 = 1 << 7;
/// What it maps is not code.
const NO_EXECUTE: u64 = 1 << 63;

/// CR4: entries of 64 bits in a 32-bit kernel.
const CR4_PAE: u64 = 1 << 5;
/// CR4: five levels.
const CR4_LA57: u64 = 1 << 12;

/// How many levels there are, and how large an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PagingMode {
    /// 32 bits, two levels, 4 MiB pages.
    TwoLevel,
    /// 32 bits with physical address extension: three levels, 2 MiB pages.
    Pae,
    /// 64 bits, four levels, 2 MiB and 1 GiB pages.
    FourLevel,
    /// 64 bits, five levels.
    FiveLevel,
}

impl PagingMode {
    /// The mode of a machine of 64 (`long`) or 32 bits with this CR4.
    #[must_use]
    pub(super) const fn from_cr4(long: bool, cr4: u64) -> Self {
        match (long, cr4 & CR4_LA57 != 0, cr4 & CR4_PAE != 0) {
            (true, true, _) => Self::FiveLevel,
            (true, false, _) => Self::FourLevel,
            (false, _, true) => Self::Pae,
            (false, _, false) => Self::TwoLevel,
        }
    }

    /// The shift of the index into each table, from the root down.
    const fn shifts(self) -> &'static [u32] {
        match self {
            Self::TwoLevel => &[22, 12],
            Self::Pae => &[30, 21, 12],
            Self::FourLevel => &[39, 30, 21, 12],
            Self::FiveLevel => &[48, 39, 30, 21, 12],
        }
    }

    /// Whether an entry with this shift may map a page itself.
    const fn may_be_large(self, shift: u32) -> bool {
        matches!(
            (self, shift),
            (Self::TwoLevel, 22) | (_, 21) | (Self::FourLevel | Self::FiveLevel, 30)
        )
    }

    /// Whether pages can be marked as not code.
    #[must_use]
    pub(super) const fn has_no_execute(self) -> bool {
        !matches!(self, Self::TwoLevel)
    }
}

/// The tables of one address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageTables {
    /// Physical address of the root table.
    pub root: u64,
    /// Their form.
    pub mode: PagingMode,
}

/// Where an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Its physical address.
    pub physical: u64,
    /// Bytes from it to the end of its page.
    pub left: u64,
    /// Whether it can be code.
    pub executable: bool,
}

/// Why there is no physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The tables say that there is none for at least this many bytes from the address.
    NotPresent {
        /// Bytes to the end of what the entry stands for.
        left: u64,
    },
    /// A table is not in the core.
    Unreadable {
        /// Its entry's physical address.
        entry: u64,
        /// Bytes to the end of what the entry stands for.
        left: u64,
    },
}

impl PageTables {
    /// The tables at a CR3.
    #[must_use]
    pub(super) const fn at_cr3(cr3: u64, mode: PagingMode) -> Self {
        let root = match mode {
            PagingMode::TwoLevel => cr3 & 0xffff_f000,
            PagingMode::Pae => cr3 & 0xffff_ffe0,
            PagingMode::FourLevel | PagingMode::FiveLevel => cr3 & ADDRESS_MASK,
        };
        Self { root, mode }
    }

    /// Translates a virtual address. `read` gives the word of `size` bytes (4 or 8) at a physical
    /// address.
    ///
    /// # Errors
    /// If it is not mapped, or that cannot be told.
    pub(super) fn translate(
        &self,
        address: u64,
        mut read: impl FnMut(u64, usize) -> Option<u64>,
    ) -> Result<Mapping, Fault> {
        let (entry_bytes, index_mask) = match self.mode {
            PagingMode::TwoLevel => (4, 0x3ff),
            _ => (8, 0x1ff),
        };
        let mut table = self.root;
        let mut executable = true;
        for &shift in self.mode.shifts() {
            let size = 1u64 << shift;
            let left = size - (address & (size - 1));
            let index = match (self.mode, shift) {
                (PagingMode::Pae, 30) => (address >> shift) & 3,
                _ => (address >> shift) & index_mask,
            };
            let at = table + index * entry_bytes;
            let entry =
                read(at, entry_bytes as usize).ok_or(Fault::Unreadable { entry: at, left })?;
            if entry & PRESENT == 0 {
                return Err(Fault::NotPresent { left });
            }
            executable &= entry & NO_EXECUTE == 0;
            let large = shift != 12 && entry & LARGE != 0 && self.mode.may_be_large(shift);
            if large || shift == 12 {
                let page = match self.mode {
                    // A 4 MiB page's bits 32 to 39 are in bits 13 to 20 (PSE-36).
                    PagingMode::TwoLevel if large => {
                        (entry & 0xffc0_0000) | ((entry >> 13) & 0xff) << 32
                    }
                    _ => entry & ADDRESS_MASK & !(size - 1),
                };
                return Ok(Mapping {
                    physical: page + (address & (size - 1)),
                    left,
                    executable,
                });
            }
            table = entry & ADDRESS_MASK;
        }
        // Not reached: the last level has shift 12.
        Err(Fault::NotPresent { left: 1 })
    }
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
