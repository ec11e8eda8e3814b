//! The CPUs of a kernel in a core: their per-CPU data, their stacks, the task each runs, and which
//! note has its registers.

use super::{
    CoreError,
    kernel::CoreKernel,
    notes::{CpuNote, MAX_CPUS, Notes, SystemRegisters},
};
use crate::{
    btf::Btf,
    classify::{KnownStack, WordSize, x86_32},
    kernel::{offsets::Offsets, stacks},
};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// `THREAD_SIZE` of 32-bit kernels in all versions (`page_32_types.h`).
const THREAD_SIZE_32: u64 = 8 << 10;
/// Bytes of `struct x86_hw_tss` of 32-bit kernels, which shares its page with the `#DF` stack.
const HW_TSS_32: u64 = 104;
/// Where it keeps the stack pointer of a task that was switched away from.
const HW_TSS_32_SP: u64 = 56;

/// One CPU.
#[derive(Debug)]
pub(super) struct Cpu {
    /// Its number.
    pub number: u32,
    /// Its registers, if a note has them.
    pub note: Option<CpuNote>,
    /// Its stacks, in the order of the search.
    pub stacks: Vec<KnownStack>,
    /// Whether its IRQ stack keeps room for the interrupted stack pointer above its pointer
    /// (64 bits, 5.12 on).
    pub irq_stack_has_link: bool,
    /// Address of the task it runs.
    pub current: Option<u64>,
    /// Address of its idle task.
    pub idle: Option<u64>,
    /// What is not known of it, one line each.
    pub unknown: Vec<String>,
}

/// Per-CPU data of one CPU.
struct Area {
    number: u32,
    /// What is added to a per-CPU variable's address.
    offset: u64,
}

impl Area {
    /// Reads a word of a per-CPU variable.
    fn word(&self, kernel: &CoreKernel, variable: &'static str) -> Option<u64> {
        let address = kernel.address(variable)?.wrapping_add(self.offset);
        kernel.word_at(narrow(address, kernel.word())).ok()
    }
}

/// Finds out about every CPU that was online. `btf` is needed for the stacks of a 64-bit kernel,
/// whose irregular sizes and offsets are in `offsets`.
///
/// # Errors
/// If the kernel's tables of CPUs cannot be read.
pub(super) fn all(
    kernel: &mut CoreKernel,
    notes: &Notes,
    offsets: Option<&Offsets>,
) -> Result<Vec<Cpu>, CoreError> {
    let areas = areas(kernel)?;
    let mut taken = vec![false; notes.cpus.len()];
    let mut cpus = Vec::with_capacity(areas.len());
    for (index, area) in areas.iter().enumerate() {
        let note = note_of(&notes.cpus, area, index, areas.len(), &mut taken);
        cpus.push(cpu(kernel, area, note, offsets));
    }
    Ok(cpus)
}

/// The per-CPU areas of the CPUs that were online, by number.
fn areas(kernel: &CoreKernel) -> Result<Vec<Area>, CoreError> {
    let word = kernel.word().bytes();
    let possible = kernel
        .u32_at(kernel.required("nr_cpu_ids")?)
        .map_err(|error| CoreError::Memory {
            what: "the number of CPUs",
            error,
        })?;
    if possible == 0 || possible as usize > MAX_CPUS {
        return Err(CoreError::TooMany {
            what: "CPUs",
            count: possible.into(),
            limit: MAX_CPUS as u64,
        });
    }
    let mut areas = Vec::new();
    for number in 0..possible {
        let bits = 8 * word;
        let mask = kernel.word_of("__cpu_online_mask", u64::from(number) / bits * word)?;
        if mask >> (u64::from(number) % bits) & 1 != 0 {
            areas.push(Area {
                number,
                offset: kernel.word_of("__per_cpu_offset", u64::from(number) * word)?,
            });
        }
    }
    Ok(areas)
}

/// The note with the registers of a CPU: the one whose segment base is the CPU's, or without such
/// bases, and with as many notes as CPUs, the one in its place.
fn note_of(
    notes: &[CpuNote],
    area: &Area,
    index: usize,
    cpus: usize,
    taken: &mut [bool],
) -> Option<CpuNote> {
    let belongs = |system: &SystemRegisters| {
        let bases = [system.fs_base, system.gs_base, system.kernel_gs_base];
        area.offset != 0 && bases.contains(&area.offset)
    };
    let by_base = notes
        .iter()
        .position(|note| note.system.as_ref().is_some_and(belongs));
    let by_place = (notes.len() == cpus).then_some(index);
    let found = by_base.or(by_place).filter(|found| !taken[*found])?;
    taken[found] = true;
    notes.get(found).copied()
}

