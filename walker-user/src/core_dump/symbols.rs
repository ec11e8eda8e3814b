//! The crashed kernel's symbols, from a file the user gives: a `System.map`, a copy of
//! `/proc/kallsyms`, or a `vmlinux`.
//!
//! Names of code, by address, and the addresses of the few other symbols that the facts about a
//! kernel are found by. Addresses are those of the file; where the kernel was moved to (KASLR) is
//! the job of `identity`.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read as _, Seek as _},
    path::Path,
};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind, read::ReadCache};

use super::CoreError;
use crate::{classify::WordSize, sys::regular_file};

/// The most symbols that are taken; a kernel with every symbol and many modules has 300,000.
const MAX_SYMBOLS: usize = 4_000_000;
/// The longest line that is looked at.
const MAX_LINE: u64 = 4096;
/// The largest `vmlinux`, in bytes.
const MAX_VMLINUX: u64 = 4 << 30;
/// The largest section that is read of it, in bytes.
const MAX_SECTION: u64 = 256 << 20;
/// Bytes of `linux_banner` that are compared.
const BANNER_BYTES: u64 = 512;

/// Symbols that are no code whose addresses are kept.
const WANTED: &[&str] = &[
    "__cpu_online_mask",
    "__end_init_task",
    "__per_cpu_offset",
    "__per_cpu_start",
    "__start_BTF",
    "__start_notes",
    "__start_orc_unwind",
    "__start_orc_unwind_ip",
    "__stop_BTF",
    "__stop_notes",
    "__stop_orc_unwind",
    "__stop_orc_unwind_ip",
    "_einittext",
    "_etext",
    "_sinittext",
    "_stext",
    "current_task",
    "hardirq_stack_ptr",
    "idle_threads",
    "init_stack",
    "init_task",
    "init_thread_union",
    "init_top_pgt",
    "linux_banner",
    "modules",
    "nr_cpu_ids",
    "pcpu_hot",
    "ret_from_fork",
    "ret_from_fork_asm",
    "softirq_stack_ptr",
    "swapper_pg_dir",
];

/// A name for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// The function.
    pub name: &'a str,
    /// Bytes from its begin.
    pub offset: u64,
    /// Bytes to the next symbol; 0 if there is none.
    pub size: u64,
    /// The module it is in, if the file says so.
    pub module: Option<&'a str>,
}

#[derive(Debug)]
struct Code {
    address: u64,
    weak: bool,
    name: Box<str>,
    module: Option<Box<str>>,
}

/// What was taken from a file of symbols.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    wanted: HashMap<&'static str, u64>,
    /// Sorted by address, the preferred name of an address first.
    code: Vec<Code>,
    /// The build ID, of a `vmlinux` that has one.
    pub build_id: Option<Vec<u8>>,
    /// The type information, of a `vmlinux` that has it.
    pub btf: Option<Vec<u8>>,
    /// What a `vmlinux` has at `linux_banner`, up to its end.
    pub banner: Option<Vec<u8>>,
}

impl Symbols {
    /// Reads a file of symbols.
    ///
    /// # Errors
    /// If it cannot be read or has no symbols.
    pub(super) fn open(path: &Path) -> Result<Self, CoreError> {
        let failed = |error: std::io::Error| CoreError::Symbols(error.to_string());
        let mut file = regular_file::open(path).map_err(failed)?;
        let mut magic = [0; 4];
        let is_elf = file.read_exact(&mut magic).is_ok() && magic == object::elf::ELFMAG;
        file.rewind().map_err(failed)?;
        if is_elf {
            Self::from_vmlinux(file)
        } else {
            Self::from_text(BufReader::with_capacity(1 << 16, file))
        }
    }

    /// Reads lines of `address type name [module]`. Others are passed over.
    ///
    /// # Errors
    /// If reading fails, there are too many symbols, or none with an address.
    pub(super) fn from_text(mut reader: impl BufRead) -> Result<Self, CoreError> {
        let mut symbols = Self::default();
        let mut line = Vec::new();
        for count in 0usize.. {
            line.clear();
            (&mut reader)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .map_err(|error| CoreError::Symbols(error.to_string()))?;
            if line.is_empty() {
                break;
            }
            if count == MAX_SYMBOLS {
                return Err(CoreError::Symbols(format!("more than {MAX_SYMBOLS}")));
            }
            let Ok(line) = std::str::from_utf8(&line) else {
                continue;
            };
            let mut fields = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if let Ok(address) = u64::from_str_radix(address, 16) {
                let is_code = matches!(kind, "t" | "T" | "w" | "W");
                let weak = matches!(kind, "w" | "W");
                symbols.add(address, is_code, weak, name, fields.next());
            }
        }
        symbols.finish()
    }

