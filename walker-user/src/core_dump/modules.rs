//! The modules that were loaded: their names, where they are, their functions, and their unwind
//! tables.

use std::cell::{Cell, OnceCell};

use super::{kernel::CoreKernel, symbols::until_zero, tasks::container};
use crate::{
    btf::Btf,
    kernel::{offsets::Offsets, orc_source},
    unwind::{
        kernel::TextRange,
        orc::{OrcFormat, OrcTable},
    },
};

/// The most modules; a distribution's kernel with everything loaded has some hundreds.
const MAX_MODULES: usize = 4096;
/// Bytes of a name (`MODULE_NAME_LEN`).
const NAME_BYTES: usize = 56;
/// The most symbols of a module that are looked at; the largest have some ten thousands.
const MAX_SYMBOLS: u64 = 1 << 17;
/// The most functions of all modules that are kept.
pub(super) const MAX_FUNCTIONS: usize = 4 << 20;
/// Bytes of an `Elf64_Sym`.
const SYMBOL_BYTES: usize = 24;
/// The longest name of a symbol (`KSYM_NAME_LEN`).
const SYMBOL_NAME_BYTES: usize = 512;

/// A module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Address of its `struct module`.
    address: u64,
    /// Its name.
    pub name: String,
    /// Its code.
    pub(super) text: TextRange,
    /// Its symbols, if it has kept them.
    symbols: Option<SymbolTable>,
    /// What [`Module::function`] has read of them.
    functions: OnceCell<Vec<(u64, u32)>>,
}

/// A module's `struct mod_kallsyms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SymbolTable {
    entries: u64,
    count: u64,
    names: u64,
}

/// A function of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: String,
    /// Bytes from its begin to the address that was asked for.
    pub(super) offset: u64,
    /// Bytes to the next function, or to the end of the code.
    pub(super) size: u64,
}

impl Module {
    /// The function that holds an address of its code. The symbols are read the first time; `left`
    /// is how many may still be kept, of all modules.
    pub(super) fn function(
        &self,
        kernel: &CoreKernel,
        address: u64,
        left: &Cell<usize>,
    ) -> Option<Function> {
        let table = self.symbols?;
        let functions = self.functions.get_or_init(|| {
            self.read_functions(kernel, &table, left)
                .unwrap_or_default()
        });
        let after = functions.partition_point(|(begin, _)| *begin <= address);
        let (begin, name) = functions.get(after.checked_sub(1)?)?;
        let end = functions.get(after).map_or(self.text.end, |next| next.0);
        Some(Function {
            name: name_at(kernel, table.names.wrapping_add((*name).into()))?,
            offset: address - begin,
            size: end - begin,
        })
    }

    /// Where functions begin, sorted, and where their names are among the names.
    fn read_functions(
        &self,
        kernel: &CoreKernel,
        table: &SymbolTable,
        left: &Cell<usize>,
    ) -> Option<Vec<(u64, u32)>> {
        let mut entries = vec![0; table.count.min(MAX_SYMBOLS) as usize * SYMBOL_BYTES];
        kernel.memory.fill(table.entries, &mut entries).ok()?;
        let mut functions: Vec<(u64, u32)> = entries
            .as_chunks::<SYMBOL_BYTES>()
            .0
            .iter()
            .filter_map(|entry| {
                let &[
                    n0,
                    n1,
                    n2,
                    n3,
                    _,
                    _,
                    s0,
                    s1,
                    v0,
                    v1,
                    v2,
                    v3,
                    v4,
                    v5,
                    v6,
                    v7,
                    ..,
                ] = entry;
                let name = u32::from_le_bytes([n0, n1, n2, n3]);
                let value = u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]);
                let is_function = [s0, s1] != [0, 0] && name != 0 && self.text.holds(value);
                is_function.then_some((value, name))
            })
            .collect();
        functions.sort_unstable();
        functions.dedup_by_key(|(begin, _)| *begin);
        functions.shrink_to_fit();
        left.set(left.get().checked_sub(functions.len())?);
        Some(functions)
    }
}

/// The name at an address.
fn name_at(kernel: &CoreKernel, at: u64) -> Option<String> {
    let mut name = [0; SYMBOL_NAME_BYTES];
    // The page after that of the name need not be mapped.
    let first = SYMBOL_NAME_BYTES.min(4096 - (at % 4096) as usize);
    kernel.memory.fill(at, &mut name[..first]).ok()?;
    let rest = kernel
        .memory
        .fill(at.wrapping_add(first as u64), &mut name[first..]);
    let length = if rest.is_ok() { name.len() } else { first };
    Some(String::from_utf8_lossy(until_zero(&name[..length])).into_owned())
}

