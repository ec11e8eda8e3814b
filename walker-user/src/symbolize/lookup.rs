//! Names the addresses of one file: functions of its symbol tables with blazesym, stubs of its
//! procedure linkage table, and what its debug info adds. Runs in the worker process only: blazesym
//! maps the file and believes what it says of its own sizes.
//!
//! Everything that was read is dropped before this returns, so that the memory in use is that of
//! the largest file, not of all files.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _, path::Path};

use blazesym::symbolize::{
    self as blaze, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use object::read::ReadCache;
use serde::{Deserialize, Serialize};

use super::{
    CodeSymbol, Function, Reason, base_name, bounded,
    debug_files::DebugFiles,
    debug_info::{DebugInfo, Found},
    demangle,
    elf::{self, Facts},
    plt,
};
use crate::sys::regular_file;

/// Most functions that are shown as inlined into one another.
const MAX_INLINED: usize = 256;

/// What is asked of the worker. Paths are bytes: users choose them, and not always as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Where to open the file.
    pub(super) open: String,
    /// Where to open the root directory of its process, if that has another than the worker.
    pub(super) root: Option<String>,
    /// Its path as its process saw it.
    pub(super) path: Vec<u8>,
    /// Addresses as linked.
    pub(super) addresses: Vec<u64>,
    /// Most bytes of debug info to read; 0 for none.
    pub(super) max_debug_info: u64,
    /// Where separate debug files are.
    pub(super) debug_dirs: Vec<Vec<u8>>,
}

/// The answer for each address, in order.
pub(super) fn symbolize(request: &Request) -> Vec<CodeSymbol> {
    let path = |bytes| Path::new(OsStr::from_bytes(bytes));
    let module = base_name(path(&request.path));
    let root = request.root.as_ref();
    let mut lookup = Lookup {
        open: Path::new(&request.open),
        path: path(&request.path),
        files: &DebugFiles {
            root: root.and_then(|root| regular_file::folder(Path::new(root)).ok()),
            dirs: request.debug_dirs.iter().map(|dir| path(dir)).collect(),
        },
        max_debug_info: request.max_debug_info,
        module: &module,
        addresses: &request.addresses,
        found: vec![Err(Reason::NoSymbols); request.addresses.len()],
    };
    if let Err(reason) = lookup.run() {
        lookup.found.fill(Err(reason));
    }
    let answers = request.addresses.iter().zip(lookup.found);
    let answer = |(address, found): (&u64, Result<_, _>)| {
        found.unwrap_or_else(|reason| CodeSymbol::unnamed(&module, *address, reason))
    };
    answers.map(answer).collect()
}

/// The addresses of one file, and what was found so far.
struct Lookup<'a> {
    open: &'a Path,
    path: &'a Path,
    files: &'a DebugFiles<'a>,
    max_debug_info: u64,
    module: &'a str,
    addresses: &'a [u64],
    found: Vec<Result<CodeSymbol, Reason>>,
}

