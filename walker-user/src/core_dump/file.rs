//! The ELF core as a file: its header, its segments of physical memory, and the bytes of its
//! notes. What the notes say is the job of `notes`.
//!
//! A dump is as large as the machine's memory, so it is read at offsets and never mapped. Follows
//! the ELF specification and what kdump (`kernel/crash_core.c`, 6.12) and QEMU
//! (`dump/dump.c`, 7.2) write.

use std::fmt;

use object::{
    LittleEndian, elf,
    pod::slice_from_all_bytes,
    read::elf::{FileHeader, ProgramHeader, SectionHeader},
};

use super::CoreError;
use crate::{classify::WordSize, elf::Source};

/// The most segments; kdump writes one for each range of memory, and one for each CPU's note.
const MAX_SEGMENTS: u64 = 1 << 17;
/// The most bytes of notes: under 1 KiB for each of 8192 CPUs.
const MAX_NOTES: u64 = 16 << 20;
/// Bytes of the largest ELF header.
const HEADER_BYTES: usize = 64;

/// A run of physical memory that is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    physical: u64,
    length: u64,
    offset: u64,
}

/// An open core.
pub(super) struct CoreFile {
    source: Box<dyn Source>,
    /// The size of the words of the machine. A core of a 32-bit machine can be an ELF file of 64
    /// bits.
    pub word: WordSize,
    /// Sorted by physical address.
    segments: Vec<Segment>,
    /// The bytes of all notes.
    pub notes: Vec<u8>,
}

impl fmt::Debug for CoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreFile")
            .field("word", &self.word)
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

impl CoreFile {
    /// Reads the headers and the notes.
    ///
    /// # Errors
    /// If it is not an ELF core of an x86 machine, or is truncated.
    pub(super) fn open(source: Box<dyn Source>) -> Result<Self, CoreError> {
        let size = source.size().map_err(|error| CoreError::Read {
            what: "the core's size",
            error,
        })?;
        let mut header = [0; HEADER_BYTES];
        let there = header
            .len()
            .min(usize::try_from(size).unwrap_or(usize::MAX));
        read(&*source, "the ELF header", 0, &mut header[..there])?;
        let header = &header[..there];
        for (magic, error) in [
            (&b"KDUMP   "[..], CoreError::Compressed),
            (b"DISKDUMP", CoreError::Compressed),
            (b"makedumpfile", CoreError::Flattened),
        ] {
            if header.starts_with(magic) {
                return Err(error);
            }
        }
        if !header.starts_with(&elf::ELFMAG) || there < 52 {
            return Err(CoreError::NotElf);
        }
        match header[4] {
            1 => Self::parse::<elf::FileHeader32<LittleEndian>>(source, size, header),
            2 => Self::parse::<elf::FileHeader64<LittleEndian>>(source, size, header),
            _ => Err(CoreError::Malformed("neither of 32 nor of 64 bits")),
        }
    }

    fn parse<H: FileHeader<Endian = LittleEndian>>(
        source: Box<dyn Source>,
        size: u64,
        header: &[u8],
    ) -> Result<Self, CoreError> {
        let machine = u16::from_le_bytes([header[18], header[19]]);
        if header[5] != elf::ELFDATA2LSB.0 {
            return Err(CoreError::Machine(machine.swap_bytes()));
        }
        let word = match elf::Machine(machine) {
            elf::EM_386 => WordSize::Four,
            elf::EM_X86_64 => WordSize::Eight,
            _ => return Err(CoreError::Machine(machine)),
        };
        let header = H::parse(header).map_err(|_| CoreError::Malformed("the ELF header"))?;
        match header.e_type(LittleEndian) {
            elf::ET_CORE => {}
            elf::FileType(other) => return Err(CoreError::NotCore(other)),
        }
        let mut count = u64::from(header.e_phnum(LittleEndian));
        if header.e_phnum(LittleEndian) == elf::PN_XNUM {
            let section: Vec<H::SectionHeader> = table(
                &*source,
                "the first section header",
                size,
                header.e_shoff(LittleEndian).into(),
                1,
            )?;
            count = section
                .first()
                .map_or(0, |section| section.sh_info(LittleEndian).into());
        }
        if count > MAX_SEGMENTS {
            return Err(CoreError::TooMany {
                what: "segments",
                count,
                limit: MAX_SEGMENTS,
            });
        }
        let offset = header.e_phoff(LittleEndian).into();
        let headers: Vec<H::ProgramHeader> =
            table(&*source, "the program headers", size, offset, count)?;
        let mut core = Self {
            source,
            word,
            segments: Vec::new(),
            notes: Vec::new(),
        };
        for header in &headers {
            core.add(header, size)?;
        }
        core.segments
            .sort_unstable_by_key(|segment| segment.physical);
        Ok(core)
    }

