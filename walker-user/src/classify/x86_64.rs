//! The per-CPU stacks of x86_64.
//!
//! Sizes and offsets are given, not assumed: they differ by version and configuration, and the
//! kernel's BTF has them. Reading them is not done here.

use walker_common::StackKind;

use super::{KnownStack, LayoutError, NextSp};

/// The convention for `hardirq_stack_ptr` is told by its alignment to this.
const PAGE_SIZE: u64 = 4096;

/// Whatever switches to the IRQ stack puts the old stack pointer into the topmost word first.
const IRQ_NEXT_SP: NextSp = NextSp::BelowEnd(8);

/// The CPU pushes ss, sp, flags, cs and ip from the top of an exception stack down; sp is the
/// second. This holds for NMI too, whose `pt_regs` is further down.
const EXCEPTION_NEXT_SP: NextSp = NextSp::BelowEnd(16);

/// One stack in `struct cea_exception_stacks` (`arch/x86/include/asm/cpu_entry_area.h`). What is
/// between the members are guard pages, which are on no stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExceptionStack {
    /// The kind of stack, from the member's name.
    pub kind: StackKind,
    /// Offset of the member, in bytes.
    pub offset: u64,
    /// Size of the member, in bytes.
    pub size: u64,
}

/// What is the same for all CPUs of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// `IRQ_STACK_SIZE`, in bytes.
    pub irq_stack_size: u64,
    /// The exception stacks. Those of `#VC` are members of the struct even where they are not
    /// mapped; it does no harm to list them.
    pub exception_stacks: &'a [ExceptionStack],
    /// Size of `struct entry_stack`, in bytes.
    pub entry_stack_size: u64,
}

/// Where the stacks of one CPU are. A stack without an address is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CpuPointers {
    /// The value of the per-CPU `hardirq_stack_ptr` (`pcpu_hot.hardirq_stack_ptr` from 6.2 to
    /// 6.14).
    pub hardirq_stack_ptr: Option<u64>,
    /// The value of the per-CPU `cea_exception_stacks`.
    pub cea_exception_stacks: Option<u64>,
    /// Address of the `struct entry_stack` in the CPU's `struct cpu_entry_area`.
    pub entry_stack: Option<u64>,
}

/// The stacks of one CPU in the order in which the kernel searches them
/// (`get_stack_info_noinstr()`, `arch/x86/kernel/dumpstack_64.c`, 5.10 to 6.18): exception, IRQ,
/// entry.
///
/// # Errors
///
/// [`LayoutError`] if an address or a size cannot be that of a stack.
pub fn percpu_stacks(
    layout: &Layout<'_>,
    cpu: &CpuPointers,
) -> Result<Vec<KnownStack>, LayoutError> {
    let mut stacks = Vec::with_capacity(layout.exception_stacks.len() + 2);
    if let Some(base) = cpu.cea_exception_stacks {
        for member in layout.exception_stacks {
            stacks.push(exception_stack(base, member)?);
        }
    }
    if let Some(pointer) = cpu.hardirq_stack_ptr {
        let end = irq_stack_end(pointer)?;
        let size = layout.irq_stack_size;
        stacks.push(KnownStack::from_end(
            StackKind::Irq,
            end,
            size,
            IRQ_NEXT_SP,
        )?);
    }
    if let Some(begin) = cpu.entry_stack {
        let size = layout.entry_stack_size;
        stacks.push(KnownStack::from_begin(
            StackKind::Entry,
            begin,
            size,
            NextSp::None,
        )?);
    }
    Ok(stacks)
}

/// One member as `in_exception_stack()` sees it.
fn exception_stack(base: u64, member: &ExceptionStack) -> Result<KnownStack, LayoutError> {
    let &ExceptionStack { kind, offset, size } = member;
    let begin = base.checked_add(offset).ok_or(LayoutError::Impossible {
        kind,
        addr: base,
        size,
    })?;
    KnownStack::from_begin(kind, begin, size, EXCEPTION_NEXT_SP)
}

/// The end of the IRQ stack. Up to 5.11 `hardirq_stack_ptr` is the end, later it is the topmost
/// word, eight bytes below. The stack ends at a page, so the value tells which; the version does
/// not, because vendors backport.
fn irq_stack_end(pointer: u64) -> Result<u64, LayoutError> {
    [Some(pointer), pointer.checked_add(8)]
        .into_iter()
        .flatten()
        .find(|end| end.is_multiple_of(PAGE_SIZE))
        .ok_or(LayoutError::IrqStackPointer { pointer })
}
