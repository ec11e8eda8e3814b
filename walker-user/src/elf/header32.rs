//! The headers of 32-bit files (`ELFCLASS32`), which are turned into those of 64-bit ones: only the
//! width and the order of their fields differ.

use zerocopy::{
    FromBytes, Immutable, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use super::header::{FileHeader, SectionHeader, SegmentHeader};

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FileHeader32 {
    ident: [u8; 16],
    kind: U16,
    machine: U16,
    version: U32,
    entry: U32,
    segments_offset: U32,
    sections_offset: U32,
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
pub(super) struct SegmentHeader32 {
    kind: U32,
    offset: U32,
    address: U32,
    physical: U32,
    file_size: U32,
    memory_size: U32,
    flags: U32,
    align: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SectionHeader32 {
    name: U32,
    kind: U32,
    flags: U32,
    address: U32,
    offset: U32,
    size: U32,
    link: U32,
    info: U32,
    align: U32,
    entry_size: U32,
}

const _: () = assert!(size_of::<FileHeader32>() == 52);
const _: () = assert!(size_of::<SegmentHeader32>() == 32);
const _: () = assert!(size_of::<SectionHeader32>() == 40);

fn wide(number: U32) -> U64 {
    U64::new(number.get().into())
}

impl From<FileHeader32> for FileHeader {
    fn from(header: FileHeader32) -> Self {
        Self {
            ident: header.ident,
            kind: header.kind,
            machine: header.machine,
            version: header.version,
            entry: wide(header.entry),
            segments_offset: wide(header.segments_offset),
            sections_offset: wide(header.sections_offset),
            flags: header.flags,
            header_size: header.header_size,
            segment_size: header.segment_size,
            segment_count: header.segment_count,
            section_size: header.section_size,
            section_count: header.section_count,
            names_index: header.names_index,
        }
    }
}

impl From<SegmentHeader32> for SegmentHeader {
    fn from(header: SegmentHeader32) -> Self {
        Self {
            kind: header.kind,
            flags: header.flags,
            offset: wide(header.offset),
            address: wide(header.address),
            physical: wide(header.physical),
            file_size: wide(header.file_size),
            memory_size: wide(header.memory_size),
            align: wide(header.align),
        }
    }
}

impl From<SectionHeader32> for SectionHeader {
    fn from(header: SectionHeader32) -> Self {
        Self {
            name: header.name,
            kind: header.kind,
            flags: wide(header.flags),
            address: wide(header.address),
            offset: wide(header.offset),
            size: wide(header.size),
            link: header.link,
            info: header.info,
            align: wide(header.align),
            entry_size: wide(header.entry_size),
        }
    }
}