    /// Takes in one program header.
    fn add<P: ProgramHeader<Endian = LittleEndian>>(
        &mut self,
        header: &P,
        size: u64,
    ) -> Result<(), CoreError> {
        let kind = header.p_type(LittleEndian);
        let (offset, length): (u64, u64) = (
            header.p_offset(LittleEndian).into(),
            header.p_filesz(LittleEndian).into(),
        );
        if length == 0 || (kind != elf::PT_LOAD && kind != elf::PT_NOTE) {
            return Ok(());
        }
        let needed = offset
            .checked_add(length)
            .ok_or(CoreError::Malformed("a segment past the end of all files"))?;
        if needed > size {
            return Err(CoreError::Truncated { size, needed });
        }
        if kind == elf::PT_LOAD {
            self.segments.push(Segment {
                physical: header.p_paddr(LittleEndian).into(),
                length,
                offset,
            });
            return Ok(());
        }
        let count = length.saturating_add(self.notes.len() as u64);
        if count > MAX_NOTES {
            return Err(CoreError::TooMany {
                what: "bytes of notes",
                count,
                limit: MAX_NOTES,
            });
        }
        let begin = self.notes.len();
        self.notes.resize(count as usize, 0);
        read(&*self.source, "the notes", offset, &mut self.notes[begin..])?;
        // The next segment's notes begin aligned.
        self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        Ok(())
    }

    /// Fills `buffer` with the physical memory at `address`. `None` if any of it is not in the
    /// core.
    #[must_use]
    pub(super) fn read_physical(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let mut done = 0;
        // Ends: each round fills at least a byte. A range may go on in the next segment.
        while done < buffer.len() {
            let at = address.checked_add(done as u64)?;
            let after = self
                .segments
                .partition_point(|segment| segment.physical <= at);
            let segment = self.segments.get(after.checked_sub(1)?)?;
            let into = at - segment.physical;
            let left = segment.length.checked_sub(into).filter(|left| *left > 0)?;
            let take = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len() - done);
            self.source
                .read_at(segment.offset + into, &mut buffer[done..done + take])
                .ok()?;
            done += take;
        }
        Some(())
    }
}

fn read(
    source: &dyn Source,
    what: &'static str,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), CoreError> {
    source
        .read_at(offset, buffer)
        .map_err(|error| CoreError::Read { what, error })
}

/// Reads a table that has to be within the file, so that no more memory is taken than there are
/// bytes.
fn table<T: object::Pod>(
    source: &dyn Source,
    what: &'static str,
    size: u64,
    offset: u64,
    count: u64,
) -> Result<Vec<T>, CoreError> {
    let length = count * size_of::<T>() as u64;
    let needed = offset
        .checked_add(length)
        .ok_or(CoreError::Malformed("a table past the end of all files"))?;
    if needed > size {
        return Err(CoreError::Truncated { size, needed });
    }
    let mut bytes = vec![0; length as usize];
    read(source, what, offset, &mut bytes)?;
    let table = slice_from_all_bytes(&bytes).map_err(|()| CoreError::Malformed(what))?;
    Ok(table.to_vec())
}
