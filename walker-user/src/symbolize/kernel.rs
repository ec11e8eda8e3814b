//! Names for addresses of the kernel, by blazesym and kallsyms.
//!
//! A symbolizer is asked once for each distinct address, at the end of a run. Files of users are
//! not read here but in a process of its own, see [`super::service`]; [`Symbols::user`] is what was
//! there before.

use std::{collections::BTreeMap, path::Path};

use blazesym::{
    Pid,
    symbolize::{
        Input, Reason, Sym, Symbolized, Symbolizer,
        cache::{Cache, Process},
        source::{self, Source},
    },
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::kernel::kallsyms::Kallsyms;

/// Most processes whose mappings are remembered.
const MAX_PROCESSES: usize = 4096;

/// The answer for one address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Symbol {
    /// The function; `None` if no symbol covers the address.
    pub name: Option<String>,
    /// The kernel module, or the base name of the file in user space.
    pub module: Option<String>,
    /// Bytes from the start of the function.
    pub offset: u64,
    /// Bytes of the function; 0 if not known.
    pub size: u64,
}

/// The symbols of the kernel and of the processes seen.
#[derive(Debug)]
pub struct Symbols {
    blazesym: Symbolizer,
    processes: FxHashSet<u32>,
    unnamed: BTreeMap<&'static str, u64>,
}

impl Default for Symbols {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbols {
    /// Nothing is read yet.
    #[must_use]
    pub fn new() -> Self {
        let blazesym = Symbolizer::builder()
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .enable_demangling(true)
            .build();
        Self {
            blazesym,
            processes: FxHashSet::default(),
            unnamed: BTreeMap::new(),
        }
    }

    /// Remembers the mappings of a process that may be gone when its addresses are looked up.
    pub fn remember(&mut self, pid: u32) {
        if self.processes.len() < MAX_PROCESSES && self.processes.insert(pid) {
            let process = Process::new(Pid::from(pid));
            if self.blazesym.cache(&Cache::Process(process)).is_err() {
                // It ended before it was seen: its addresses will be counted as without a name.
                self.processes.remove(&pid);
            }
        }
    }

    /// Looks kernel addresses up. Return addresses are to be given minus one.
    pub fn kernel(&mut self, kallsyms: &Kallsyms, addresses: &[u64]) -> FxHashMap<u64, Symbol> {
        let source = Source::Kernel(source::Kernel {
            debug_syms: false,
            ..Default::default()
        });
        let size_of = |symbol: &Sym<'_>| {
            let size = symbol.size.map(|size| size as u64);
            size.or_else(|| kallsyms.size_at(symbol.addr)).unwrap_or(0)
        };
        self.look_up(&[source], addresses, size_of)
    }

    /// Looks addresses of one process up.
    pub fn user(&mut self, pid: u32, addresses: &[u64]) -> FxHashMap<u64, Symbol> {
        let alive = Path::new(&format!("/proc/{pid}")).exists();
        if !alive && !self.processes.contains(&pid) {
            self.count("process ended before it was seen", addresses.len());
            return FxHashMap::default();
        }
        let source = |map_files| {
            Source::Process(source::Process {
                debug_syms: false,
                map_files,
                ..source::Process::new(Pid::from(pid))
            })
        };
        // A living process's own view of its files is the right one in every mount namespace, but
        // takes CAP_SYS_ADMIN; their paths have to do without.
        let sources = [source(true), source(false)];
        let sources = if alive { &sources[..] } else { &sources[1..] };
        self.look_up(sources, addresses, |symbol| {
            symbol.size.map_or(0, |size| size as u64)
        })
    }

    /// Asks the first source that can be read.
    fn look_up(
        &mut self,
        sources: &[Source<'_>],
        addresses: &[u64],
        size_of: impl Fn(&Sym<'_>) -> u64,
    ) -> FxHashMap<u64, Symbol> {
        let mut symbols = FxHashMap::default();
        let mut unknown = Vec::new();
        let answers = sources.iter().find_map(|source| {
            self.blazesym
                .symbolize(source, Input::AbsAddr(addresses))
                .ok()
        });
        for (address, answer) in addresses.iter().zip(answers.iter().flatten()) {
            match answer {
                Symbolized::Sym(symbol) => {
                    let module = symbol.module.as_ref().map(|path| {
                        let name = Path::new(path).file_name().unwrap_or(path);
                        name.to_string_lossy().into_owned()
                    });
                    symbols.insert(
                        *address,
                        Symbol {
                            name: Some(symbol.name.clone().into_owned()),
                            module,
                            offset: symbol.offset as u64,
                            size: size_of(symbol),
                        },
                    );
                }
                Symbolized::Unknown(reason) => unknown.push(explain(*reason)),
            }
        }
        let answered = answers.is_some();
        drop(answers);
        for reason in unknown {
            self.count(reason, 1);
        }
        if !answered {
            self.count("no symbols could be read", addresses.len());
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
