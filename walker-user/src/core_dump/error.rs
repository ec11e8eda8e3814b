//! Why a core cannot be used, or not with these symbols, each with what to do.

use std::io;

use thiserror::Error;

use crate::{btf::BtfError, kernel::memory::ReadError};

/// Why a core cannot be walked. Which file it was is known to whoever asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The file cannot be read.
    #[error("cannot read {what}: {error}")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// makedumpfile's or QEMU's compressed format.
    #[error(
        "in kdump-compressed format, which stackwalk does not read: write an ELF core with \
         `makedumpfile -E`, or QEMU's `dump-guest-memory` without -z, -l and -s"
    )]
    Compressed,
    /// makedumpfile's stream for a pipe.
    #[error(
        "in makedumpfile's flattened format: make a dump of it with `makedumpfile -R DUMP < FILE`"
    )]
    Flattened,
    /// Not an ELF file at all.
    #[error("not an ELF core: the dump of a kernel begins with the ELF magic")]
    NotElf,
    /// An ELF file of another type.
    #[error("an ELF file of type {0}, not a core (type 4)")]
    NotCore(u16),
    /// Big-endian, or of another machine.
    #[error("the core of another architecture ({}): only x86_64 and i386 are understood", machine_name(*.0))]
    Machine(u16),
    /// Headers that contradict themselves.
    #[error("a malformed core: {0}")]
    Malformed(&'static str),
    /// More of something than any core has.
    #[error("a malformed core: {count} {what}, with a limit of {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much the core says there is.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// The file ends before its memory does.
    #[error(
        "a truncated core: it has {size} bytes, and its headers tell of {needed}: write it again, \
         to a disk with more room"
    )]
    Truncated {
        /// Bytes of the file.
        size: u64,
        /// Where its last segment would end.
        needed: u64,
    },
    /// There are no registers to start from.
    #[error(
        "a core without the registers of a CPU (no NT_PRSTATUS note): dump a kernel's memory with \
         kdump or QEMU's `dump-guest-memory`"
    )]
    NoCpus,
    /// The symbols cannot be read.
    #[error("cannot read the symbols: {0}")]
    Symbols(String),
    /// A symbol that is needed is not among them.
    #[error(
        "no symbol `{0}` among the symbols: give the System.map or the vmlinux of the kernel's \
         debug package; a kallsyms file has data symbols only with CONFIG_KALLSYMS_ALL"
    )]
    MissingSymbol(&'static str),
    /// The symbols are of another word size.
    #[error("the symbols are those of a {symbols}-bit kernel, and the core is of {core} bits")]
    WordSize {
        /// Bits of the symbols' kernel.
        symbols: u32,
        /// Bits of the core's kernel.
        core: u32,
    },
    /// The banner is not where the symbols say, wherever the kernel may have been moved.
    #[error(
        "the symbols are not those of the kernel in this core: `linux_banner` does not read \
         \"Linux version …\" at {tried} places where it could be{}", of_kernel(.release)
    )]
    OtherKernel {
        /// How many places were looked at.
        tried: usize,
        /// The release of the core's kernel, if a note names it.
        release: Option<String>,
    },
    /// The build IDs differ.
    #[error(
        "the vmlinux is not that of the kernel in this core: its build ID is {symbols}, and the \
         core's is {core}"
    )]
    BuildId {
        /// That of the vmlinux.
        symbols: String,
        /// That of the core.
        core: String,
    },
    /// Nothing that is known of the core leads to its page tables.
    #[error(
        "the page tables cannot be found: the core has neither QEMU's CPU notes nor a VMCOREINFO \
         note with `phys_base`"
    )]
    NoPageTables,
    /// Memory that is needed is not in the core.
    #[error("{what}: {error}")]
    Memory {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        error: ReadError,
    },
    /// The kernel's type information.
    #[error("the kernel's type information (BTF): {0}")]
    Btf(#[from] BtfError),
    /// A kernel without type information whose tasks cannot be told by their structure either.
    #[error(
        "the kernel has no type information (CONFIG_DEBUG_INFO_BTF), and {0} could not be found by \
         the structure of its tasks"
    )]
    Structure(&'static str),
}

fn machine_name(machine: u16) -> String {
    match machine {
        183 => "arm64".to_owned(),
        243 => "RISC-V".to_owned(),
        21 => "ppc64".to_owned(),
        22 => "s390".to_owned(),
        258 => "LoongArch".to_owned(),
        other => format!("ELF machine number {other}"),
    }
}

fn of_kernel(release: &Option<String>) -> String {
    match release {
        Some(release) => format!("; it is {release}: give that kernel's System.map or vmlinux"),
        None => "; give the System.map or vmlinux of the kernel that crashed".to_owned(),
    }
}
