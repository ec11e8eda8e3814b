//! Reading the sections that say how to unwind a file's code.

use std::{io::Read, path::Path, sync::Arc};

use flate2::read::ZlibDecoder;
use object::elf;
use ruzstd::decoding::StreamingDecoder;
use zerocopy::{
    FromBytes, Unaligned,
    little_endian::{U32, U64},
};

use super::{
    ElfError, ElfFacts, LoadSegment, SectionRange,
    debug_file::open_debug_file,
    go_functions::stack_switches,
    source::{Source, read, read_shared},
};
use crate::unwind::user::{
    mode::Mode,
    sections::{CfiSections, Section},
};

/// The most bytes of one section, decompressed. The largest `.eh_frame` of the browsers is about
/// a tenth of it.
pub const SECTION_LIMIT: u64 = 256 << 20;

/// The largest window of a compressed section: what the zstd tools use at their highest level.
const MAX_WINDOW: u64 = 128 << 20;

/// The header of a compressed section of a 64-bit file.
#[derive(FromBytes, Unaligned)]
#[repr(C)]
struct Chdr64 {
    kind: U32,
    reserved: U32,
    size: U64,
    align: U64,
}

/// The same of a 32-bit file.
#[derive(FromBytes, Unaligned)]
#[repr(C)]
struct Chdr32 {
    kind: U32,
    size: U32,
    align: U32,
}

/// Reads the unwind sections of a file, which together have at most `budget` bytes; `.debug_frame`
/// also from its separate debug file below `debug_folder`, as far as that can be used.
///
/// # Errors
/// If a section that is there cannot be read or has too many bytes.
pub fn read_all_cfi_sections(
    source: &(impl Source + ?Sized),
    facts: &ElfFacts,
    budget: u64,
    debug_folder: Option<&Path>,
) -> Result<CfiSections, ElfError> {
    let mut sections = read_cfi_sections(source, facts, budget)?;
    if sections.debug_frame.is_none()
        && let (Some(folder), Some(build_id)) = (debug_folder, &facts.build_id)
        && let Ok((file, separate)) = open_debug_file(folder, build_id)
        && separate.mode == facts.mode
    {
        let left = budget.saturating_sub(sections.bytes() as u64);
        if let Ok(separate) = read_cfi_sections(&file, &separate, left) {
            sections.debug_frame = separate.debug_frame;
        }
    }
    Ok(sections)
}

/// Reads the unwind sections, which together have at most `budget` bytes.
///
/// Without section headers `.eh_frame` is found through `.eh_frame_hdr`, and ends where its
/// entries do. `.debug_frame` is read if the file itself has it; a separate debug file is another
/// file to be given to this function.
///
/// # Errors
/// If a section that is there cannot be read or has too many bytes.
pub fn read_cfi_sections(
    source: &(impl Source + ?Sized),
    facts: &ElfFacts,
    budget: u64,
) -> Result<CfiSections, ElfError> {
    let mut left = budget;
    let mut sections = CfiSections {
        text: facts.sections.text,
        got: facts.sections.got,
        mode: facts.mode,
        ..CfiSections::default()
    };
    if let Some(header) = facts.eh_frame_hdr {
        let what = ".eh_frame_hdr";
        let limit = left.min(SECTION_LIMIT);
        let bytes = read_shared(source, what, header.offset, header.size, limit)?;
        left -= bytes.len() as u64;
        sections.eh_frame_hdr = Some(Section {
            address: header.address,
            bytes,
        });
    }
    sections.eh_frame = match (facts.sections.eh_frame, &sections.eh_frame_hdr) {
        (Some(range), _) => Some(section(source, ".eh_frame", &range, facts.mode, &mut left)?),
        (None, Some(header)) => eh_frame_by_hdr(source, facts, header, &mut left)?,
        (None, None) => None,
    };
    if let Some(range) = &facts.sections.go_functions {
        sections.stack_switches = stack_switches(source, range, facts.sections.text).into();
    }
    if let Some(range) = facts.sections.debug_frame {
        sections.debug_frame = Some(section(
            source,
            ".debug_frame",
            &range,
            facts.mode,
            &mut left,
        )?);
    }
    Ok(sections)
}

fn section(
    source: &(impl Source + ?Sized),
    name: &'static str,
    range: &SectionRange,
    mode: Mode,
    left: &mut u64,
) -> Result<Section, ElfError> {
    let limit = SECTION_LIMIT.min(*left);
    let bytes = if range.compressed {
        decompress(source, name, range, mode, limit)?
    } else {
        read_shared(source, name, range.offset, range.size, limit)?
    };
    *left -= bytes.len() as u64;
    Ok(Section {
        address: range.address,
        bytes,
    })
}

