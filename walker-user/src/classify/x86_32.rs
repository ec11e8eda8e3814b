//! The per-CPU stacks of x86_32.
//!
//! They differ from those of x86_64 in more than the size of a word: softirqs have a stack of
//! their own, the link to the next stack is at the low end, and an empty stack is still a stack.

use walker_common::StackKind;

use super::{KnownStack, LayoutError, NextSp};

/// What is the same for all CPUs of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// `THREAD_SIZE`, in bytes: the size of the hardirq and the softirq stack.
    pub thread_size: u64,
    /// Size of `struct entry_stack`, in bytes.
    pub entry_stack_size: u64,
    /// Size of `struct doublefault_stack`'s stack, in bytes. Unused if no CPU has one.
    pub doublefault_stack_size: u64,
}

/// The `#DF` stack of one CPU. Kernels up to 5.4 look for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DoubleFault {
    /// Its lowest address.
    pub begin: u64,
    /// The stack pointer of the context that faulted: the task switch into the handler saved it
    /// in the CPU's TSS (`cpu_tss_rw.x86_tss.sp`).
    pub tss_sp: u64,
}

/// Where the stacks of one CPU are. A stack without an address is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CpuPointers {
    /// Address of the `struct entry_stack` in the CPU's `struct cpu_entry_area`.
    pub entry_stack: Option<u64>,
    /// The value of the per-CPU `hardirq_stack_ptr`: the lowest address of the stack.
    pub hardirq_stack_ptr: Option<u64>,
    /// The value of the per-CPU `softirq_stack_ptr`: the lowest address of the stack.
    pub softirq_stack_ptr: Option<u64>,
    /// The `#DF` stack.
    pub doublefault: Option<DoubleFault>,
}

/// The stacks of one CPU in the order in which the kernel searches them (`get_stack_info()`,
/// `arch/x86/kernel/dumpstack_32.c`, 5.15 to 6.18): entry, hardirq, softirq, `#DF`.
///
/// # Errors
///
/// [`LayoutError`] if an address or a size cannot be that of a stack.
pub fn percpu_stacks(layout: &Layout, cpu: &CpuPointers) -> Result<Vec<KnownStack>, LayoutError> {
    let mut stacks = Vec::with_capacity(4);
    if let Some(begin) = cpu.entry_stack {
        let size = layout.entry_stack_size;
        stacks.push(KnownStack::from_begin(
            StackKind::Entry,
            begin,
            size,
            NextSp::None,
        )?);
    }
    if let Some(begin) = cpu.hardirq_stack_ptr {
        stacks.push(software_stack(StackKind::Irq, begin, layout.thread_size)?);
    }
    if let Some(begin) = cpu.softirq_stack_ptr {
        stacks.push(software_stack(
            StackKind::SoftIrq,
            begin,
            layout.thread_size,
        )?);
    }
    if let Some(DoubleFault { begin, tss_sp }) = cpu.doublefault {
        let size = layout.doublefault_stack_size;
        let next_sp = NextSp::Value(tss_sp);
        stacks.push(KnownStack::from_begin(
            StackKind::DoubleFault,
            begin,
            size,
            next_sp,
        )?);
    }
    Ok(stacks)
}

/// A stack that code switches to, rather than the CPU (`in_hardirq_stack()`,
/// `in_softirq_stack()`). The switch writes the old stack pointer into the lowest word and loads
/// the end of the stack, where the pointer stays until something is pushed.
fn software_stack(kind: StackKind, begin: u64, size: u64) -> Result<KnownStack, LayoutError> {
    let stack = KnownStack::from_begin(kind, begin, size, NextSp::AtBegin)?;
    Ok(KnownStack {
        may_be_empty: true,
        ..stack
    })
}
