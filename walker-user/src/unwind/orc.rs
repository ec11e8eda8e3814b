//! ORC tables: the four entry formats kernels have used, brought to one form, and the lookup.
//!
//! Where a table is found is not decided here. Formats: `arch/x86/include/asm/orc_types.h` and
//! `include/linux/objtool_types.h` of 6.1, 6.3, 6.4 to 6.18, and 7.1; lookup: `__orc_find()`,
//! `arch/x86/kernel/unwind_orc.c` (6.18).

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of one raw entry in every format: two offsets and the flags.
pub const RAW_ENTRY_BYTES: usize = 6;

/// The span of code one table may cover. The kernel image is mapped into less than this.
const MAX_SPAN: u64 = 1 << 30;

/// One lookup block covers this many bytes of code, as in the kernel.
const BLOCK_SHIFT: u32 = 8;

/// How the bits of an entry are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrcFormat {
    /// 4.14 to 5.11: two type bits, an end bit, and `SP_INDIRECT` adds its offset before the
    /// read.
    V1OffsetFirst,
    /// 5.12 to 6.2: the same bits, but `SP_INDIRECT` adds its offset after the read.
    V1,
    /// 6.3: two type bits, a signal bit, an end bit.
    V2,
    /// 6.4 to 7.0: three type bits and a signal bit.
    V3,
    /// 7.1 on: the bits of V3 with the registers renumbered.
    V4,
}

/// What a rule is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the registers are named by themselves")]
pub enum OrcRegister {
    /// Nothing: unchanged or unknown.
    Undefined,
    /// The CFA.
    PrevSp,
    Sp,
    Bp,
    /// The word at sp, plus the offset.
    SpIndirect,
    /// The word at sp plus the offset.
    SpIndirectOffsetFirst,
    /// The word at bp plus the offset.
    BpIndirect,
    Ax,
    Dx,
    Di,
    R10,
    R13,
    /// A number this format does not define.
    Invalid,
}

/// What an entry says of the frame's caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum OrcKind {
    /// This code cannot be unwound.
    Undefined,
    /// There is no caller.
    EndOfStack,
    /// A return address below the CFA.
    Call,
    /// A whole `struct pt_regs` at the CFA.
    Regs,
    /// An `iret` frame (the last five words of `struct pt_regs`) at the CFA.
    RegsPartial,
}

/// One entry, in the form of no particular kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrcEntry {
    /// Added to the stack register.
    pub sp_offset: i16,
    /// Added to the base of the saved frame pointer.
    pub bp_offset: i16,
    /// What the CFA is relative to.
    pub sp_reg: OrcRegister,
    /// Where the caller's frame pointer is.
    pub bp_reg: OrcRegister,
    /// What is at the CFA.
    pub kind: OrcKind,
    /// Whether the caller's address was interrupted rather than having made a call.
    pub signal: bool,
}

impl OrcEntry {
    /// What the kernel uses for code without an entry: a frame with a frame pointer
    /// (`orc_fp_entry`).
    pub const FRAME_POINTER: Self = Self {
        sp_offset: 16,
        bp_offset: -16,
        sp_reg: OrcRegister::Bp,
        bp_reg: OrcRegister::PrevSp,
        kind: OrcKind::Call,
        signal: false,
    };

    /// What the kernel uses when a call through a null pointer was interrupted
    /// (`null_orc_entry`): the return address is at sp.
    pub const RETURN_ADDRESS_AT_SP: Self = Self {
        sp_offset: 8,
        bp_offset: 0,
        sp_reg: OrcRegister::Sp,
        bp_reg: OrcRegister::Undefined,
        kind: OrcKind::Call,
        signal: false,
    };

    /// Decodes one raw entry.
    #[must_use]
    pub fn decode(raw: [u8; RAW_ENTRY_BYTES], format: OrcFormat) -> Self {
        let [sp_low, sp_high, bp_low, bp_high, flags_low, flags_high] = raw;
        let flags = u16::from_le_bytes([flags_low, flags_high]);
        let sp_reg = register((flags & 0xf) as u8, format);
        let bp_reg = register((flags >> 4 & 0xf) as u8, format);
        let (kind, signal) = match format {
            OrcFormat::V1OffsetFirst | OrcFormat::V1 => {
                let (kind, regs) = two_bit_kind(flags, flags & 1 << 10 != 0, sp_reg);
                (kind, regs)
            }
            OrcFormat::V2 => {
                let (kind, _) = two_bit_kind(flags, flags & 1 << 11 != 0, sp_reg);
                (kind, flags & 1 << 10 != 0)
            }
            OrcFormat::V3 | OrcFormat::V4 => {
                let kind = match flags >> 8 & 7 {
                    1 => OrcKind::EndOfStack,
                    2 => OrcKind::Call,
                    3 => OrcKind::Regs,
                    4 => OrcKind::RegsPartial,
                    _ => OrcKind::Undefined,
                };
                (kind, flags & 1 << 11 != 0)
            }
        };
        Self {
            sp_offset: i16::from_le_bytes([sp_low, sp_high]),
            bp_offset: i16::from_le_bytes([bp_low, bp_high]),
            sp_reg,
            bp_reg,
            kind,
            signal,
        }
    }
}