/// `.eh_frame` of a file without section headers: from where `.eh_frame_hdr` points to the end of
/// its entries, which is not beyond that of the loaded segment.
fn eh_frame_by_hdr(
    source: &(impl Source + ?Sized),
    facts: &ElfFacts,
    header: &Section,
    left: &mut u64,
) -> Result<Option<Section>, ElfError> {
    let Some(address) = eh_frame_address(header, facts.mode) else {
        return Ok(None);
    };
    let in_load = |load: &LoadSegment| {
        let into = address.checked_sub(load.address)?;
        let rest = load.file_size.checked_sub(into)?;
        Some((load.offset.checked_add(into)?, rest)).filter(|_| rest > 0)
    };
    let Some((offset, rest)) = facts.loads.iter().find_map(in_load) else {
        return Ok(None);
    };
    // The segment may go on with much else, so what the limits leave is cut off rather than
    // refused; entries that are cut are noticed below.
    let available = rest.min(SECTION_LIMIT).min(*left);
    let bytes = read(source, ".eh_frame", offset, available, available)?;
    let (end, terminated) = entries_end(&bytes);
    if !terminated && available < rest {
        return Err(ElfError::TooLarge {
            what: ".eh_frame",
            size: rest,
            limit: available,
        });
    }
    *left -= end as u64;
    Ok(Some(Section {
        address,
        bytes: Arc::from(&bytes[..end]),
    }))
}

/// Where `.eh_frame` is linked, by the pointer at the start of `.eh_frame_hdr`.
fn eh_frame_address(header: &Section, mode: Mode) -> Option<u64> {
    let &[1, encoding, _, _, ref pointer @ ..] = &*header.bytes else {
        return None;
    };
    let encoding = gimli::DwEhPe(encoding);
    let value = match encoding.format() {
        gimli::DW_EH_PE_absptr if mode == Mode::Bits32 => {
            u32::from_le_bytes(*pointer.first_chunk()?).into()
        }
        gimli::DW_EH_PE_absptr | gimli::DW_EH_PE_udata8 | gimli::DW_EH_PE_sdata8 => {
            u64::from_le_bytes(*pointer.first_chunk()?)
        }
        gimli::DW_EH_PE_udata4 => u32::from_le_bytes(*pointer.first_chunk()?).into(),
        gimli::DW_EH_PE_sdata4 => i64::from(i32::from_le_bytes(*pointer.first_chunk()?)) as u64,
        _ => return None,
    };
    let base = match encoding.application() {
        gimli::DW_EH_PE_absptr => 0,
        gimli::DW_EH_PE_pcrel => header.address.wrapping_add(4),
        gimli::DW_EH_PE_datarel => header.address,
        _ => return None,
    };
    (!encoding.is_indirect()).then(|| mode.narrow(base.wrapping_add(value)))
}

/// Where the entries of `.eh_frame` end, and whether that is behind their terminator, or else
/// before the first whose length does not fit.
fn entries_end(bytes: &[u8]) -> (usize, bool) {
    let mut at = 0;
    // Every round takes at least four bytes.
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let (head, length) = match u32::from_le_bytes(*length) {
            0 => return (at + 4, true),
            u32::MAX => match bytes.get(at + 4..).and_then(|rest| rest.first_chunk()) {
                Some(length) => (12, u64::from_le_bytes(*length)),
                None => break,
            },
            length => (4, u64::from(length)),
        };
        let rest = (bytes.len() - at) as u64;
        match length.checked_add(head) {
            Some(whole) if whole <= rest => at += whole as usize,
            _ => break,
        }
    }
    (at, false)
}

fn decompress(
    source: &(impl Source + ?Sized),
    name: &'static str,
    range: &SectionRange,
    mode: Mode,
    limit: u64,
) -> Result<Arc<[u8]>, ElfError> {
    // What is read here is given back at the end, but counts while it lasts.
    let data = read(source, name, range.offset, range.size, limit)?;
    let failed = |reason: String| ElfError::Compression {
        section: name,
        reason,
    };
    let (kind, size, data) = match mode {
        Mode::Bits64 => Chdr64::read_from_prefix(&data)
            .map(|(header, data)| (header.kind.get(), header.size.get(), data))
            .ok(),
        Mode::Bits32 => Chdr32::read_from_prefix(&data)
            .map(|(header, data)| (header.kind.get(), header.size.get().into(), data))
            .ok(),
    }
    .ok_or_else(|| failed("it has no header".to_owned()))?;
    if size > limit {
        return Err(ElfError::TooLarge {
            what: name,
            size,
            limit,
        });
    }
    let bytes = match elf::CompressionType(kind) {
        elf::ELFCOMPRESS_ZLIB => read_up_to(ZlibDecoder::new(data), size),
        elf::ELFCOMPRESS_ZSTD => StreamingDecoder::new_with_max_window_size(data, MAX_WINDOW)
            .map_err(|error| error.to_string())
            .and_then(|decoder| read_up_to(decoder, size)),
        other => Err(format!("unknown compression {}", other.0)),
    }
    .map_err(failed)?;
    if bytes.len() as u64 != size {
        let found = bytes.len();
        return Err(failed(format!(
            "{size} bytes promised, {found} or more found"
        )));
    }
    Ok(bytes.into())
}

/// Reads to the end, but not more than one byte beyond `size`. Memory is taken as bytes come, as
/// the size is only a promise.
fn read_up_to(reader: impl Read, size: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    reader
        .take(size + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "cfi_tests.rs"]
mod tests;
