//! Names the addresses of one file with blazesym. Runs in the worker process only: blazesym maps
//! the file and believes what it says of its own sizes.
//!
//! Everything that was read is dropped before this returns, so that the memory in use is that of
//! the largest file, not of all files.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _, path::Path};

use blazesym::symbolize::{
    self as blaze, CodeInfo, Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};
use serde::{Deserialize, Serialize};

use super::{
    CodeSymbol, Function, Reason, base_name, bounded, debug_file,
    elf::{self, Facts},
};

/// Most functions that are shown as inlined into one another.
const MAX_INLINED: usize = 256;

/// What is asked of the worker. Paths are bytes: users choose them, and not always as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Where to open the file.
    pub(super) open: String,
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
    let mut lookup = Lookup {
        open: Path::new(&request.open),
        path: path(&request.path),
        debug_dirs: request.debug_dirs.iter().map(|dir| path(dir)).collect(),
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
    debug_dirs: Vec<&'a Path>,
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
            0 => debug_file::find(&file, self.path, &facts, &self.debug_dirs),
            _ => None,
        };
        let (best, bytes) = match &separate {
            Some(debug) => (debug.path.as_path(), debug.facts.debug_info),
            None => (self.open, facts.debug_info),
        };
        let fits = bytes <= self.max_debug_info;
        if bytes > 0 && fits {
            self.ask(best, true, &facts);
            self.qualify(best);
        }
        // Without the debug info, should that be malformed; then what a separate file has not.
        self.ask(best, false, &facts);
        if separate.is_some() {
            self.ask(self.open, false, &facts);
        }
        if !fits && self.max_debug_info > 0 {
            let named = self.found.iter_mut().flatten();
            named.for_each(|symbol| symbol.reason = Some(Reason::DebugInfoTooLarge));
        }
        Ok(())
    }

    /// Asks one file for what has no name yet.
    fn ask(&mut self, path: &Path, debug_info: bool, facts: &Facts) {
        let is_missing = |at: &usize| !matches!(self.found[*at], Ok(_) | Err(Reason::NotCode));
        let missing: Vec<usize> = (0..self.found.len()).filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        let addresses: Vec<u64> = missing.iter().map(|&at| self.addresses[at]).collect();
        let symbolizer = self.symbolizer();
        let source = Source::Elf(Elf {
            debug_syms: debug_info,
            ..Elf::new(path)
        });
        let answers = symbolizer.symbolize(&source, Input::VirtOffset(&addresses));
        let answers = answers.as_deref().unwrap_or_default();
        for (index, at) in missing.into_iter().enumerate() {
            let unusable = self.found[at] == Err(Reason::DebugInfoUnusable);
            match self.judge(answers.get(index), self.addresses[at], debug_info, facts) {
                Ok(mut symbol) => {
                    symbol.reason = unusable.then_some(Reason::DebugInfoUnusable);
                    self.found[at] = Ok(symbol);
                }
                // What was said before is not forgotten because another file has no symbols.
                Err(Reason::NoSymbols) => {}
                Err(reason) => self.found[at] = Err(reason),
            }
        }
    }

    /// Takes the symbol table's name of a function where the debug info knows only a part of it:
    /// with no more than line tables, rustc leaves the path to a function out.
    fn qualify(&mut self, path: &Path) {
        let is_bare = |found: &Result<CodeSymbol, Reason>| {
            let name = found.as_ref().ok()?.functions.first()?.name.as_str();
            (!path_of(name).contains("::")).then_some(())
        };
        let bare: Vec<usize> = (0..self.found.len())
            .filter(|&at| is_bare(&self.found[at]).is_some())
            .collect();
        let addresses: Vec<u64> = bare.iter().map(|&at| self.addresses[at]).collect();
        if addresses.is_empty() {
            return;
        }
        let symbolizer = self.symbolizer();
        let source = Source::Elf(Elf {
            debug_syms: false,
            ..Elf::new(path)
        });
        let answers = symbolizer.symbolize(&source, Input::VirtOffset(&addresses));
        for (at, answer) in bare.into_iter().zip(answers.iter().flatten()) {
            if let (Ok(found), Symbolized::Sym(symbol)) = (&mut self.found[at], answer)
                && let Some(function) = found.functions.first_mut()
                && is_longer_form(&symbol.name, &function.name)
            {
                function.name = bounded(symbol.name.clone().into_owned());
            }
        }
    }

    fn symbolizer(&self) -> Symbolizer {
        Symbolizer::builder()
            .enable_auto_reload(false)
            .set_debug_dirs(Some(&self.debug_dirs))
            .build()
    }

    fn judge(
        &self,
        answer: Option<&Symbolized<'_>>,
        address: u64,
        debug_info: bool,
        facts: &Facts,
    ) -> Result<CodeSymbol, Reason> {
        match answer {
            // A symbol without a size is taken to reach to the next one, but not from data to code.
            Some(Symbolized::Sym(symbol))
                if !symbol.name.is_empty()
                    && facts.code_at(symbol.addr) == facts.code_at(address) =>
            {
                Ok(convert(symbol, self.module))
            }
            Some(Symbolized::Unknown(blaze::Reason::MissingSyms)) => Err(Reason::NoSymbols),
            Some(Symbolized::Unknown(blaze::Reason::IgnoredError)) | None => match debug_info {
                true => Err(Reason::DebugInfoUnusable),
                false => Err(Reason::Malformed),
            },
            Some(_) => Err(Reason::NotCovered),
        }
    }
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
    let outer = Function {
        file: symbol.code_info.as_deref().map(file),
        line: symbol.code_info.as_deref().and_then(|info| info.line),
        ..Function::named(&*symbol.name)
    };
    let inlined = symbol.inlined.iter().take(MAX_INLINED).map(|inlined| {
        let name = match &*inlined.name {
            "" => "[unknown]",
            name => name,
        };
        Function {
            inlined: true,
            file: inlined.code_info.as_ref().map(file),
            line: inlined.code_info.as_ref().and_then(|info| info.line),
            ..Function::named(name)
        }
    });
    CodeSymbol {
        functions: std::iter::once(outer).chain(inlined).collect(),
        module: module.to_owned(),
        named: true,
        offset: symbol.offset as u64,
        size: symbol.size.map_or(0, |size| size as u64),
        reason: None,
    }
}

fn file(info: &CodeInfo<'_>) -> String {
    bounded(info.to_path().to_string_lossy().into_owned())
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
