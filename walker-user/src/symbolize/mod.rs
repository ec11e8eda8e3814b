//! Names for addresses, by blazesym: functions, inlined functions, source lines.
//!
//! [`kernel`] names the kernel's addresses in this process. Files that users wrote are never
//! parsed in this process, which runs as root: a parser can be made to overflow its stack, to ask
//! for all memory, to run for hours, and a mapped file that shrinks is a fatal signal. [`service`]
//! has a process of its own for that ([`worker`]), with bounds on memory and time, and starts
//! another when it fails. [`perf_map`] and [`jitdump`] read what JIT compilers write. [`UserSymbols`]
//! puts a cache in front and counts what has no name.
//!
//! An address without a name is an answer with a [`Reason`], never an error.

mod allowance;
pub mod cache;
mod debug_files;
mod debug_info;
mod demangle;
mod elf;
mod jit_names;
pub mod jitdump;
pub mod kernel;
mod lookup;
pub mod object;
pub mod perf_map;
mod plt;
pub mod service;
mod user;
pub mod worker;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use kernel::{KernelSymbol, KernelSymbols};
pub use object::{FileKey, Object};
pub use user::UserSymbols;

/// Longest name or source path that is kept, in bytes; C++ templates have names without bound.
const MAX_NAME: usize = 4096;

/// One function at an address: the one that was compiled there, or one inlined into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Demangled; never empty.
    pub name: String,
    /// Whether it is inlined into the function before it.
    pub inlined: bool,
    /// The source file, as the compiler named it; of a function that others are inlined into, the
    /// place of the call.
    pub file: Option<String>,
    /// The line in [`Function::file`], from 1.
    pub line: Option<u32>,
}

impl Function {
    /// A function of which nothing but the name is known.
    fn named(name: impl Into<String>) -> Self {
        Self {
            name: bounded(name.into()),
            inlined: false,
            file: None,
            line: None,
        }
    }
}

/// What is known of one address of user space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeSymbol {
    /// Outermost first, so the first is not inlined; never empty. Without a symbol it is one
    /// "function", called after the file and the address in it.
    pub functions: Vec<Function>,
    /// Base name of the file, or `[jit]`.
    pub module: String,
    /// Whether a symbol was found. If not, [`CodeSymbol::offset`] is the address as linked.
    pub named: bool,
    /// Bytes from the start of the outermost function.
    pub offset: u64,
    /// Bytes of the outermost function; 0 if not known.
    pub size: u64,
    /// Why there is no symbol or, if there is one, why no source lines were looked for.
    pub reason: Option<Reason>,
}

impl CodeSymbol {
    /// What is said of an address (as linked) in a file that has no symbol for it.
    #[must_use]
    pub fn unnamed(module: &str, address: u64, reason: Reason) -> Self {
        Self {
            functions: vec![Function::named(format!("{module}+{address:#x}"))],
            module: module.to_owned(),
            named: false,
            offset: address,
            size: 0,
            reason: Some(reason),
        }
    }
}

/// Why an address has no name, or less of a name than could be expected. Recordings have the index of
/// the variant: new ones are added behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The object is no regular file.
    NotAFile,
    /// The file could not be read.
    Unreadable,
    /// It is no ELF file for x86_64.
    NotElf,
    /// It has no symbol table that could be read.
    NoSymbols,
    /// The address is not in the file's code.
    NotCode,
    /// It has symbols, but none for this address.
    NotCovered,
    /// What it says of this address makes no sense.
    Malformed,
    /// There is a symbol, but the debug info is larger than what is read.
    DebugInfoTooLarge,
    /// There may be a symbol, but the debug info could not be read.
    DebugInfoUnusable,
    /// The process that reads symbols died of the file.
    Crashed,
    /// It took longer than it may.
    TooSlow,
    /// The process that reads symbols could not be started.
    NotStarted,
    /// The address is in no mapping of its process that is known.
    Unmapped,
    /// Code that was made at run time, without a perf map.
    NoPerfMap,
    /// Code that was made at run time, which the perf map does not name.
    NotInPerfMap,
    /// There is a symbol, but the file that has debug info of several is not there.
    NoSharedDebugInfo,
    /// There is a symbol, but not the file that has the debug info of a part of the program.
    NoSplitDebugInfo,
}

impl Reason {
    /// Whether it says something of debug info, and not of symbols.
    const fn is_of_debug_info(self) -> bool {
        matches!(
            self,
            Self::DebugInfoTooLarge
                | Self::DebugInfoUnusable
                | Self::NoSharedDebugInfo
                | Self::NoSplitDebugInfo
        )
    }

    /// The reason in a few words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAFile => "its object is no regular file",
            Self::Unreadable => "its file cannot be read",
            Self::NotElf => "its file is no x86_64 ELF file",
            Self::NoSymbols => "its file has no symbols",
            Self::NotCode => "its file has no code there",
            Self::NotCovered => "no symbol covers it",
            Self::Malformed => "the symbols of its file are malformed",
            Self::DebugInfoTooLarge => "the debug info of its file is too large",
            Self::DebugInfoUnusable => "the debug info of its file cannot be read",
            Self::NoSharedDebugInfo => "the file that `dwz` moved its debug info to is not there",
            Self::NoSplitDebugInfo => "its split debug info (.dwo or .dwp) is not there",
            Self::Crashed => "reading the symbols of its file failed",
            Self::TooSlow => "reading the symbols of its file took too long",
            Self::NotStarted => "the process that reads symbols could not be started",
            Self::Unmapped => "in no known mapping of its process",
            Self::NoPerfMap => "JIT code without a perf map or jitdump",
            Self::NotInPerfMap => "JIT code that its perf map or jitdump does not name",
        }
    }
}

/// The base name of a path, as it is shown.
pub(crate) fn base_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    match name.is_empty() {
        true => "[unknown]".to_owned(),
        false => bounded(name.to_string_lossy().into_owned()),
    }
}

/// `text`, cut to [`MAX_NAME`].
fn bounded(mut text: String) -> String {
    if text.len() > MAX_NAME {
        text.truncate(text.floor_char_boundary(MAX_NAME - '…'.len_utf8()));
        text.push('…');
    }
    text
}
