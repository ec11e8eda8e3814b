//! Everything that is found out about the running kernel before the first sample.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use walker_common::maps::CpuStacks;

use super::{
    image::KernelImage,
    kallsyms::Kallsyms,
    kcore::Kcore,
    memory::CpuProbe,
    offsets::Offsets,
    orc_source::{self, OrcSourceError, RawOrc},
    sampled::SampledKernel,
    stacks::{self, CpuStackTable},
};
use crate::unwind::kernel::{KernelTables, TextMap, TextRange};

/// BPF programs, trampolines and modules are placed between the kernel image and here
/// (`MODULES_END`, `arch/x86/include/asm/pgtable_64_types.h`; it has been this or lower since
/// 4.x).
const DYNAMIC_TEXT_END: u64 = 0xffff_ffff_ff00_0000;

/// Where sysfs shows the modules.
const MODULES: &str = "/sys/module";

/// The running kernel.
#[derive(Debug)]
pub struct RunningKernel {
    /// Field offsets and sizes.
    pub offsets: Offsets,
    /// Bounds and extents of symbols.
    pub symbols: Arc<Kallsyms>,
    /// What walks need of it.
    pub sampled: SampledKernel,
    /// Modules whose unwind tables could not be read.
    pub unreadable_modules: usize,
}

impl RunningKernel {
    /// Finds everything out. `cpus` is one more than the highest possible CPU number.
    ///
    /// # Errors
    /// With what could not be found, and what to do about it.
    pub fn inspect(
        probe: &mut impl CpuProbe,
        offsets: Offsets,
        symbols: Kallsyms,
        cpus: u32,
        image: Option<&KernelImage>,
    ) -> anyhow::Result<Self> {
        let cpus = stacks::of_all_cpus(probe, &offsets, &symbols, cpus)
            .context("cannot find where this kernel's CPUs have their stacks")?;
        let mut kernel = Self {
            sampled: SampledKernel {
                tables: KernelTables {
                    text: text_map(&symbols)?,
                    orc: Vec::new(),
                },
                thread_size: offsets.thread_size,
                cpus,
            },
            offsets,
            symbols: Arc::new(symbols),
            unreadable_modules: 0,
        };
        kernel
            .read_orc(probe, image)
            .context("cannot read the kernel's unwind tables (ORC)")?;
        Ok(kernel)
    }

    /// Reads the tables of the kernel and its modules, if the kernel has any.
    fn read_orc(
        &mut self,
        probe: &mut impl CpuProbe,
        image: Option<&KernelImage>,
    ) -> Result<(), OrcSourceError> {
        let Some(bits) = self.offsets.orc else {
            return Ok(());
        };
        let raw = match image {
            Some(image) => {
                let stext = self.symbols.address("_stext");
                RawOrc::from_image(image, stext.ok_or(OrcSourceError::NoSymbols)?)?
            }
            None => RawOrc::find(probe, &self.symbols).or_else(|error| {
                // What a BPF program cannot read, another way to kernel memory may.
                match Kcore::of_running_kernel() {
                    Ok(mut kcore) => RawOrc::find(&mut kcore, &self.symbols),
                    Err(_) => Err(error),
                }
            })?,
        };
        let has_link = self
            .sampled
            .cpus
            .iter()
            .flatten()
            .any(|cpu| cpu.irq_stack_has_link);
        let format = raw.format(bits, has_link)?;
        self.sampled.tables.orc.push(raw.table(format)?);
        if let Some(module) = self.offsets.module_orc {
            let (tables, unreadable) =
                orc_source::of_modules(probe, module, format, Path::new(MODULES));
            self.sampled.tables.orc.extend(tables);
            self.unreadable_modules = unreadable;
        }
        Ok(())
    }

    /// The stacks of each CPU that has a table.
    pub fn cpus(&self) -> impl Iterator<Item = (u32, &CpuStackTable)> {
        self.sampled
            .cpus
            .iter()
            .enumerate()
            .filter_map(|(cpu, table)| {
                let table = table.as_ref()?;
                Some((u32::try_from(cpu).ok()?, table))
            })
    }

    /// The tables in the form the BPF programs read.
    pub fn stack_tables(&self) -> impl Iterator<Item = (u32, CpuStacks)> {
        self.cpus()
            .map(|(cpu, table)| (cpu, table.to_map_value(&self.offsets)))
    }
}

fn text_map(symbols: &Kallsyms) -> anyhow::Result<TextMap> {
    let kernel = symbols.kernel_text()?;
    Ok(TextMap {
        ranges: vec![kernel],
        dynamic: Some(TextRange {
            begin: kernel.end,
            end: DYNAMIC_TEXT_END,
        }),
    })
}
