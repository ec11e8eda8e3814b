//! The walks: of what a CPU was doing, and of a task that does not run. The classifier and the
//! unwinder are the ones that live samples use; here their bytes come from the core.

use walker_common::{StackKind, wire::Registers};

use super::{cpus::Cpu, kernel::CoreKernel, task_layout::TaskLayout, tasks::Task};
use crate::{
    classify::{KnownStack, StackSet},
    unwind::{
        self, Frame, StopReason,
        kernel::KernelTables,
        memory::{MAX_SEGMENTS, SampleMemory, Segment},
        start::{Returned, WalkStart},
    },
};

/// The largest stack that is read; `THREAD_SIZE` with KASAN is 32 KiB.
const MAX_STACK: u64 = 128 << 10;
const PAGE: u64 = 4096;

/// A walk that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walked {
    /// The frames, leaf first.
    pub frames: Vec<Frame>,
    /// Why it ended.
    pub stop: StopReason,
}

/// Walks from registers that a CPU was stopped with. `task` is what it ran.
#[must_use]
pub(super) fn cpu(
    kernel: &CoreKernel,
    tables: &KernelTables,
    cpu: &Cpu,
    task: Option<KnownStack>,
    registers: &Registers,
) -> Walked {
    walk(
        kernel,
        tables,
        WalkStart::Interrupted(registers),
        task,
        &cpu.stacks,
    )
}

/// Walks a task that does not run, from where it was switched away from. `None` if it has no
/// stack, or what is on top of it cannot be read.
#[must_use]
pub(super) fn task(
    kernel: &CoreKernel,
    tables: &KernelTables,
    layout: &TaskLayout,
    task: &Task,
) -> Option<Walked> {
    let stack = task.known_stack(layout)?;
    let frame = layout.switch;
    let ip = kernel.word_at(task.sp.wrapping_add(frame.ip)).ok()?;
    let returned = Returned {
        ip,
        bp: kernel.word_at(task.sp.wrapping_add(frame.bp)).ok()?,
        sp: task.sp.wrapping_add(frame.bytes),
    };
    // A task that never ran begins there: it was not called.
    let is_new = ["ret_from_fork_asm", "ret_from_fork"]
        .iter()
        .any(|name| kernel.address(name) == Some(ip));
    let registers = returned.registers();
    let start = match is_new {
        true => WalkStart::Interrupted(&registers),
        false => WalkStart::SwitchedOut(returned),
    };
    Some(walk(kernel, tables, start, Some(stack), &[]))
}

fn walk(
    kernel: &CoreKernel,
    tables: &KernelTables,
    start: WalkStart<'_>,
    task: Option<KnownStack>,
    percpu: &[KnownStack],
) -> Walked {
    let stacks = StackSet {
        task,
        percpu,
        word: kernel.word(),
    };
    let copies: Vec<(u64, Vec<u8>)> = task
        .iter()
        .chain(percpu)
        .filter(|stack| stack.kind != StackKind::Unknown)
        .take(MAX_SEGMENTS)
        .map(|stack| (stack.begin, copy(kernel, stack)))
        .collect();
    let mut memory = SampleMemory::new();
    for (address, bytes) in &copies {
        memory.push(Segment {
            address: *address,
            bytes,
        });
    }
    let mut frames = Vec::new();
    let stop = unwind::kernel::walk(tables, start, &stacks, &memory, &mut frames);
    Walked { frames, stop }
}

/// The bytes of a stack from its begin up to the first page that is not in the core.
fn copy(kernel: &CoreKernel, stack: &KnownStack) -> Vec<u8> {
    let end = stack.end.min(stack.begin.saturating_add(MAX_STACK));
    let mut bytes = Vec::with_capacity((end - stack.begin) as usize);
    let mut at = stack.begin;
    while at < end {
        let step = (PAGE - at % PAGE).min(end - at);
        let length = bytes.len();
        bytes.resize(length + step as usize, 0);
        if kernel.memory.fill(at, &mut bytes[length..]).is_err() {
            bytes.truncate(length);
            break;
        }
        at += step;
    }
    bytes
}
