//! What is remembered of an ELF file without its contents.

use object::elf;

use super::{
    BuildId, ElfError,
    header::{FileHeader, SegmentHeader},
    notes,
    sections::{self, Sections},
    source::{Source, fill},
};
use crate::unwind::user::mode::Mode;

/// The size of pages, in which files are mapped.
const PAGE: u64 = 4096;

/// How a file is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfKind {
    /// To run at the addresses it names.
    Fixed,
    /// To run at any address: a library or a position-independent program.
    Relocatable,
}

/// A part of the file that is loaded into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSegment {
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// Bytes of it in the file.
    pub file_size: u64,
    /// Its link-time address.
    pub address: u64,
    /// Bytes of it in memory; those that are not in the file are zero.
    pub memory_size: u64,
    /// Whether it holds code.
    pub executable: bool,
}

/// Where `.eh_frame_hdr` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EhFrameHdr {
    /// Its link-time address.
    pub address: u64,
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

/// A section that the section headers name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionRange {
    /// Its link-time address; 0 if it is not loaded.
    pub address: u64,
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// Its bytes in the file.
    pub size: u64,
    /// Whether they are compressed.
    pub compressed: bool,
}

/// The separate debug file that a stripped file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugLink {
    /// The file's name, without a folder. The file may hold anything, so may this.
    pub name: Vec<u8>,
    /// The CRC-32 that the debug file should have.
    pub crc: u32,
}

/// The facts.
#[derive(Debug, Clone)]
pub struct ElfFacts {
    /// How it is linked.
    pub kind: ElfKind,
    /// What code it has.
    pub mode: Mode,
    /// The loaded parts in the order of the file's table.
    pub loads: Vec<LoadSegment>,
    /// Its build ID.
    pub build_id: Option<BuildId>,
    /// Where `.eh_frame_hdr` is, by the program headers.
    pub eh_frame_hdr: Option<EhFrameHdr>,
    /// Its separate debug file.
    pub debug_link: Option<DebugLink>,
    pub(super) sections: Sections,
}

impl ElfFacts {
    /// Reads them. Section headers that are broken are as good as none: what is needed to run the
    /// file is in the program headers.
    ///
    /// # Errors
    /// If it cannot be read, is no x86-64 or i386 program or library, or its program headers lie.
    pub fn read(source: &(impl Source + ?Sized)) -> Result<Self, ElfError> {
        let header = FileHeader::read(source)?;
        let segments = header.segments(source)?;
        let of_kind = |kind: elf::ProgramType| {
            segments
                .iter()
                .filter(move |segment| segment.kind.get() == kind.0)
        };
        let sections = sections::read(source, &header).unwrap_or_default();
        Ok(Self {
            kind: if header.is_dynamic() {
                ElfKind::Relocatable
            } else {
                ElfKind::Fixed
            },
            mode: header.mode(),
            loads: of_kind(elf::PT_LOAD).map(LoadSegment::new).collect(),
            build_id: notes::build_id(source, &segments),
            eh_frame_hdr: of_kind(elf::PT_GNU_EH_FRAME)
                .next()
                .map(|segment| EhFrameHdr {
                    address: segment.address.get(),
                    offset: segment.offset.get(),
                    size: segment.file_size.get(),
                }),
            debug_link: sections.debug_link(source),
            sections,
        })
    }

    /// The link-time address of a byte of the file. A segment of code wins over one of data, as
    /// what is asked for are instructions.
    #[must_use]
    pub fn file_offset_to_address(&self, offset: u64) -> Option<u64> {
        let address_in = |load: &LoadSegment| {
            let into = offset.checked_sub(load.offset)?;
            (into < load.file_size)
                .then(|| load.address.checked_add(into))
                .flatten()
        };
        let (code, data) = (true, false);
        [code, data].into_iter().find_map(|kind| {
            let mut loads = self.loads.iter().filter(|load| load.executable == kind);
            loads.find_map(address_in)
        })
    }

    /// The link-time address of a page of the file that is mapped: that of a segment begins before it
    /// where it does not begin with a page.
    #[must_use]
    pub fn address_of_page(&self, offset: u64) -> Option<u64> {
        let into_page = |load: &LoadSegment| load.offset % PAGE;
        self.file_offset_to_address(offset).or_else(|| {
            let mut loads = self.loads.iter();
            let load =
                loads.find(|load| load.offset.checked_sub(into_page(load)) == Some(offset))?;
            load.address.checked_sub(into_page(load))
        })
    }

    /// Reads the code from `address` (link-time) on into `buffer`. Returns how many bytes there
    /// are: less than asked for at the end of a segment.
    ///
    /// # Errors
    /// If the address is not in code that the file holds, or the file cannot be read.
    pub fn read_code(
        &self,
        source: &(impl Source + ?Sized),
        address: u64,
        buffer: &mut [u8],
    ) -> Result<usize, ElfError> {
        let loads = self.loads.iter().filter(|load| load.executable);
        let (offset, rest) = loads
            .filter_map(|load| {
                let into = address.checked_sub(load.address)?;
                let rest = load.file_size.checked_sub(into).filter(|rest| *rest > 0)?;
                Some((load.offset.checked_add(into)?, rest))
            })
            .next()
            .ok_or(ElfError::NoCode(address))?;
        let len = buffer
            .len()
            .min(usize::try_from(rest).unwrap_or(usize::MAX));
        fill(source, "code", offset, &mut buffer[..len])?;
        Ok(len)
    }
}

impl LoadSegment {
    fn new(segment: &SegmentHeader) -> Self {
        Self {
            offset: segment.offset.get(),
            file_size: segment.file_size.get(),
            address: segment.address.get(),
            memory_size: segment.memory_size.get(),
            executable: segment.flags.get() & elf::PF_X.0 != 0,
        }
    }
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