fn cpu(
    kernel: &mut CoreKernel,
    area: &Area,
    note: Option<CpuNote>,
    offsets: Option<&Offsets>,
) -> Cpu {
    let mut unknown = Vec::new();
    let (stacks, irq_stack_has_link) = match (kernel.word(), offsets) {
        (WordSize::Eight, Some(offsets)) => stacks_64(kernel, area, offsets, &mut unknown),
        (WordSize::Eight, None) => (Vec::new(), false),
        (WordSize::Four, _) => (stacks_32(kernel, area, note.as_ref(), &mut unknown), false),
    };
    if note.is_none() {
        unknown.push("its registers: no note has them".to_owned());
    }
    let current = area
        .word(kernel, "current_task")
        // From 6.2 to 6.14 the first member of another variable.
        .or_else(|| area.word(kernel, "pcpu_hot"))
        .filter(|task| *task != 0);
    if current.is_none() {
        unknown.push("the task it runs".to_owned());
    }
    Cpu {
        number: area.number,
        note,
        stacks,
        irq_stack_has_link,
        current,
        idle: area.word(kernel, "idle_threads").filter(|task| *task != 0),
        unknown,
    }
}

fn stacks_64(
    kernel: &mut CoreKernel,
    area: &Area,
    offsets: &Offsets,
    unknown: &mut Vec<String>,
) -> (Vec<KnownStack>, bool) {
    // Type information counts from the start of the area.
    let start = kernel.address("__per_cpu_start").unwrap_or(0);
    let base = area.offset.wrapping_add(start);
    match stacks::table_at(&mut kernel.memory, offsets, area.number, base) {
        Ok(table) => (table.stacks, table.irq_stack_has_link),
        Err(error) => {
            unknown.push(format!("its stacks: {error}"));
            (Vec::new(), false)
        }
    }
}

/// The stacks of a 32-bit CPU. Those for interrupts are found by their per-CPU pointers; entry
/// and `#DF` stack are pages of `struct cpu_entry_area` (`cpu_entry_area.h`, the same from 5.10 to
/// 6.18), between its first page, which is the CPU's descriptor table, and its TSS.
fn stacks_32(
    kernel: &CoreKernel,
    area: &Area,
    note: Option<&CpuNote>,
    unknown: &mut Vec<String>,
) -> Vec<KnownStack> {
    let pointers = x86_32::CpuPointers {
        hardirq_stack_ptr: area
            .word(kernel, "hardirq_stack_ptr")
            .filter(|stack| *stack != 0),
        softirq_stack_ptr: area
            .word(kernel, "softirq_stack_ptr")
            .filter(|stack| *stack != 0),
        entry_stack: None,
        doublefault: None,
    };
    if pointers.hardirq_stack_ptr.is_none() || pointers.softirq_stack_ptr.is_none() {
        unknown.push("its IRQ stacks: no symbols of the pointers to them".to_owned());
    }
    let layout = x86_32::Layout {
        thread_size: THREAD_SIZE_32,
        entry_stack_size: PAGE,
        doublefault_stack_size: PAGE - HW_TSS_32,
    };
    let pages = note
        .and_then(|note| note.system)
        .filter(|system| system.tr_base == system.gdt_base.wrapping_add(5 * PAGE));
    let pointers = match pages {
        Some(system) => x86_32::CpuPointers {
            entry_stack: Some(system.gdt_base.wrapping_add(2 * PAGE)),
            doublefault: Some(x86_32::DoubleFault {
                begin: system.gdt_base.wrapping_add(4 * PAGE),
                tss_sp: kernel
                    .word_at(system.tr_base.wrapping_add(HW_TSS_32_SP))
                    .unwrap_or(0),
            }),
            ..pointers
        },
        None => {
            unknown.push("its entry and #DF stacks: no note leads to them".to_owned());
            pointers
        }
    };
    match x86_32::percpu_stacks(&layout, &pointers) {
        Ok(stacks) => stacks,
        Err(error) => {
            unknown.push(format!("its stacks: {error}"));
            Vec::new()
        }
    }
}

fn narrow(address: u64, word: WordSize) -> u64 {
    match word {
        WordSize::Eight => address,
        WordSize::Four => address & 0xffff_ffff,
    }
}

/// The field offsets that the stacks of a 64-bit kernel follow from.
///
/// # Errors
/// If the type information lacks one.
pub(super) fn offsets(btf: &Btf) -> Result<Offsets, CoreError> {
    Ok(Offsets::from_btf(btf)?)
}
