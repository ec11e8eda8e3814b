//! The file header and the two tables it points at, as they are in a 64-bit file. Those of a 32-bit
//! file are read into the same form.

use object::elf;
use zerocopy::{
    FromBytes, Immutable, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use super::{
    ElfError,
    header32::{FileHeader32, SectionHeader32, SegmentHeader32},
    source::{Source, fill, read},
};
use crate::unwind::user::mode::Mode;

/// The most program headers; linkers write about a dozen.
const MAX_SEGMENTS: u64 = 128;
/// The most section headers.
const MAX_SECTIONS: u64 = 65_536;

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FileHeader {
    pub(super) ident: [u8; 16],
    pub(super) kind: U16,
    pub(super) machine: U16,
    pub(super) version: U32,
    pub(super) entry: U64,
    pub(super) segments_offset: U64,
    pub(super) sections_offset: U64,
    pub(super) flags: U32,
    pub(super) header_size: U16,
    pub(super) segment_size: U16,
    pub(super) segment_count: U16,
    pub(super) section_size: U16,
    pub(super) section_count: U16,
    pub(super) names_index: U16,
}

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SegmentHeader {
    pub(super) kind: U32,
    pub(super) flags: U32,
    pub(super) offset: U64,
    pub(super) address: U64,
    pub(super) physical: U64,
    pub(super) file_size: U64,
    pub(super) memory_size: U64,
    pub(super) align: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SectionHeader {
    pub(super) name: U32,
    pub(super) kind: U32,
    pub(super) flags: U64,
    pub(super) address: U64,
    pub(super) offset: U64,
    pub(super) size: U64,
    pub(super) link: U32,
    pub(super) info: U32,
    pub(super) align: U64,
    pub(super) entry_size: U64,
}

const _: () = assert!(size_of::<FileHeader>() == 64);
const _: () = assert!(size_of::<SegmentHeader>() == 56);
const _: () = assert!(size_of::<SectionHeader>() == 64);

impl FileHeader {
    /// Reads it and rejects what is no x86-64 or i386 program or library.
    pub(super) fn read(source: &(impl Source + ?Sized)) -> Result<Self, ElfError> {
        // The class is told before the rest is read: a 32-bit header is shorter.
        let mut ident = [0; 16];
        match source.size() {
            Ok(size) if size < ident.len() as u64 => return Err(ElfError::NotElf),
            _ => fill(source, "the ELF header", 0, &mut ident)?,
        }
        if ident[..4] != elf::ELFMAG {
            return Err(ElfError::NotElf);
        }
        let header = if ident[4] == elf::ELFCLASS32.0 {
            let mut bytes = [0; size_of::<FileHeader32>()];
            fill(source, "the ELF header", 0, &mut bytes)?;
            FileHeader32::read_from_bytes(&bytes).map(Self::from).ok()
        } else {
            let mut bytes = [0; size_of::<Self>()];
            fill(source, "the ELF header", 0, &mut bytes)?;
            Self::read_from_bytes(&bytes).ok()
        };
        let header = header.ok_or(ElfError::Malformed("the ELF header's size"))?;
        let machine = header.machine.get();
        if ident[5] != elf::ELFDATA2LSB.0 {
            return Err(ElfError::Machine(machine.swap_bytes()));
        }
        match (elf::FileClass(ident[4]), elf::Machine(machine)) {
            (elf::ELFCLASS64, elf::EM_X86_64) | (elf::ELFCLASS32, elf::EM_386) => {}
            (elf::ELFCLASS32, elf::EM_X86_64) => return Err(ElfError::X32),
            (elf::ELFCLASS64 | elf::ELFCLASS32, _) => return Err(ElfError::Machine(machine)),
            _ => return Err(ElfError::Malformed("neither of 32 nor of 64 bits")),
        }
        match elf::FileType(header.kind.get()) {
            elf::ET_EXEC | elf::ET_DYN => Ok(header),
            elf::FileType(other) => Err(ElfError::Type(other)),
        }
    }

    /// What code it has.
    pub(super) fn mode(&self) -> Mode {
        if self.ident[4] == elf::ELFCLASS32.0 {
            Mode::Bits32
        } else {
            Mode::Bits64
        }
    }

    /// Whether it is linked to run at any address.
    pub(super) fn is_dynamic(&self) -> bool {
        self.kind.get() == elf::ET_DYN.0
    }

    /// The program headers.
    pub(super) fn segments(
        &self,
        source: &(impl Source + ?Sized),
    ) -> Result<Vec<SegmentHeader>, ElfError> {
        let mut count = u64::from(self.segment_count.get());
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.segment_count.get() == elf::PN_XNUM {
            count = self.first_section(source)?.info.get().into();
        }
        let size = match self.mode() {
            Mode::Bits64 => size_of::<SegmentHeader>(),
            Mode::Bits32 => size_of::<SegmentHeader32>(),
        };
        if usize::from(self.segment_size.get()) != size {
            return Err(ElfError::Malformed("the size of a program header"));
        }
        let what = "the program headers";
        let offset = self.segments_offset.get();
        match self.mode() {
            Mode::Bits64 => table::<SegmentHeader, _>(source, what, offset, count, MAX_SEGMENTS),
            Mode::Bits32 => table::<SegmentHeader32, _>(source, what, offset, count, MAX_SEGMENTS),
        }
    }

    /// The section headers, none if there is no table, and the index of the one with the names.
    pub(super) fn sections(
        &self,
        source: &(impl Source + ?Sized),
    ) -> Result<(Vec<SectionHeader>, usize), ElfError> {
        let offset = self.sections_offset.get();
        if offset == 0 {
            return Ok((Vec::new(), 0));
        }
        let mut count = u64::from(self.section_count.get());
        let mut names = u32::from(self.names_index.get());
        if count == 0 || self.names_index.get() == elf::SHN_XINDEX.0 {
            let first = self.first_section(source)?;
            if count == 0 {
                count = first.size.get();
            }
            if self.names_index.get() == elf::SHN_XINDEX.0 {
                names = first.link.get();
            }
        }
        let sections = self.section_table(source, "the section headers", count, MAX_SECTIONS)?;
        Ok((sections, names as usize))
    }

    /// Section 0 holds the counts that do not fit into the file header.
    fn first_section(&self, source: &(impl Source + ?Sized)) -> Result<SectionHeader, ElfError> {
        let size = match self.mode() {
            Mode::Bits64 => size_of::<SectionHeader>(),
            Mode::Bits32 => size_of::<SectionHeader32>(),
        };
        if usize::from(self.section_size.get()) != size {
            return Err(ElfError::Malformed("the size of a section header"));
        }
        self.section_table(source, "the first section header", 1, 1)?
            .pop()
            .ok_or(ElfError::Malformed("no first section header"))
    }

    fn section_table(
        &self,
        source: &(impl Source + ?Sized),
        what: &'static str,
        count: u64,
        limit: u64,
    ) -> Result<Vec<SectionHeader>, ElfError> {
        let offset = self.sections_offset.get();
        match self.mode() {
            Mode::Bits64 => table::<SectionHeader, _>(source, what, offset, count, limit),
            Mode::Bits32 => table::<SectionHeader32, _>(source, what, offset, count, limit),
        }
    }
}

/// Reads `count` entries that are `T` in the file.
fn table<T: FromBytes, U: From<T>>(
    source: &(impl Source + ?Sized),
    what: &'static str,
    offset: u64,
    count: u64,
    limit: u64,
) -> Result<Vec<U>, ElfError> {
    if count > limit {
        return Err(ElfError::TooLarge {
            what,
            size: count,
            limit,
        });
    }
    let size = size_of::<T>() as u64;
    let bytes = read(source, what, offset, count * size, limit * size)?;
    bytes
        .chunks_exact(size_of::<T>())
        .map(|entry| T::read_from_bytes(entry).map(U::from))
        .map(|entry| entry.map_err(|_| ElfError::Malformed(what)))
        .collect()
}