/// The kind in the formats with two type bits, where an undefined stack register says that there
/// is no caller; and whether the caller was interrupted, which V1 derives from the kind.
fn two_bit_kind(flags: u16, end: bool, sp_reg: OrcRegister) -> (OrcKind, bool) {
    if sp_reg == OrcRegister::Undefined {
        return if end {
            (OrcKind::EndOfStack, false)
        } else {
            (OrcKind::Undefined, false)
        };
    }
    match flags >> 8 & 3 {
        0 => (OrcKind::Call, false),
        1 => (OrcKind::Regs, true),
        2 => (OrcKind::RegsPartial, true),
        _ => (OrcKind::Undefined, false),
    }
}

/// The register a number stands for.
const fn register(number: u8, format: OrcFormat) -> OrcRegister {
    if matches!(format, OrcFormat::V4) {
        return match number {
            0 => OrcRegister::Undefined,
            1 => OrcRegister::Ax,
            2 => OrcRegister::Dx,
            3 => OrcRegister::Sp,
            4 => OrcRegister::Bp,
            5 => OrcRegister::Di,
            6 => OrcRegister::R10,
            7 => OrcRegister::R13,
            8 => OrcRegister::PrevSp,
            9 => OrcRegister::SpIndirect,
            10 => OrcRegister::BpIndirect,
            _ => OrcRegister::Invalid,
        };
    }
    match number {
        0 => OrcRegister::Undefined,
        1 => OrcRegister::PrevSp,
        2 => OrcRegister::Dx,
        3 => OrcRegister::Di,
        4 => OrcRegister::Bp,
        5 => OrcRegister::Sp,
        6 => OrcRegister::R10,
        7 => OrcRegister::R13,
        8 => OrcRegister::BpIndirect,
        9 if matches!(format, OrcFormat::V1OffsetFirst) => OrcRegister::SpIndirectOffsetFirst,
        9 => OrcRegister::SpIndirect,
        10 => OrcRegister::Ax,
        _ => OrcRegister::Invalid,
    }
}

/// Why bytes are not an ORC table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OrcError {
    /// No entries.
    #[error("the ORC table is empty")]
    Empty,
    /// The two arrays do not belong together.
    #[error("the ORC table has {ips} addresses but {entries} entries")]
    LengthMismatch {
        /// Addresses.
        ips: usize,
        /// Entries.
        entries: usize,
    },
    /// The addresses are not sorted.
    #[error("the ORC table is not sorted at entry {index}")]
    Unsorted {
        /// The first entry that is below its predecessor.
        index: usize,
    },
    /// The addresses are too far apart to be one image.
    #[error("the ORC table covers {span:#x} bytes of code, more than a kernel image can have")]
    SpanTooLarge {
        /// Bytes from the first to the last address.
        span: u64,
    },
}

/// A sorted table of entries for one image: the kernel or a module.
#[derive(Debug)]
pub struct OrcTable {
    base: u64,
    /// Offsets from `base` where each entry begins to hold.
    starts: Vec<u32>,
    entries: Vec<OrcEntry>,
    /// For each block of code, the number of entries that start before it.
    blocks: Vec<u32>,
}

