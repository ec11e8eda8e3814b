//! Where the stacks of each CPU are.
//!
//! Per-CPU variables have their offsets in BTF, but the base of a CPU's area is in no file: it is
//! found through the running task's run queue, which is itself per-CPU, and then proved by other
//! per-CPU variables. What is on a stack is the classifier's business.

use thiserror::Error;
use walker_common::{
    StackKind,
    maps::{CpuFacts, CpuStacks, MAX_RANGES, StackRange},
};

use super::{
    kallsyms::Kallsyms,
    memory::{CpuProbe, KernelMemory, ReadError},
    offsets::Offsets,
};
use crate::classify::{
    KnownStack, LayoutError, NextSp,
    x86_64::{CpuPointers, ExceptionStack, Layout, percpu_stacks},
};

/// Why a CPU's stacks are not known.
#[derive(Debug, Error)]
pub enum StacksError {
    /// Kernel memory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// CPUs cannot be asked.
    #[error(transparent)]
    Probe(#[from] anyhow::Error),
    /// A range that makes no sense.
    #[error("CPU {cpu}: {error}")]
    Layout {
        /// The CPU.
        cpu: u32,
        /// What is wrong.
        error: LayoutError,
    },
    /// No way to the per-CPU base works.
    #[error(
        "CPU {cpu}: the per-CPU area cannot be found: the kernel has neither \
         CONFIG_FAIR_GROUP_SCHED nor `__per_cpu_offset` in kallsyms (CONFIG_KALLSYMS_ALL)"
    )]
    NoBase {
        /// The CPU.
        cpu: u32,
    },
    /// The base that was found is not that of this CPU.
    #[error("CPU {cpu}: what was taken for its per-CPU area belongs to CPU {found}")]
    WrongBase {
        /// The CPU.
        cpu: u32,
        /// What the area says.
        found: u32,
    },
    /// No CPU could be asked.
    #[error("no CPU could be asked for its stacks")]
    NoCpu,
}

/// The stacks of one CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuStackTable {
    /// Start of the CPU's per-CPU area: where BTF's per-CPU offsets count from.
    pub base: u64,
    /// The stacks, in the order of the search.
    pub stacks: Vec<KnownStack>,
    /// Whether the IRQ stack keeps room for the interrupted stack pointer above its pointer
    /// (5.12 on).
    pub irq_stack_has_link: bool,
}

impl CpuStackTable {
    /// The form the BPF programs read. Only links that are a word below a stack's end are followed
    /// there, which is all of x86_64.
    #[must_use]
    pub fn to_map_value(&self, offsets: &Offsets) -> CpuStacks {
        let mut value = CpuStacks {
            preempt_count: offsets
                .preempt_count
                .map_or(0, |offset| self.base.wrapping_add(offset)),
            ..CpuStacks::default()
        };
        for (stack, range) in self.stacks.iter().take(MAX_RANGES).zip(&mut value.ranges) {
            let next_sp_below_end = match stack.next_sp {
                NextSp::BelowEnd(distance) => u32::try_from(distance).unwrap_or(0),
                NextSp::None | NextSp::AtBegin | NextSp::Value(_) => 0,
            };
            *range = StackRange {
                begin: stack.begin,
                end: stack.end,
                next_sp_below_end,
                kind: stack.kind as u32,
            };
            value.count += 1;
        }
        value
    }
}

/// The tables of all CPUs by number; `None` for those that are offline.
///
/// # Errors
/// If no CPU can be asked, or an answer is proved wrong.
pub fn of_all_cpus(
    probe: &mut impl CpuProbe,
    offsets: &Offsets,
    symbols: &Kallsyms,
    cpus: u32,
) -> Result<Vec<Option<CpuStackTable>>, StacksError> {
    let mut tables = Vec::with_capacity(cpus as usize);
    for cpu in 0..cpus {
        let table = match probe.cpu_facts(cpu)? {
            Some(facts) => {
                let base = percpu_base(probe, offsets, symbols, cpu, &facts)?;
                Some(table_at(probe, offsets, cpu, base)?)
            }
            None => None,
        };
        tables.push(table);
    }
    if tables.iter().all(Option::is_none) {
        return Err(StacksError::NoCpu);
    }
    Ok(tables)
}

/// The start of a CPU's per-CPU area: where BTF's per-CPU offsets count from.
fn percpu_base(
    memory: &mut impl KernelMemory,
    offsets: &Offsets,
    symbols: &Kallsyms,
    cpu: u32,
    facts: &CpuFacts,
) -> Result<u64, StacksError> {
    let base = if facts.rq != 0 {
        facts.rq.wrapping_sub(offsets.runqueues)
    } else if let Some(table) = symbols.address("__per_cpu_offset") {
        // From 6.15 on the offsets in this table count from the section's link address.
        let offset = memory.read_u64(table.wrapping_add(8 * u64::from(cpu)))?;
        offset.wrapping_add(symbols.address("__per_cpu_start").unwrap_or(0))
    } else {
        return Err(StacksError::NoBase { cpu });
    };
    // The area is this CPU's only if it says so itself.
    let found = memory.read_u32(base.wrapping_add(offsets.cpu_number))?;
    if found == cpu {
        Ok(base)
    } else {
        Err(StacksError::WrongBase { cpu, found })
    }
}

/// The table of the CPU whose per-CPU area begins at `base`.
///
/// # Errors
/// If the pointers to its stacks cannot be read or make no sense.
pub fn table_at(
    memory: &mut impl KernelMemory,
    offsets: &Offsets,
    cpu: u32,
    base: u64,
) -> Result<CpuStackTable, StacksError> {
    let irq_pointer = memory.read_u64(base.wrapping_add(offsets.hardirq_stack_ptr))?;
    let exceptions = memory.read_u64(base.wrapping_add(offsets.cea_exception_stacks))?;
    let exception_stacks: Vec<ExceptionStack> = offsets
        .exception_stacks
        .iter()
        .filter_map(|stack| {
            let kind = exception_kind(&stack.name)?;
            Some(ExceptionStack {
                kind,
                offset: stack.offset,
                size: stack.size,
            })
        })
        .collect();
    let layout = Layout {
        irq_stack_size: offsets.irq_stack_size,
        exception_stacks: &exception_stacks,
        entry_stack_size: offsets.entry_stack_size,
    };
    let pointers = CpuPointers {
        hardirq_stack_ptr: Some(irq_pointer),
        cea_exception_stacks: Some(exceptions),
        entry_stack: exceptions.checked_sub(offsets.entry_stack_below_exceptions),
    };
    let stacks =
        percpu_stacks(&layout, &pointers).map_err(|error| StacksError::Layout { cpu, error })?;
    Ok(CpuStackTable {
        base,
        stacks,
        irq_stack_has_link: !irq_pointer.is_multiple_of(4096),
    })
}

/// The kind of stack a member of `struct cea_exception_stacks` is.
fn exception_kind(member: &str) -> Option<StackKind> {
    match member {
        "DF_stack" => Some(StackKind::DoubleFault),
        "NMI_stack" => Some(StackKind::Nmi),
        "DB_stack" => Some(StackKind::Debug),
        "MCE_stack" => Some(StackKind::MachineCheck),
        "VC_stack" => Some(StackKind::Vc),
        "VC2_stack" => Some(StackKind::Vc2),
        _ => None,
    }
}

#[cfg(test)]
#[path = "stacks_tests.rs"]
mod tests;
