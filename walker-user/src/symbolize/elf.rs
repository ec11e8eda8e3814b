//! What has to be known of an ELF file before its symbols are read: whether it is one, where its
//! debug info is, and how much of it there is.
//!
//! Read with `pread(2)`, not mapped; the names themselves are blazesym's business.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    ops::Range,
};

use flate2::Crc;
use object::{
    Architecture, Endianness, Object as _, ObjectSection as _, ObjectSegment as _, SegmentFlags,
    elf::{FileHeader64, PF_X},
    read::{ReadCache, elf::ElfFile},
};

use super::Reason;

/// Most segments with code that are looked at; linkers make one.
const MAX_SEGMENTS: usize = 16;

/// What is known of an ELF file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its build ID.
    pub(super) build_id: Option<Vec<u8>>,
    /// Name and CRC-32 of the file that has its debug info.
    pub(super) debug_link: Option<(Vec<u8>, u32)>,
    /// Bytes of debug info, decompressed; 0 if there is none.
    pub(super) debug_info: u64,
    /// The addresses of its code.
    pub(super) code: Vec<Range<u64>>,
}

impl Facts {
    /// The part of the code that an address is in.
    pub(super) fn code_at(&self, address: u64) -> Option<&Range<u64>> {
        self.code.iter().find(|range| range.contains(&address))
    }
}

/// Reads what is known of `file`.
pub(super) fn facts(file: &File) -> Result<Facts, Reason> {
    let metadata = file.metadata().map_err(|_| Reason::Unreadable)?;
    if !metadata.is_file() {
        return Err(Reason::NotAFile);
    }
    let cache = ReadCache::new(file);
    let elf = ElfFile::<FileHeader64<Endianness>, _>::parse(&cache).map_err(|_| Reason::NotElf)?;
    if elf.architecture() != Architecture::X86_64 {
        return Err(Reason::NotElf);
    }
    let (mut debug_info, mut has_units) = (0_u64, false);
    for section in elf.sections() {
        let name = section.name_bytes().unwrap_or_default();
        // Without bytes in the file (`SHT_NOBITS`) there is nothing to read.
        if name.starts_with(b".debug_") && section.file_range().is_some() {
            has_units |= name == b".debug_info";
            let range = section.compressed_file_range();
            let size = range.map_or(u64::MAX, |range| range.uncompressed_size);
            debug_info = debug_info.saturating_add(size);
        }
    }
    let executable = elf.segments().filter(|segment| match segment.flags() {
        SegmentFlags::Elf { p_flags, .. } => p_flags.contains(PF_X),
        _ => false,
    });
    let code = executable
        .map(|segment| segment.address()..segment.address().saturating_add(segment.size()))
        .take(MAX_SEGMENTS)
        .collect();
    let debug_link = elf.gnu_debuglink().ok().flatten();
    Ok(Facts {
        build_id: elf.build_id().ok().flatten().map(<[u8]>::to_vec),
        debug_link: debug_link.map(|(name, crc)| (name.to_vec(), crc)),
        // A stripped file may still have a `.debug_frame`.
        debug_info: if has_units { debug_info } else { 0 },
        code,
    })
}

/// The checksum that a debug link has of the whole file.
pub(super) fn checksum(mut file: &File) -> Option<u32> {
    let mut crc = Crc::new();
    let mut buffer = vec![0; 1 << 20];
    file.rewind().ok()?;
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(crc.sum()),
            read => crc.update(&buffer[..read]),
        }
    }
}
