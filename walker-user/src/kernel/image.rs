//! The ELF sections of a kernel file the user names: a `vmlinux` or a `vmlinuz` (x86 bzImage).
//!
//! Such a file has the unwind tables (`.orc_unwind_ip`, `.orc_unwind`, `.orc_header`) and the type
//! information (`.BTF`) of a kernel whose memory does not show them. [`KernelImage`] finds the
//! ELF file and hands out its sections as they are on disk: at link-time addresses, without the
//! KASLR offset, and as bytes without meaning. Whether the file belongs to the kernel that is
//! running is for the caller to decide, with the help of [`KernelImage::build_id`].
//!
//! A file is treated as hostile: its size, the size of what is decompressed from it and every
//! table in it are bounded before they are used.

mod bzimage;
mod decompress;
mod error;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::LittleEndian;
use object::elf::{
    EM_X86_64, FileHeader64, NT_GNU_BUILD_ID, PT_NOTE, ProgramHeader64, SHF_COMPRESSED, SHT_NOTE,
    SHT_NULL, SectionHeader64,
};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader};

pub use self::decompress::Compression;
pub use self::error::ImageError;

/// The largest file that is read, in bytes. A `vmlinux` with full debug information has several
/// hundred MiB.
pub const MAX_FILE_LEN: usize = 1 << 30;

/// The largest kernel that is decompressed from a bzImage, in bytes.
pub const MAX_KERNEL_LEN: usize = 512 << 20;

/// How many notes are looked at for the build ID. Kernels have fewer than ten; note segments that
/// overlap could repeat the same ones without end.
const MAX_NOTES: usize = 10_000;

/// The longest build ID accepted, in bytes; linkers make 8 to 20.
const MAX_BUILD_ID_LEN: usize = 64;

type Header = FileHeader64<LittleEndian>;
type Notes<'a> = NoteIterator<'a, Header>;

/// The ELF file of a kernel, in memory.
pub struct KernelImage {
    elf: Vec<u8>,
}

/// A section of the kernel's ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// Where the section is linked to be, without the KASLR offset; 0 for a section that is not
    /// part of the running kernel, such as debug information.
    pub address: u64,
    /// Its bytes.
    pub data: &'a [u8],
}

impl KernelImage {
    /// Opens a `vmlinux` or `vmlinuz` file and, if need be, decompresses it.
    ///
    /// Takes memory for the whole ELF file, and while a `vmlinuz` is read for that file as well.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is larger than [`MAX_FILE_LEN`], and as
    /// [`from_bytes`](Self::from_bytes).
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_LEN as u64 + 1).read_to_end(&mut bytes))
            .map_err(|source| ImageError::Io {
                path: path.to_owned(),
                source,
            })?;
        Self::from_bytes(bytes)
    }

    /// [`open`](Self::open) for a file that has been read.
    ///
    /// # Errors
    ///
    /// When the bytes are neither an ELF file nor a bzImage; when a bzImage is truncated, is
    /// compressed with anything but gzip, xz, LZ4 or zstd, or holds a kernel larger than
    /// [`MAX_KERNEL_LEN`]; when the ELF file is not 64-bit and little-endian or its section
    /// table is damaged.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImageError> {
        if bytes.len() > MAX_FILE_LEN {
            return Err(ImageError::TooLarge {
                what: "the kernel image",
                limit: MAX_FILE_LEN,
            });
        }
        let elf = if bytes.starts_with(b"\x7fELF") {
            bytes
        } else if bzimage::is_bzimage(&bytes) {
            decompress::decompress(bzimage::payload(&bytes)?)?
        } else {
            return Err(ImageError::NotAKernel);
        };
        let image = Self { elf };
        image.sections()?;
        Ok(image)
    }

    /// The first section of this name. `None` when there is none, or when its bytes are not in the
    /// file or are compressed (which only debug information is).
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Section<'_>> {
        let (sections, names) = self.sections().ok()?;
        let has_name = |section: &&SectionHeader64<LittleEndian>| {
            names
                .get(section.sh_name(LittleEndian) as usize..)
                .and_then(|rest| rest.strip_prefix(name.as_bytes()))
                .is_some_and(|rest| rest.first() == Some(&0))
        };
        let found = sections
            .iter()
            .filter(|section| section.sh_type(LittleEndian) != SHT_NULL)
            .find(has_name)?;
        if found.sh_flags(LittleEndian).contains(SHF_COMPRESSED) {
            return None;
        }
        let (offset, len) = found.file_range(LittleEndian)?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        Some(Section {
            address: found.sh_addr(LittleEndian),
            data: self.elf.get(start..end)?,
        })
    }

    /// The build ID the linker gave the kernel (`NT_GNU_BUILD_ID`), as in
    /// `/sys/kernel/notes` of that kernel when it runs. `None` when there is none.
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let data = self.elf.as_slice();
        let header = Header::parse(data).ok()?;
        let segments = header.program_headers(LittleEndian, data).ok()?;
        let (sections, _) = self.sections().ok()?;
        segments
            .iter()
            .filter_map(|segment| notes_of_segment(segment, data))
            .chain(
                sections
                    .iter()
                    .filter_map(|section| notes_of_section(section, data)),
            )
            // An error ends the notes it is in.
            .flat_map(|mut notes| std::iter::from_fn(move || notes.next().ok().flatten()))
            .take(MAX_NOTES)
            .find(|note| note.name() == b"GNU" && note.n_type(LittleEndian) == NT_GNU_BUILD_ID)
            .map(|note| note.desc())
            .filter(|id| (1..=MAX_BUILD_ID_LEN).contains(&id.len()))
            .map(<[u8]>::to_vec)
    }

    /// Whether the kernel is for x86-64.
    #[must_use]
    pub fn is_x86_64(&self) -> bool {
        Header::parse(self.elf.as_slice())
            .is_ok_and(|header| header.e_machine(LittleEndian) == EM_X86_64)
    }

    /// The section table and the string table with the sections' names.
    ///
    /// The names are compared here rather than read through `object`, which searches for the end
    /// of each: a forged table could make that search long, many times over.
    fn sections(&self) -> Result<(&[SectionHeader64<LittleEndian>], &[u8]), object::Error> {
        let data = self.elf.as_slice();
        let header = Header::parse(data)?;
        header.endian()?;
        let sections = header.section_headers(LittleEndian, data)?;
        let names = if sections.is_empty() {
            &[]
        } else {
            let index = header.section_strings_index(LittleEndian, data)?;
            match sections.get(index.0) {
                Some(section) => section.data(LittleEndian, data)?,
                None => &[],
            }
        };
        Ok((sections, names))
    }
}

impl fmt::Debug for KernelImage {
    /// The length instead of the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelImage")
            .field("len", &self.elf.len())
            .finish_non_exhaustive()
    }
}

fn notes_of_segment<'a>(
    segment: &ProgramHeader64<LittleEndian>,
    data: &'a [u8],
) -> Option<Notes<'a>> {
    if segment.p_type(LittleEndian) != PT_NOTE {
        return None;
    }
    segment.notes(LittleEndian, data).ok().flatten()
}

fn notes_of_section<'a>(
    section: &SectionHeader64<LittleEndian>,
    data: &'a [u8],
) -> Option<Notes<'a>> {
    if section.sh_type(LittleEndian) != SHT_NOTE {
        return None;
    }
    section.notes(LittleEndian, data).ok().flatten()
}