/// Where `struct module` has what is wanted, in bytes.
struct Layout {
    list: u64,
    name: u64,
    base: u64,
    size: u64,
    symbols: Option<SymbolsLayout>,
}

/// The way to a module's symbols: the pointer to its `struct mod_kallsyms`, and what is in there.
#[derive(Clone, Copy)]
struct SymbolsLayout {
    kallsyms: u64,
    entries: u64,
    count: u64,
    names: u64,
}

impl Layout {
    fn from_btf(btf: &Btf) -> Option<Self> {
        let offset = |path: &str| Some(btf.find_member(path).ok()??.bit_offset / 8);
        // An array, whose first element is the text, from 6.4 on.
        let (base, size) = match offset("module.mem") {
            Some(memory) => (
                memory + offset("module_memory.base")?,
                memory + offset("module_memory.size")?,
            ),
            None => (
                offset("module.core_layout.base")?,
                offset("module.core_layout.text_size")?,
            ),
        };
        let symbols = || {
            Some(SymbolsLayout {
                kallsyms: offset("module.kallsyms")?,
                entries: offset("mod_kallsyms.symtab")?,
                count: offset("mod_kallsyms.num_symtab")?,
                names: offset("mod_kallsyms.strtab")?,
            })
        };
        Some(Self {
            list: offset("module.list")?,
            name: offset("module.name")?,
            base,
            size,
            symbols: symbols(),
        })
    }
}

/// Lists the modules. What ends the list early is told.
pub(super) fn all(kernel: &CoreKernel, btf: &Btf, unknown: &mut Vec<String>) -> Vec<Module> {
    let mut found: Vec<Module> = Vec::new();
    let (Some(head), Some(layout)) = (kernel.address("modules"), Layout::from_btf(btf)) else {
        unknown.push("the modules: no symbol `modules`, or no type of it".to_owned());
        return found;
    };
    let mut link = kernel.word_at(head);
    loop {
        let next = match link {
            Ok(next) if next == head => return found,
            Ok(next) => next,
            Err(error) => {
                unknown.push(format!("the list of modules: {error}"));
                return found;
            }
        };
        let address = container(next, layout.list, kernel.word());
        if found.len() >= MAX_MODULES || found.iter().any(|module| module.address == address) {
            unknown.push("the list of modules goes round in a circle".to_owned());
            return found;
        }
        match read(kernel, &layout, address) {
            Some(module) => found.push(module),
            None => {
                unknown.push(format!("the module at {address:#x} cannot be read"));
                return found;
            }
        }
        link = kernel.word_at(next);
    }
}

fn read(kernel: &CoreKernel, layout: &Layout, address: u64) -> Option<Module> {
    let mut name = [0; NAME_BYTES];
    kernel
        .memory
        .fill(address.wrapping_add(layout.name), &mut name)
        .ok()?;
    let begin = kernel.word_at(address.wrapping_add(layout.base)).ok()?;
    let size = kernel.u32_at(address.wrapping_add(layout.size)).ok()?;
    Some(Module {
        address,
        name: String::from_utf8_lossy(until_zero(&name)).into_owned(),
        text: TextRange {
            begin,
            end: begin.saturating_add(size.into()),
        },
        symbols: layout
            .symbols
            .and_then(|layout| symbols(kernel, &layout, address)),
        functions: OnceCell::new(),
    })
}

fn symbols(kernel: &CoreKernel, layout: &SymbolsLayout, module: u64) -> Option<SymbolTable> {
    let table = kernel.word_at(module.wrapping_add(layout.kallsyms)).ok()?;
    Some(SymbolTable {
        entries: kernel.word_at(table.wrapping_add(layout.entries)).ok()?,
        count: kernel.u32_at(table.wrapping_add(layout.count)).ok()?.into(),
        names: kernel.word_at(table.wrapping_add(layout.names)).ok()?,
    })
}

/// Adds the unwind tables of those modules that have one.
pub(super) fn orc(
    kernel: &mut CoreKernel,
    modules: &[Module],
    offsets: &Offsets,
    format: OrcFormat,
    unknown: &mut Vec<String>,
) -> Vec<OrcTable> {
    let Some(members) = offsets.module_orc else {
        return Vec::new();
    };
    let mut tables = Vec::new();
    for module in modules {
        match orc_source::of_module(&mut kernel.memory, members, format, module.address) {
            Ok(table) => tables.extend(table),
            Err(error) => unknown.push(format!(
                "the unwind table of module {}: {error}",
                module.name
            )),
        }
    }
    tables
}
