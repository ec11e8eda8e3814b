//! Kernels that have crashed or were stopped: the memory of a machine as an ELF core file, of
//! 64-bit and of 32-bit x86, as kdump and QEMU's `dump-guest-memory` write it.
//!
//! `file` and `notes` read the file, `paging` and `memory` the kernel's virtual memory, `symbols`
//! and `identity` find the kernel in it; `cpus`, `tasks` and `code` find out what walks need, and
//! `walk` gives it to the classifier and the unwinder that live samples use. Every byte of a core
//! may be wrong: that is why there is one. Nothing here looks at the running kernel.

mod code;
mod cpus;
mod error;
mod file;
mod identity;
mod kernel;
mod memory;
mod modules;
mod names;
mod notes;
mod paging;
mod structure;
mod symbols;
mod task_layout;
mod tasks;
mod text;
mod walk;

#[cfg(test)]
mod dump_32_tests;
#[cfg(test)]
mod dump_64_tests;
#[cfg(test)]
mod test_kernel_32;
#[cfg(test)]
mod test_kernel_64;
#[cfg(test)]
mod test_machine;
#[cfg(test)]
mod test_types_64;

use std::{collections::HashSet, path::Path};

pub use error::CoreError;
pub use text::{Report, Selection, Totals};

use self::{
    code::Code,
    cpus::Cpu,
    file::CoreFile,
    kernel::CoreKernel,
    notes::Notes,
    symbols::Symbols,
    task_layout::TaskLayout,
    tasks::{Task, TaskList},
};
use crate::{
    btf::Btf, classify::WordSize, elf::Source, kernel::memory::KernelMemory as _, sys::regular_file,
};

/// The most bytes of type information; a distribution's kernel has 5 MiB.
const MAX_BTF: u64 = 64 << 20;

/// A core with everything that was found out about it.
#[derive(Debug)]
pub struct CoreDump {
    kernel: CoreKernel,
    layout: TaskLayout,
    cpus: Vec<Cpu>,
    /// The idle tasks of the CPUs, then all others.
    idle: Vec<Task>,
    list: TaskList,
    code: Code,
}

impl CoreDump {
    /// Opens a core and the file with its kernel's symbols.
    ///
    /// # Errors
    /// With what is wrong with either, or what does not fit together.
    pub fn open(core: &Path, symbols: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let named = |path: &Path| format!("`{}`", path.display());
        let file = regular_file::open(core).with_context(|| named(core))?;
        let file = CoreFile::open(Box::new(file)).with_context(|| named(core))?;
        let symbols_of = Symbols::open(symbols).with_context(|| named(symbols))?;
        Self::inspect(file, symbols_of)
            .with_context(|| format!("{} with {}", named(core), named(symbols)))
    }

    /// The same of a core that is somewhere else than in a file.
    ///
    /// # Errors
    /// As [`CoreDump::open`].
    pub fn from_source(source: Box<dyn Source>, symbols: &[u8]) -> Result<Self, CoreError> {
        Self::inspect(CoreFile::open(source)?, Symbols::from_text(symbols)?)
    }

    fn inspect(file: CoreFile, mut symbols: Symbols) -> Result<Self, CoreError> {
        let notes = Notes::parse(&file.notes, file.word)?;
        let btf = symbols.btf.take();
        let identity = identity::find(file, &notes, &symbols)?;
        let mut kernel = CoreKernel::new(identity, symbols);
        let btf = match (btf, kernel.word()) {
            (Some(btf), _) => Some(Btf::parse(btf)?),
            (None, word) => match btf_in_memory(&mut kernel) {
                Ok(btf) => Some(btf),
                Err(error) if word == WordSize::Eight => return Err(error),
                Err(_) => None,
            },
        };
        let offsets = match (&btf, kernel.word()) {
            (Some(btf), WordSize::Eight) => Some(cpus::offsets(btf)?),
            _ => None,
        };
        let cpus = cpus::all(&mut kernel, &notes, offsets.as_ref())?;
        let layout = match &btf {
            Some(btf) => TaskLayout::from_btf(btf)?,
            None => {
                let running: HashSet<u64> = cpus.iter().filter_map(|cpu| cpu.current).collect();
                structure::discover(&kernel, &running)?
            }
        };
        let has_link = cpus.iter().any(|cpu| cpu.irq_stack_has_link);
        let types = btf.as_ref().zip(offsets.as_ref());
        let code = code::find(&mut kernel, types, has_link)?;
        let init_task = kernel.required("init_task")?;
        let mut list = tasks::all(&kernel, &layout, init_task);
        let mut idle = Vec::new();
        // The first of the list is init_task, which is the first CPU's idle task.
        idle.extend((!list.tasks.is_empty()).then(|| list.tasks.remove(0)));
        for address in cpus.iter().filter_map(|cpu| cpu.idle) {
            if idle.iter().all(|task: &Task| task.address != address) {
                match Task::read(&kernel, &layout, address) {
                    Ok(task) => idle.push(task),
                    Err(error) => list.broken.push(format!("idle task: {error}")),
                }
            }
        }
        Ok(Self {
            kernel,
            layout,
            cpus,
            idle,
            list,
            code,
        })
    }
}

/// The type information in the kernel's own memory.
fn btf_in_memory(kernel: &mut CoreKernel) -> Result<Btf, CoreError> {
    let (begin, end) = (
        kernel.required("__start_BTF")?,
        kernel.required("__stop_BTF")?,
    );
    let length = end
        .checked_sub(begin)
        .filter(|length| *length <= MAX_BTF)
        .ok_or(CoreError::Malformed("the bounds of the type information"))?;
    let bytes = kernel
        .memory
        .read(begin, length as usize)
        .map_err(|error| CoreError::Memory {
            what: "the type information (BTF)",
            error,
        })?;
    Ok(Btf::parse(bytes)?)
}
