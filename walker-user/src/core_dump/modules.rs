//! The modules that were loaded: their names, where they are, and their unwind tables.

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

/// A module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Address of its `struct module`.
    address: u64,
    /// Its name.
    pub name: String,
    /// Its code, of which it can use a part only.
    pub text: TextRange,
}

/// Where `struct module` has what is wanted, in bytes.
struct Layout {
    list: u64,
    name: u64,
    base: u64,
    size: u64,
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
                offset("module.core_layout.size")?,
            ),
        };
        Some(Self {
            list: offset("module.list")?,
            name: offset("module.name")?,
            base,
            size,
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
