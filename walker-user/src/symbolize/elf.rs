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
    Architecture, Object as _, ObjectSection as _, ObjectSegment as _, SectionFlags, SegmentFlags,
    elf::{PF_X, SHF_EXECINSTR},
    read::ReadCache,
};

use super::Reason;

/// Most segments with code that are looked at; linkers make one.
const MAX_SEGMENTS: usize = 16;
/// Most sections with code that are looked at; with `-ffunction-sections` a linker merges them.
const MAX_SECTIONS: usize = 1024;
/// The most bytes of a `.debug_sup`: a path, and an ID.
const MAX_SUP: u64 = 8192;

/// What is known of an ELF file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its build ID.
    pub(super) build_id: Option<Vec<u8>>,
    /// Name and CRC-32 of the file that has its debug info.
    pub(super) debug_link: Option<(Vec<u8>, u32)>,
    /// Path and ID of the file that `dwz` moved debug info to.
    pub(super) shared_debug: Option<(Vec<u8>, Vec<u8>)>,
    /// The ID that it has as such a file, if it says so.
    pub(super) shared_id: Option<Vec<u8>>,
    /// Bytes of debug info, decompressed; 0 if there is none.
    pub(super) debug_info: u64,
    /// The addresses of its code.
    pub(super) code: Vec<Range<u64>>,
    /// Those of its sections with code; none in a file without section headers.
    sections: Vec<Range<u64>>,
}

impl Facts {
    /// The part of the code that an address is in.
    pub(super) fn code_at(&self, address: u64) -> Option<&Range<u64>> {
        self.code.iter().find(|range| range.contains(&address))
    }

    /// Whether a symbol without a size at one address can be that of another: no function goes on
    /// in the next section.
    pub(super) fn is_one_part(&self, symbol: u64, address: u64) -> bool {
        let section = |address| self.sections.iter().find(|range| range.contains(&address));
        self.code_at(symbol) == self.code_at(address) && section(symbol) == section(address)
    }
}

/// Reads what is known of `file`.
pub(super) fn facts(file: &File) -> Result<Facts, Reason> {
    let metadata = file.metadata().map_err(|_| Reason::Unreadable)?;
    if !metadata.is_file() {
        return Err(Reason::NotAFile);
    }
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|_| Reason::NotElf)?;
    let known = [
        Architecture::X86_64,
        Architecture::X86_64_X32,
        Architecture::I386,
    ];
    if !known.contains(&elf.architecture()) {
        return Err(Reason::NotElf);
    }
    let (mut debug_info, mut has_units) = (0_u64, false);
    let (mut sections, mut sup) = (Vec::new(), None);
    for section in elf.sections() {
        let name = section.name_bytes().unwrap_or_default();
        // Without bytes in the file (`SHT_NOBITS`) there is nothing to read.
        if name.starts_with(b".debug_") && section.file_range().is_some() {
            has_units |= name == b".debug_info" || name == b".debug_info.dwo";
            let range = section.compressed_file_range();
            let size = range.map_or(u64::MAX, |range| range.uncompressed_size);
            debug_info = debug_info.saturating_add(size);
            if name == b".debug_sup" && size <= MAX_SUP {
                sup = section.data().ok().and_then(supplement);
            }
        }
        if let SectionFlags::Elf { sh_flags, .. } = section.flags()
            && sh_flags.contains(SHF_EXECINSTR)
            && sections.len() < MAX_SECTIONS
        {
            sections.push(section.address()..section.address().saturating_add(section.size()));
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
    let alt_link = elf.gnu_debugaltlink().ok().flatten();
    let alt_link = alt_link.map(|(name, id)| (name.to_vec(), id.to_vec()));
    let (shared_debug, shared_id) = match sup {
        Some(Supplement::Of(name, id)) => (Some((name, id)), None),
        Some(Supplement::Itself(id)) => (None, Some(id)),
        None => (alt_link, None),
    };
    Ok(Facts {
        build_id: elf.build_id().ok().flatten().map(<[u8]>::to_vec),
        debug_link: debug_link.map(|(name, crc)| (name.to_vec(), crc)),
        // A stripped file may still have a `.debug_frame`.
        debug_info: if has_units { debug_info } else { 0 },
        shared_debug,
        shared_id,
        code,
        sections,
    })
}

/// What a `.debug_sup` says (DWARF 5, section 7.3.6): which file has a part of the debug info, by path
/// and ID, or that the file is such a one.
enum Supplement {
    Of(Vec<u8>, Vec<u8>),
    Itself(Vec<u8>),
}

fn supplement(bytes: &[u8]) -> Option<Supplement> {
    let (_version, rest) = bytes.split_first_chunk::<2>()?;
    let (is_supplement, rest) = rest.split_first()?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    // A checksum of less than 128 bytes has a length of one.
    let (length, id) = rest.split_first()?;
    let id = id.get(..usize::from(*length))?.to_vec();
    Some(match is_supplement {
        0 => Supplement::Of(name.to_vec(), id),
        _ => Supplement::Itself(id),
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
