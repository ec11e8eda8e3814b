//! The few sections that are of use, found by name in the section headers.

use object::elf;

use super::{
    ElfError,
    facts::{DebugLink, SectionRange},
    header::{FileHeader, SectionHeader},
    source::{self, Source},
};

/// The most bytes of section names that are read.
const MAX_NAMES: u64 = 1 << 20;
/// The most bytes of a `.gnu_debuglink`: a file name, padding and a checksum.
const MAX_DEBUG_LINK: u64 = 512;

/// Where they are. All are absent in a file without section headers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sections {
    pub(super) eh_frame: Option<SectionRange>,
    pub(super) debug_frame: Option<SectionRange>,
    /// Address of `.text`.
    pub(super) text: Option<u64>,
    /// Address of `.got`.
    pub(super) got: Option<u64>,
    debug_link: Option<SectionRange>,
    /// The table of a Go program's functions.
    pub(super) go_functions: Option<SectionRange>,
}

/// Finds them.
pub(super) fn read(
    file: &(impl Source + ?Sized),
    header: &FileHeader,
) -> Result<Sections, ElfError> {
    let (headers, names_index) = header.sections(file)?;
    let mut sections = Sections::default();
    let Some(names) = headers.get(names_index).filter(|_| names_index != 0) else {
        return Ok(sections);
    };
    let (offset, size) = (names.offset.get(), names.size.get());
    let names = source::read(file, "section names", offset, size, MAX_NAMES)?;
    for header in &headers {
        let Some(name) = name(&names, header.name.get()) else {
            continue;
        };
        let slot = match name {
            b".eh_frame" => &mut sections.eh_frame,
            b".debug_frame" => &mut sections.debug_frame,
            b".gnu_debuglink" => &mut sections.debug_link,
            b".gopclntab" | b".data.rel.ro.gopclntab" => &mut sections.go_functions,
            b".text" => {
                sections.text.get_or_insert(header.address.get());
                continue;
            }
            b".got" => {
                sections.got.get_or_insert(header.address.get());
                continue;
            }
            _ => continue,
        };
        // In a separate debug file the loaded sections have headers but no bytes.
        if slot.is_none() && header.kind.get() != elf::SHT_NOBITS.0 {
            *slot = Some(range(header));
        }
    }
    Ok(sections)
}

fn name(names: &[u8], offset: u32) -> Option<&[u8]> {
    // No longer name is looked for, so the search for its end is bounded.
    let name = names.get(offset as usize..)?;
    let name = &name[..name.len().min(24)];
    name.split(|byte| *byte == 0).next()
}

fn range(header: &SectionHeader) -> SectionRange {
    SectionRange {
        address: header.address.get(),
        offset: header.offset.get(),
        size: header.size.get(),
        compressed: header.flags.get() & elf::SHF_COMPRESSED.0 != 0,
    }
}

impl Sections {
    /// Reads the name of the separate debug file, if there is one that makes sense.
    pub(super) fn debug_link(&self, file: &(impl Source + ?Sized)) -> Option<DebugLink> {
        let SectionRange { offset, size, .. } = self.debug_link?;
        let what = ".gnu_debuglink";
        let bytes = source::read(file, what, offset, size, MAX_DEBUG_LINK).ok()?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let crc = bytes.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
        let name = &bytes[..end];
        (!name.is_empty() && !name.contains(&b'/')).then(|| DebugLink {
            name: name.to_vec(),
            crc: u32::from_le_bytes(*crc),
        })
    }
}
