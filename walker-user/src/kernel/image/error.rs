//! Why a kernel file could not be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::decompress::Compression;

/// Opening a kernel file failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be opened or read.
    #[error("cannot read kernel image {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file, or the kernel compressed in it, is larger than any kernel is expected to be.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which of the two.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The file starts neither like an ELF file nor like a bzImage.
    #[error("neither an ELF file (vmlinux) nor an x86 bzImage (vmlinuz)")]
    NotAKernel,
    /// A bzImage older than Linux 2.6.26, whose header does not say where the kernel is in it.
    #[error(
        "bzImage has boot protocol {}.{:02}, at least 2.08 is needed",
        version >> 8, version & 0xff
    )]
    OldBootProtocol {
        /// The version in the header, major in the high byte.
        version: u16,
    },
    /// The bzImage ends before the compressed kernel does.
    #[error("bzImage is truncated: the compressed kernel should end at byte {end} of {len}")]
    Truncated {
        /// Where the compressed kernel ends according to the header, in bytes.
        end: u64,
        /// The length of the file, in bytes.
        len: usize,
    },
    /// The kernel is compressed in a way that this module does not read.
    #[error(
        "the kernel is compressed with {compression}, which is not supported; \
         pass the uncompressed vmlinux (the kernel's scripts/extract-vmlinux makes one)"
    )]
    UnsupportedCompression {
        /// The compression format, by its magic number.
        compression: &'static str,
    },
    /// The compressed kernel does not start with the magic number of any compression format.
    #[error(
        "the kernel is compressed in an unknown way (it starts with {magic:02x?}); \
         pass the uncompressed vmlinux (the kernel's scripts/extract-vmlinux makes one)"
    )]
    UnknownCompression {
        /// The first bytes.
        magic: [u8; 4],
    },
    /// The compressed data is damaged.
    #[error("cannot decompress the kernel ({compression}): {reason}")]
    Decompress {
        /// The compression format.
        compression: Compression,
        /// What the decoder said.
        reason: String,
    },
    /// Decompression gave another number of bytes than the bzImage says.
    #[error("decompressing the kernel ({compression}) gave {found} bytes instead of {stated}")]
    SizeMismatch {
        /// The compression format.
        compression: Compression,
        /// The size stated at the end of the compressed data, in bytes.
        stated: usize,
        /// The size found, in bytes; decoding stops just above `stated`.
        found: usize,
    },
    /// The ELF file is not one of a 64-bit little-endian machine, or its tables are damaged.
    #[error("the kernel is not a valid 64-bit little-endian ELF file: {source}")]
    BadElf {
        /// What is wrong with it.
        #[from]
        source: object::Error,
    },
}