    fn from_vmlinux(file: File) -> Result<Self, CoreError> {
        let failed = |what: &str| CoreError::Symbols(what.to_owned());
        let size = file
            .metadata()
            .map_err(|error| CoreError::Symbols(error.to_string()))?
            .len();
        if size > MAX_VMLINUX {
            return Err(failed("larger than any vmlinux"));
        }
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache)
            .map_err(|error| CoreError::Symbols(format!("a malformed vmlinux: {error}")))?;
        let mut symbols = Self::default();
        for symbol in elf.symbols().take(MAX_SYMBOLS) {
            if let Ok(name) = symbol.name() {
                let is_code = symbol.kind() == SymbolKind::Text;
                symbols.add(symbol.address(), is_code, symbol.is_weak(), name, None);
            }
        }
        symbols.build_id = elf.build_id().ok().flatten().map(<[u8]>::to_vec);
        symbols.btf = elf
            .section_by_name(".BTF")
            .filter(|section| section.size() <= MAX_SECTION)
            .and_then(|section| section.data().ok())
            .map(<[u8]>::to_vec);
        if let Some(at) = symbols.address("linux_banner") {
            symbols.banner = elf.sections().find_map(|section| {
                let into = at.checked_sub(section.address())?;
                let length = BANNER_BYTES.min(section.size().checked_sub(into)?);
                let bytes = section.data_range(at, length).ok().flatten()?;
                Some(until_zero(bytes).to_vec())
            });
        }
        symbols.finish().map_err(|error| match error {
            CoreError::Symbols(_) => failed(
                "the vmlinux has none: it is stripped; give the one of the debug package, or a \
                 System.map",
            ),
            other => other,
        })
    }

    fn add(&mut self, address: u64, is_code: bool, weak: bool, name: &str, module: Option<&str>) {
        if module.is_none()
            && let Some(wanted) = WANTED.iter().find(|wanted| **wanted == name)
        {
            self.wanted.entry(wanted).or_insert(address);
        }
        if is_code && self.code.len() < MAX_SYMBOLS {
            let module = module.map(|module| module.trim_matches(['[', ']']).into());
            self.code.push(Code {
                address,
                weak,
                name: name.into(),
                module,
            });
        }
    }

    fn finish(mut self) -> Result<Self, CoreError> {
        if self.code.iter().all(|code| code.address == 0) {
            let what = match self.code.is_empty() {
                true => "the file has no lines of `address type name`",
                false => "every address is 0: copy /proc/kallsyms as root, or give a System.map",
            };
            return Err(CoreError::Symbols(what.to_owned()));
        }
        // Of several names for an address the kernel prefers one that is not weak, with few
        // underscores before it (`compare_symbols()`, `scripts/kallsyms.c`, 6.12).
        self.code.sort_by(|a, b| {
            let rank = |code: &Code| {
                let underscores = code.name.bytes().take_while(|byte| *byte == b'_').count();
                (code.address, code.weak, underscores)
            };
            rank(a).cmp(&rank(b))
        });
        Ok(self)
    }

    /// The address of one of the symbols that are kept by name.
    #[must_use]
    pub(super) fn address(&self, name: &'static str) -> Option<u64> {
        self.wanted.get(name).copied()
    }

    /// The same for a symbol that is needed.
    ///
    /// # Errors
    /// If it is not among the symbols.
    pub(super) fn required(&self, name: &'static str) -> Result<u64, CoreError> {
        self.address(name).ok_or(CoreError::MissingSymbol(name))
    }

    /// The size of the words of the kernel they belong to.
    #[must_use]
    pub(super) fn word(&self) -> WordSize {
        let highest = self.code.last().map_or(0, |code| code.address);
        match highest >> 32 {
            0 => WordSize::Four,
            _ => WordSize::Eight,
        }
    }

    /// The function that holds an address of the file.
    #[must_use]
    pub(super) fn name(&self, address: u64) -> Option<Named<'_>> {
        let after = self.code.partition_point(|code| code.address <= address);
        let begin = self.code.get(after.checked_sub(1)?)?.address;
        let first = self.code.partition_point(|code| code.address < begin);
        let code = self.code.get(first)?;
        Some(Named {
            name: &code.name,
            offset: address - begin,
            size: self.code.get(after).map_or(0, |next| next.address - begin),
            module: code.module.as_deref(),
        })
    }
}

/// The bytes before the first zero.
pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;
