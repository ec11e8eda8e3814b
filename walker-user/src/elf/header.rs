//! The file header and the two tables it points at, as they are in the file.

use object::elf;
use zerocopy::{
    FromBytes, Immutable, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use super::{
    ElfError,
    source::{Source, fill, read},
};

/// The most program headers; linkers write about a dozen.
const MAX_SEGMENTS: u64 = 128;
/// The most section headers.
const MAX_SECTIONS: u64 = 65_536;

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FileHeader {
    ident: [u8; 16],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U64,
    segments_offset: U64,
    sections_offset: U64,
    flags: U32,
    header_size: U16,
    segment_size: U16,
    segment_count: U16,
    section_size: U16,
    section_count: U16,
    names_index: U16,
}

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SegmentHeader {
    pub(super) kind: U32,
    pub(super) flags: U32,
    pub(super) offset: U64,
    pub(super) address: U64,
    physical: U64,
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
    align: U64,
    entry_size: U64,
}

const _: () = assert!(size_of::<FileHeader>() == 64);
const _: () = assert!(size_of::<SegmentHeader>() == 56);
const _: () = assert!(size_of::<SectionHeader>() == 64);

impl FileHeader {
    /// Reads it and rejects what is no x86-64 program or library.
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
        if ident[4] == elf::ELFCLASS32.0 {
            return Err(ElfError::Class32);
        }
        let mut bytes = [0; size_of::<Self>()];
        fill(source, "the ELF header", 0, &mut bytes)?;
        let header = Self::read_from_bytes(&bytes)
            .map_err(|_| ElfError::Malformed("the ELF header's size"))?;
        let machine = header.machine.get();
        if ident[5] != elf::ELFDATA2LSB.0 {
            return Err(ElfError::Machine(machine.swap_bytes()));
        }
        if ident[4] != elf::ELFCLASS64.0 {
            return Err(ElfError::Malformed("neither of 32 nor of 64 bits"));
        }
        if machine != elf::EM_X86_64.0 {
            return Err(ElfError::Machine(machine));
        }
        match elf::FileType(header.kind.get()) {
            elf::ET_EXEC | elf::ET_DYN => Ok(header),
            elf::FileType(other) => Err(ElfError::Type(other)),
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
        if usize::from(self.segment_size.get()) != size_of::<SegmentHeader>() {
            return Err(ElfError::Malformed("the size of a program header"));
        }
        let what = "the program headers";
        let offset = self.segments_offset.get();
        table(source, what, offset, count, MAX_SEGMENTS)
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
        let sections = table(source, "the section headers", offset, count, MAX_SECTIONS)?;
        Ok((sections, names as usize))
    }

    /// Section 0 holds the counts that do not fit into the file header.
    fn first_section(&self, source: &(impl Source + ?Sized)) -> Result<SectionHeader, ElfError> {
        if usize::from(self.section_size.get()) != size_of::<SectionHeader>() {
            return Err(ElfError::Malformed("the size of a section header"));
        }
        let offset = self.sections_offset.get();
        table(source, "the first section header", offset, 1, 1)?
            .pop()
            .ok_or(ElfError::Malformed("no first section header"))
    }
}

fn table<T: FromBytes>(
    source: &(impl Source + ?Sized),
    what: &'static str,
    offset: u64,
    count: u64,
    limit: u64,
) -> Result<Vec<T>, ElfError> {
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
        .map(|entry| T::read_from_bytes(entry).map_err(|_| ElfError::Malformed(what)))
        .collect()
}