impl OrcTable {
    /// Builds a table from the raw arrays as they are in memory: `ips` holds 32-bit
    /// displacements, each relative to its own address, the first of which is `ips_address`.
    ///
    /// # Errors
    /// If the arrays do not fit together or are not sorted. Modules' tables are sorted by the
    /// kernel when the module is loaded, the kernel's own at build time.
    pub fn from_raw(
        ips_address: u64,
        ips: &[u8],
        entries: &[u8],
        format: OrcFormat,
    ) -> Result<Self, OrcError> {
        let (ips, _) = ips.as_chunks::<4>();
        let (entries, _) = entries.as_chunks::<RAW_ENTRY_BYTES>();
        if ips.len() != entries.len() {
            return Err(OrcError::LengthMismatch {
                ips: ips.len(),
                entries: entries.len(),
            });
        }
        let address_of = |index: usize| {
            let displacement = i64::from(i32::from_le_bytes(ips[index]));
            ips_address
                .wrapping_add(4 * index as u64)
                .wrapping_add_signed(displacement)
        };
        if ips.is_empty() {
            return Err(OrcError::Empty);
        }
        let base = address_of(0);
        let mut starts = Vec::with_capacity(ips.len());
        let mut previous = base;
        for index in 0..ips.len() {
            let address = address_of(index);
            if address < previous {
                return Err(OrcError::Unsorted { index });
            }
            let span = address - base;
            let start = u32::try_from(span).ok().filter(|_| span < MAX_SPAN);
            starts.push(start.ok_or(OrcError::SpanTooLarge { span })?);
            previous = address;
        }
        let entries = entries
            .iter()
            .map(|raw| OrcEntry::decode(*raw, format))
            .collect();
        Ok(Self::new(base, starts, entries))
    }

    /// Builds a table from entries, each with the offset from `base` from which on it holds, in
    /// the order of offsets.
    ///
    /// # Errors
    /// If there are none, or they are not sorted or too far apart.
    pub fn from_entries(
        base: u64,
        entries: impl IntoIterator<Item = (u32, OrcEntry)>,
    ) -> Result<Self, OrcError> {
        let (starts, entries): (Vec<u32>, Vec<OrcEntry>) = entries.into_iter().unzip();
        let Some(&last) = starts.last() else {
            return Err(OrcError::Empty);
        };
        if let Some(index) = starts.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(OrcError::Unsorted { index: index + 1 });
        }
        let span = u64::from(last);
        if span >= MAX_SPAN || base.checked_add(span).is_none() {
            return Err(OrcError::SpanTooLarge { span });
        }
        Ok(Self::new(base, starts, entries))
    }

    /// A table of entries that were checked.
    fn new(base: u64, starts: Vec<u32>, entries: Vec<OrcEntry>) -> Self {
        let blocks = index_blocks(&starts);
        Self {
            base,
            starts,
            entries,
            blocks,
        }
    }

    /// All entries, each with the offset from [`OrcTable::begin`] from which on it holds.
    pub fn entries(&self) -> impl Iterator<Item = (u32, OrcEntry)> + '_ {
        self.starts
            .iter()
            .copied()
            .zip(self.entries.iter().copied())
    }

    /// The entry that holds at `ip`: the last of those that start at or below it. `None` outside
    /// the range from the first to the last start.
    #[inline]
    #[must_use]
    pub fn find(&self, ip: u64) -> Option<OrcEntry> {
        self.entries.get(self.index_of(ip)?).copied()
    }

    /// Like [`OrcTable::find`], with the address from which on the entry holds.
    #[must_use]
    pub fn find_with_start(&self, ip: u64) -> Option<(u64, OrcEntry)> {
        let index = self.index_of(ip)?;
        let start = self.base + u64::from(*self.starts.get(index)?);
        Some((start, *self.entries.get(index)?))
    }

    #[inline]
    fn index_of(&self, ip: u64) -> Option<usize> {
        let offset = u32::try_from(ip.checked_sub(self.base)?).ok()?;
        let block = (offset >> BLOCK_SHIFT) as usize;
        let low = *self.blocks.get(block)? as usize;
        let high = *self.blocks.get(block + 1)? as usize;
        let within = self.starts[low..high].partition_point(|start| *start <= offset);
        (low + within).checked_sub(1)
    }

    /// First address covered.
    #[must_use]
    pub const fn begin(&self) -> u64 {
        self.base
    }

    /// First address not covered: the start of the last entry, which is a terminator.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.base + u64::from(self.starts.last().copied().unwrap_or(0))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never true: a table without entries is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// For each block, and one past the last, how many entries start before it.
fn index_blocks(starts: &[u32]) -> Vec<u32> {
    let last_block = starts.last().map_or(0, |last| last >> BLOCK_SHIFT);
    let mut blocks = Vec::with_capacity(last_block as usize + 2);
    let mut index = 0;
    for block in 0..=u64::from(last_block) + 1 {
        while starts
            .get(index)
            .is_some_and(|start| u64::from(*start) < block << BLOCK_SHIFT)
        {
            index += 1;
        }
        blocks.push(index as u32);
    }
    blocks
}

#[cfg(test)]
#[path = "orc_tests.rs"]
mod tests;