impl Lookup<'_> {
    fn run(&mut self) -> Result<(), Reason> {
        let file = File::open(self.open).map_err(|_| Reason::Unreadable)?;
        let facts = elf::facts(&file)?;
        for (found, address) in self.found.iter_mut().zip(self.addresses) {
            if facts.code_at(*address).is_none() {
                *found = Err(Reason::NotCode);
            }
        }
        let separate = match facts.debug_info {
            0 => self.files.of(&file, self.path, &facts),
            _ => None,
        };
        if let Some(debug) = &separate {
            self.ask(&descriptor(&debug.file), &facts);
        }
        self.ask(self.open, &facts);
        self.name_stubs(&file);
        let debug = match &separate {
            Some(debug) => (&debug.file, &*debug.path, &debug.facts),
            None => (&file, self.path, &facts),
        };
        if debug.2.debug_info > 0 && self.max_debug_info > 0 {
            let missing = match DebugInfo::read(debug, self.path, self.files, self.max_debug_info) {
                Ok(mut info) => {
                    self.add(&mut info);
                    info.missing()
                }
                Err(reason) => Some(reason),
            };
            if let Some(reason) = missing {
                let named = self.found.iter_mut().flatten();
                named.for_each(|symbol| symbol.reason = Some(reason));
            }
        }
        Ok(())
    }

    /// Asks the symbol tables of one file for what has no name yet.
    fn ask(&mut self, path: &Path, facts: &Facts) {
        let missing: Vec<usize> = (0..self.found.len())
            .filter(|at| is_missing(&self.found[*at]))
            .collect();
        if missing.is_empty() {
            return;
        }
        let addresses: Vec<u64> = missing.iter().map(|&at| self.addresses[at]).collect();
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .enable_demangling(false)
            .build();
        let source = Source::Elf(Elf {
            debug_syms: false,
            ..Elf::new(path)
        });
        let answers = symbolizer.symbolize(&source, Input::VirtOffset(&addresses));
        let answers = answers.as_deref().unwrap_or_default();
        for (index, at) in missing.into_iter().enumerate() {
            match self.judge(answers.get(index), self.addresses[at], facts) {
                Ok(symbol) => self.found[at] = Ok(symbol),
                // What was said before is not forgotten because another file has no symbols.
                Err(Reason::NoSymbols) => {}
                Err(reason) => self.found[at] = Err(reason),
            }
        }
    }

    fn judge(
        &self,
        answer: Option<&Symbolized<'_>>,
        address: u64,
        facts: &Facts,
    ) -> Result<CodeSymbol, Reason> {
        match answer {
            // A symbol without a size is taken to reach to the next one.
            Some(Symbolized::Sym(symbol))
                if !symbol.name.is_empty() && facts.is_one_part(symbol.addr, address) =>
            {
                Ok(convert(symbol, self.module))
            }
            Some(Symbolized::Unknown(blaze::Reason::MissingSyms)) => Err(Reason::NoSymbols),
            Some(Symbolized::Unknown(blaze::Reason::IgnoredError)) | None => Err(Reason::Malformed),
            Some(_) => Err(Reason::NotCovered),
        }
    }

    /// Names stubs of the procedure linkage table, which have no symbols.
    fn name_stubs(&mut self, file: &File) {
        if !self.found.iter().any(is_missing) {
            return;
        }
        let cache = ReadCache::new(file);
        let Ok(elf) = object::File::parse(&cache) else {
            return;
        };
        let stubs = plt::stubs(&elf);
        for (found, address) in self.found.iter_mut().zip(self.addresses) {
            if is_missing(found)
                && let Some(stub) = plt::stub_at(&stubs, *address)
            {
                *found = Ok(CodeSymbol {
                    functions: vec![Function::named(&*stub.name)],
                    module: self.module.to_owned(),
                    named: true,
                    offset: address - stub.address,
                    size: stub.size,
                    reason: None,
                });
            }
        }
    }

    /// Adds what the debug info says.
    fn add(&mut self, info: &mut DebugInfo<'_>) {
        for (found, address) in self.found.iter_mut().zip(self.addresses) {
            if *found == Err(Reason::NotCode) {
                continue;
            }
            match (info.functions(*address, MAX_INLINED), &mut *found) {
                (Ok(functions), _) if functions.is_empty() => {}
                (Ok(functions), Ok(symbol)) => {
                    let name = symbol.functions.swap_remove(0).name;
                    symbol.functions = joined(functions, name);
                }
                (Ok(functions), Err(_)) if functions[0].name.is_some() => {
                    *found = Ok(CodeSymbol {
                        functions: joined(functions, String::new()),
                        module: self.module.to_owned(),
                        named: true,
                        offset: 0,
                        size: 0,
                        reason: None,
                    });
                }
                (Ok(_), Err(_)) => {}
                (Err(reason), Ok(symbol)) => symbol.reason = Some(reason),
                (Err(reason), Err(before)) => *before = reason,
            }
        }
    }
}

/// Whether code has no name yet.
fn is_missing(found: &Result<CodeSymbol, Reason>) -> bool {
    !matches!(found, Ok(_) | Err(Reason::NotCode))
}

/// The path of an open file.
fn descriptor(file: &File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The functions as they are shown. The outermost is called as the debug info has it, unless that
/// knows only a part of what the symbol table says: with no more than line tables, rustc leaves the
/// path to a function out.
fn joined(functions: Vec<Found>, symbol: String) -> Vec<Function> {
    let functions = functions.into_iter().enumerate();
    functions
        .map(|(depth, found)| {
            let name = found.name.map(|name| demangle::user(&name));
            let name = match name {
                Some(name) if depth > 0 || symbol.is_empty() => name,
                Some(name) if !path_of(&name).contains("::") && is_longer_form(&symbol, &name) => {
                    symbol.clone()
                }
                Some(name) => name,
                None if depth == 0 => symbol.clone(),
                None => "[unknown]".to_owned(),
            };
            Function {
                inlined: depth > 0,
                file: found.file.map(bounded),
                line: found.line,
                ..Function::named(name)
            }
        })
        .collect()
}

/// A name without its generic arguments.
fn path_of(name: &str) -> &str {
    name.split('<').next().unwrap_or(name)
}

/// Whether `long` is the function `short` with the path that leads to it.
fn is_longer_form(long: &str, short: &str) -> bool {
    let last = path_of(long.rsplit_once("::").map_or("", |(_, last)| last));
    !last.is_empty() && last == path_of(short)
}

fn convert(symbol: &Sym<'_>, module: &str) -> CodeSymbol {
    CodeSymbol {
        functions: vec![Function::named(demangle::user(&symbol.name))],
        module: module.to_owned(),
        named: true,
        offset: symbol.offset as u64,
        size: symbol.size.map_or(0, |size| size as u64),
        reason: None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_longer_form;

    #[test]
    fn only_the_same_function_with_its_path_is_a_longer_form() {
        assert!(is_longer_form("walker::cli::record::record", "record"));
        assert!(is_longer_form(
            "walker::cli::run::sample",
            "sample<walker::Recorder>"
        ));
        assert!(!is_longer_form("walker::cli::record::other", "record"));
        assert!(!is_longer_form("record", "record"));
        assert!(!is_longer_form("", ""));
    }
}
