//! Names the addresses of one file with blazesym. Runs in the worker process only: blazesym maps
//! the file and believes what it says of its own sizes.
//!
//! Everything that was read is dropped before this returns, so that the memory in use is that of
//! the largest file, not of all files.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

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

/// What is asked of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Where to open the file.
    pub(super) open: PathBuf,
    /// Its path as its process saw it.
    pub(super) path: PathBuf,
    /// Addresses as linked.
    pub(super) addresses: Vec<u64>,
    /// Most bytes of debug info to read; 0 for none.
    pub(super) max_debug_info: u64,
    /// Where separate debug files are.
    pub(super) debug_dirs: Vec<PathBuf>,
}

/// One place to look for names.
struct Place<'a> {
    path: &'a Path,
    debug_info: bool,
}

/// The answer for each address, in order.
pub(super) fn symbolize(request: &Request) -> Vec<CodeSymbol> {
    let module = base_name(&request.path);
    let mut found: Vec<Result<CodeSymbol, Reason>> = Vec::new();
    let opened = File::open(&request.open).map_err(|_| Reason::Unreadable);
    match opened.and_then(|file| Ok((elf::facts(&file)?, file))) {
        Err(reason) => found.resize(request.addresses.len(), Err(reason)),
        Ok((facts, file)) => {
            found.resize(request.addresses.len(), Err(Reason::NoSymbols));
            for (found, address) in found.iter_mut().zip(&request.addresses) {
                if facts.code_at(*address).is_none() {
                    *found = Err(Reason::NotCode);
                }
            }
            let separate = match facts.debug_info {
                0 => debug_file::find(&file, &request.path, &facts, &request.debug_dirs),
                _ => None,
            };
            let (path, bytes) = match &separate {
                Some(debug) => (debug.path.as_path(), debug.facts.debug_info),
                None => (request.open.as_path(), facts.debug_info),
            };
            let debug_info = bytes > 0 && bytes <= request.max_debug_info;
            let too_large = bytes > request.max_debug_info && request.max_debug_info > 0;
            let mut places = vec![Place { path, debug_info }];
            // The symbols alone, should the debug info be malformed, then those that a separate
            // file has not.
            let again = debug_info.then_some(path);
            let own = separate.is_some().then_some(request.open.as_path());
            places.extend(again.into_iter().chain(own).map(|path| Place {
                path,
                debug_info: false,
            }));
            for place in &places {
                look_up(place, request, &facts, &mut found);
            }
            if too_large {
                let named = found.iter_mut().flatten();
                named.for_each(|symbol| symbol.reason = Some(Reason::DebugInfoTooLarge));
            }
        }
    }
    let answers = request.addresses.iter().zip(found);
    answers
        .map(|(address, found)| {
            found.unwrap_or_else(|reason| CodeSymbol::unnamed(&module, *address, reason))
        })
        .collect()
}

/// Asks one place for what has no name yet.
fn look_up(
    place: &Place<'_>,
    request: &Request,
    facts: &Facts,
    found: &mut [Result<CodeSymbol, Reason>],
) {
    let is_missing = |at: &usize| !matches!(found[*at], Ok(_) | Err(Reason::NotCode));
    let missing: Vec<usize> = (0..found.len()).filter(is_missing).collect();
    if missing.is_empty() {
        return;
    }
    let addresses: Vec<u64> = missing.iter().map(|&at| request.addresses[at]).collect();
    // Debug files were searched before, with more care; blazesym would follow the link of a file
    // to a place that only its name in `/proc` suggests.
    let symbolizer = Symbolizer::builder()
        .enable_auto_reload(false)
        .set_debug_dirs(Some(&request.debug_dirs))
        .build();
    let source = Source::Elf(Elf {
        debug_syms: place.debug_info,
        ..Elf::new(place.path)
    });
    let answers = symbolizer.symbolize(&source, Input::VirtOffset(&addresses));
    for (index, at) in missing.into_iter().enumerate() {
        let answer = match &answers {
            Ok(answers) => answers.get(index),
            Err(_) => None,
        };
        let reason = match answer {
            // A symbol without a size is taken to reach to the next one, but not from data to code.
            Some(Symbolized::Sym(symbol))
                if !symbol.name.is_empty()
                    && facts.code_at(symbol.addr) == facts.code_at(request.addresses[at]) =>
            {
                let reason = match found[at] {
                    Err(Reason::DebugInfoUnusable) => Some(Reason::DebugInfoUnusable),
                    _ => None,
                };
                found[at] = Ok(convert(symbol, &base_name(&request.path), reason));
                continue;
            }
            Some(Symbolized::Sym(_)) => Reason::NotCovered,
            Some(Symbolized::Unknown(blaze::Reason::MissingSyms)) => Reason::NoSymbols,
            Some(Symbolized::Unknown(blaze::Reason::IgnoredError)) | None => {
                match place.debug_info {
                    true => Reason::DebugInfoUnusable,
                    false => Reason::Malformed,
                }
            }
            Some(Symbolized::Unknown(_)) => Reason::NotCovered,
        };
        // What one place says of an address is not forgotten because the next has no symbols.
        if reason != Reason::NoSymbols {
            found[at] = Err(reason);
        }
    }
}

fn convert(symbol: &Sym<'_>, module: &str, reason: Option<Reason>) -> CodeSymbol {
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
        reason,
    }
}

fn file(info: &CodeInfo<'_>) -> String {
    bounded(info.to_path().to_string_lossy().into_owned())
}
