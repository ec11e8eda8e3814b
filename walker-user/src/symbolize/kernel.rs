//! Names for addresses of the kernel and its modules, by blazesym and kallsyms.
//!
//! A symbolizer is asked once for each distinct address, at the end of a run. Files of users are
//! not read here but in a process of its own, see [`super::service`].

use std::{collections::BTreeMap, path::Path};

use blazesym::symbolize::{
    Input, Reason, Symbolized, Symbolizer,
    source::{Kernel, Source},
};
use rustc_hash::FxHashMap;

use super::demangle;
use crate::kernel::kallsyms::Kallsyms;

/// The answer for one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KernelSymbol {
    /// The function, demangled.
    pub name: String,
    /// The module; `None` for the kernel image.
    pub module: Option<String>,
    /// Bytes from the start of the function.
    pub offset: u64,
    /// Bytes of the function; 0 if not known.
    pub size: u64,
}

/// The symbols of the kernel.
#[derive(Debug)]
pub struct KernelSymbols {
    blazesym: Symbolizer,
    unnamed: BTreeMap<&'static str, u64>,
}

impl Default for KernelSymbols {
    fn default() -> Self {
        Self::new()
    }
}

impl KernelSymbols {
    /// Nothing is read yet.
    #[must_use]
    pub fn new() -> Self {
        let blazesym = Symbolizer::builder()
            .enable_code_info(false)
            .enable_inlined_fns(false)
            // blazesym would take plain names for C++ types; see `demangle`.
            .enable_demangling(false)
            .build();
        Self {
            blazesym,
            unnamed: BTreeMap::new(),
        }
    }

    /// Looks addresses up, of return addresses the byte before.
    pub fn look_up(
        &mut self,
        kallsyms: &Kallsyms,
        addresses: &[u64],
    ) -> FxHashMap<u64, KernelSymbol> {
        let source = Source::Kernel(Kernel {
            debug_syms: false,
            ..Default::default()
        });
        let mut symbols = FxHashMap::default();
        let Ok(answers) = self.blazesym.symbolize(&source, Input::AbsAddr(addresses)) else {
            self.count("no symbols could be read", addresses.len());
            return symbols;
        };
        let mut unknown = Vec::new();
        for (address, answer) in addresses.iter().zip(&answers) {
            let symbol = match answer {
                Symbolized::Sym(symbol) => symbol,
                Symbolized::Unknown(reason) => {
                    unknown.push(explain(*reason));
                    continue;
                }
            };
            let module = symbol.module.as_ref().map(|path| {
                let name = Path::new(path).file_name().unwrap_or(path);
                name.to_string_lossy().into_owned()
            });
            let size = symbol.size.map(|size| size as u64);
            let size = size.or_else(|| kallsyms.size_at(symbol.addr));
            symbols.insert(
                *address,
                KernelSymbol {
                    name: demangle::kernel(&symbol.name),
                    module,
                    offset: symbol.offset as u64,
                    size: size.unwrap_or(0),
                },
            );
        }
        drop(answers);
        for reason in unknown {
            self.count(reason, 1);
        }
        symbols
    }

    fn count(&mut self, reason: &'static str, addresses: usize) {
        *self.unnamed.entry(reason).or_default() += addresses as u64;
    }

    /// How many distinct addresses got no name, by reason.
    #[must_use]
    pub const fn unnamed(&self) -> &BTreeMap<&'static str, u64> {
        &self.unnamed
    }
}

const fn explain(reason: Reason) -> &'static str {
    match reason {
        Reason::Unmapped => "not in any mapping",
        Reason::InvalidFileOffset => "past the end of its file",
        Reason::MissingComponent => "its file cannot be opened",
        Reason::MissingSyms => "its file has no symbols",
        Reason::Unsupported => "mapping of a kind without symbols",
        Reason::UnknownAddr => "no symbol covers it",
        _ => "another reason",
    }
}
