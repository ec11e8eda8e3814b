//! Names for addresses of user space: what is known already, then the worker process or the perf
//! map, and a count of what has no name.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::Arc,
};

use super::{
    CodeSymbol, FileKey, Function, Object, Reason,
    cache::Cache,
    jit_names::{JIT, JitNames, JitReader},
    perf_map::PerfMapFile,
    service::{Config, Service},
};

/// Most symbols that are remembered, about 300 bytes each.
const CACHED: usize = 200_000;
/// Most files that are counted for a reason.
const MAX_COUNTED: usize = 10_000;

/// Names of user-space code.
#[derive(Debug)]
pub struct UserSymbols {
    service: Service,
    cache: Cache<(FileKey, u64), Arc<CodeSymbol>>,
    jit: JitReader,
    unnamed: BTreeMap<&'static str, u64>,
    partial: BTreeMap<&'static str, HashSet<FileKey>>,
}

impl UserSymbols {
    /// Starts the thread that asks the worker process.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn new(config: Config) -> io::Result<Self> {
        Ok(Self {
            service: Service::start(config)?,
            cache: Cache::new(CACHED),
            jit: JitReader::default(),
            unnamed: BTreeMap::new(),
            partial: BTreeMap::new(),
        })
    }

    /// Looks addresses (as linked) of one file up, each given once; of return addresses the byte
    /// before. Blocks until the worker has answered; to name the addresses of several files, ask
    /// for all of one file at once.
    pub fn object(
        &mut self,
        object: &Arc<Object>,
        addresses: &[u64],
    ) -> HashMap<u64, Arc<CodeSymbol>> {
        let Ok(key) = FileKey::of(&object.file) else {
            return self.answer(unnamed(object, addresses, Reason::Unreadable));
        };
        let mut known = HashMap::with_capacity(addresses.len());
        let mut missing = Vec::new();
        for &address in addresses {
            match self.cache.get(&(key, address)) {
                Some(symbol) => {
                    known.insert(address, Arc::clone(symbol));
                }
                None => missing.push(address),
            }
        }
        if !missing.is_empty() {
            let answers = self.service.ask(object, missing.clone()).wait();
            let fresh: Vec<_> = missing
                .into_iter()
                .zip(answers.into_iter().map(Arc::new))
                .collect();
            for (address, symbol) in &fresh {
                self.cache.insert((key, *address), Arc::clone(symbol));
            }
            known.extend(self.answer_of(key, fresh));
        }
        known
    }

    /// Says of addresses of a file that cannot be opened that they have no name.
    pub fn without_file(
        &mut self,
        name: &str,
        addresses: &[u64],
        reason: Reason,
    ) -> HashMap<u64, Arc<CodeSymbol>> {
        let symbol = |&address| {
            let symbol = CodeSymbol::unnamed(name, address, reason);
            (address, Arc::new(symbol))
        };
        self.answer(addresses.iter().map(symbol).collect())
    }

    /// Looks addresses of code up that was made at run time, in what its process's compiler wrote
    /// of it up to now.
    pub fn jit_file(
        &mut self,
        file: Option<&PerfMapFile>,
        addresses: &[u64],
    ) -> HashMap<u64, Arc<CodeSymbol>> {
        let names = file.map(|file| self.jit.read(file)).unwrap_or_default();
        self.jit(&names, addresses)
    }

    fn jit(&mut self, names: &JitNames, addresses: &[u64]) -> HashMap<u64, Arc<CodeSymbol>> {
        let reason = match (names.too_slow, names.is_empty()) {
            (true, _) => Reason::TooSlow,
            (false, true) => Reason::NoPerfMap,
            (false, false) => Reason::NotInPerfMap,
        };
        let symbols = addresses.iter().map(|&address| {
            let found = names.find(address);
            let symbol = found.unwrap_or_else(|| jit_unnamed(address, reason));
            (address, Arc::new(symbol))
        });
        let symbols = symbols.collect();
        self.answer(symbols)
    }

    /// How many distinct addresses have no name, by reason.
    #[must_use]
    pub const fn unnamed(&self) -> &BTreeMap<&'static str, u64> {
        &self.unnamed
    }

    /// How many files have debug info that was not used, or not all of it, by reason.
    pub fn unused_debug_info(&self) -> impl Iterator<Item = (&'static str, usize)> {
        { self.partial.iter() }.map(|(reason, files)| (*reason, files.len()))
    }

    /// Counts what the answers of a file lack.
    fn answer_of(
        &mut self,
        file: FileKey,
        symbols: Vec<(u64, Arc<CodeSymbol>)>,
    ) -> HashMap<u64, Arc<CodeSymbol>> {
        for (_, symbol) in &symbols {
            if let Some(reason) = symbol.reason
                && (symbol.named || reason.is_of_debug_info())
            {
                let files = self.partial.entry(reason.name()).or_default();
                if files.len() < MAX_COUNTED {
                    files.insert(file);
                }
            }
        }
        self.answer(symbols)
    }

    fn answer(&mut self, symbols: Vec<(u64, Arc<CodeSymbol>)>) -> HashMap<u64, Arc<CodeSymbol>> {
        for (_, symbol) in &symbols {
            if let Some(reason) = symbol.reason
                && !symbol.named
            {
                *self.unnamed.entry(reason.name()).or_default() += 1;
            }
        }
        symbols.into_iter().collect()
    }
}

fn unnamed(object: &Object, addresses: &[u64], reason: Reason) -> Vec<(u64, Arc<CodeSymbol>)> {
    let module = object.name();
    let symbol = |&address| {
        let symbol = CodeSymbol::unnamed(&module, address, reason);
        (address, Arc::new(symbol))
    };
    addresses.iter().map(symbol).collect()
}

/// Addresses of JIT code mean nothing beyond the run, so all of it has one name.
fn jit_unnamed(address: u64, reason: Reason) -> CodeSymbol {
    CodeSymbol {
        functions: vec![Function::named(JIT)],
        ..CodeSymbol::unnamed(JIT, address, reason)
    }
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
