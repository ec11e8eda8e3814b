//! Why an ELF file cannot be used.

use std::io;

use thiserror::Error;

/// Why an ELF file cannot be used. Which file it was is known to whoever asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file cannot be read, or ended before the bytes it promised.
    #[error("cannot read {what}: {error}")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// Not an ELF file at all.
    #[error("not an ELF file")]
    NotElf,
    /// A program for the x32 ABI: 64-bit code with 32-bit pointers.
    #[error("x32 program (64-bit code with 32-bit pointers), which stackwalk does not read")]
    X32,
    /// Big-endian, or of another machine.
    #[error("built for another machine (ELF machine number {0})")]
    Machine(u16),
    /// A relocatable object or a core dump.
    #[error("neither a program nor a shared library (ELF type {0})")]
    Type(u16),
    /// Headers that contradict themselves or the file's size.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// More than is reasonable, or than the caller allows.
    #[error("{what} is too large: {size}, with a limit of {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// How large it says it is.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A compressed section that does not decompress to what it promises.
    #[error("cannot decompress {section}: {reason}")]
    Compression {
        /// The section's name.
        section: &'static str,
        /// Why not.
        reason: String,
    },
    /// The address is in no segment of code that the file holds.
    #[error("no code at link address {0:#x}")]
    NoCode(u64),
}

impl ElfError {
    /// A few words for counting, without numbers or names.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "file cannot be read",
            Self::NotElf => "not an ELF file",
            Self::X32 => "x32 program",
            Self::Machine(_) => "built for another machine",
            Self::Type(_) => "neither program nor library",
            Self::Malformed(_) => "malformed ELF file",
            Self::TooLarge { .. } => "ELF file exceeds a limit",
            Self::Compression { .. } => "section cannot be decompressed",
            Self::NoCode(_) => "no code at the address",
        }
    }
}
