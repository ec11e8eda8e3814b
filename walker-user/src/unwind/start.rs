//! Where a walk begins, if not at what the event interrupted: in the function that reported it.
//!
//! A BPF program that is called by what it reports gets no registers. Its context lies on the
//! stack of its caller, and what was copied begins below that, so that the return address to the
//! caller is among it.

use walker_common::wire::{BELOW_CONTEXT, Registers};

use super::{
    kernel::{KernelTables, TextRange},
    memory::SampleMemory,
    orc::{OrcKind, OrcRegister},
};

/// How far above its context a trampoline's frame can end.
const ABOVE_CONTEXT: u64 = 512;

/// Whether the frame of a BPF program begins at `frame`: another of its functions keeps that address
/// as its caller's frame pointer, below a return address into BPF text.
fn is_program(tables: &KernelTables, memory: &SampleMemory<'_>, frame: u64, context: u64) -> bool {
    let dynamic = tables.text.dynamic;
    let lowest = context.saturating_sub(BELOW_CONTEXT);
    let words = frame.saturating_sub(lowest) / 8;
    (1..=words).any(|word| {
        let below = frame - word * 8;
        memory.read_u64(below) == Some(frame)
            && memory
                .read_u64(below + 8)
                .is_some_and(|ip| dynamic.is_some_and(|text| text.holds(ip)))
    })
}

/// Where a walk begins.
#[derive(Debug, Clone, Copy)]
pub enum WalkStart<'a> {
    /// At interrupted code, all of whose registers are known.
    Interrupted(&'a Registers),
    /// In a function that has called another: where that returns to.
    Returned(Returned),
    /// In the function in which a task that does not run was switched away from.
    SwitchedOut(Returned),
}

/// The state of a function after a call returns to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned {
    /// The return address.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub bp: u64,
}

impl Returned {
    /// The state in the function that called a BPF program whose context is at `context`.
    ///
    /// The program's frame begins with the frame pointer and, above it, the return address: the
    /// prologue that the BPF JIT makes (`emit_prologue()`, `arch/x86/net/bpf_jit_comp.c`, 6.18). The
    /// copy is made by a function that the program calls, whose frame begins with the address of
    /// the program's, below a return address into the program. Of the words below the context the
    /// highest is taken that has such a frame below it, and is the address behind a call in the
    /// kernel's text whose function's frame holds the context. Old words that look like return
    /// addresses are between them and are passed over.
    #[must_use]
    pub fn to_caller(
        tables: &KernelTables,
        memory: &SampleMemory<'_>,
        context: u64,
    ) -> Option<Self> {
        let below = BELOW_CONTEXT / 8;
        (1..=below).find_map(|word| {
            let slot = context.checked_sub(word * 8)?;
            let ip = memory.read_u64(slot)?;
            let frame = slot.checked_sub(8)?;
            let bp = memory.read_u64(frame)?;
            let sp = slot.wrapping_add(8);
            if !tables.text.is_static(ip) || !is_program(tables, memory, frame, context) {
                return None;
            }
            if tables.orc.is_empty() {
                // The frame pointer of the caller is all that there is to go by.
                return (bp > context).then_some(Self { ip, sp, bp });
            }
            let entry = tables.find(ip.wrapping_sub(1))?;
            if entry.kind != OrcKind::Call {
                return None;
            }
            let base = match entry.sp_reg {
                OrcRegister::Sp => sp,
                OrcRegister::Bp => bp,
                _ => return None,
            };
            let cfa = base.wrapping_add_signed(i64::from(entry.sp_offset));
            if cfa <= context {
                return None;
            }
            let caller = memory.read_u64(cfa.wrapping_sub(8))?;
            tables.text.contains(caller).then_some(Self { ip, sp, bp })
        })
    }

    /// The state in a function whose trampoline called a BPF program with this context, which is in
    /// the trampoline's frame: above it, with the frame pointer below, is the address at which the
    /// function goes on. `entry` is where that can be.
    #[must_use]
    pub fn to_trampoline(
        memory: &SampleMemory<'_>,
        context: u64,
        entry: TextRange,
    ) -> Option<Self> {
        (1..=ABOVE_CONTEXT / 8).find_map(|word| {
            let slot = context.checked_add(word * 8)?;
            let ip = memory.read_u64(slot)?;
            let bp = memory.read_u64(slot.wrapping_sub(8))?;
            entry.holds(ip).then_some(Self {
                ip,
                sp: slot.wrapping_add(8),
                bp,
            })
        })
    }

    /// The state in the caller of a function whose frame address is `frame`: the frame pointer is
    /// there, and above it the return address.
    #[must_use]
    pub fn to_frame(memory: &SampleMemory<'_>, frame: u64) -> Option<Self> {
        Some(Self {
            ip: memory.read_u64(frame.checked_add(8)?)?,
            sp: frame.checked_add(16)?,
            bp: memory.read_u64(frame)?,
        })
    }

    /// As registers, of which no other is known.
    #[must_use]
    pub fn registers(&self) -> Registers {
        Registers {
            ip: self.ip,
            sp: self.sp,
            bp: self.bp,
            ..Registers::default()
        }
    }
}
