//! What the walk of a sample's kernel stacks needs to know of the kernel that was sampled: the one
//! that runs, or that of a recording.

use walker_common::{StackKind, wire::Start};

use super::stacks::CpuStackTable;
use crate::{
    capture::record::Sample,
    classify::{KnownStack, StackSet, StackUse, WordSize},
    unwind::{
        Frame, StopReason,
        kernel::{KernelTables, TextRange, scan_stacks, walk},
        start::{Returned, WalkStart},
    },
};

/// A kernel as walks need it.
#[derive(Debug, Default)]
pub struct SampledKernel {
    /// Text and unwind tables.
    pub tables: KernelTables,
    /// Bytes of a task's kernel stack.
    pub thread_size: u64,
    /// The stacks of each CPU that was online, by number.
    pub cpus: Vec<Option<CpuStackTable>>,
}

impl SampledKernel {
    /// Walks the kernel stacks of a sample; `frames` is emptied first. `entry` is where the function
    /// begins that the event is about, if it has a trampoline there.
    pub fn walk(
        &self,
        sample: &Sample<'_>,
        entry: Option<TextRange>,
        frames: &mut Vec<Frame>,
    ) -> StopReason {
        frames.clear();
        let header = sample.header();
        let memory = sample.memory();
        let returned = match sample.start() {
            Start::Registers => None,
            // In user mode nothing was reported: the event interrupted it.
            Start::Frame if sample.registers().is_user_mode() => None,
            Start::Frame => Some(Returned::to_frame(&memory, header.regs.sp)),
            Start::Caller => Some(Returned::to_caller(&self.tables, &memory, header.context)),
            Start::Trampoline => Some(
                entry.and_then(|entry| Returned::to_trampoline(&memory, header.context, entry)),
            ),
        };
        let start = match returned {
            None => WalkStart::Interrupted(sample.registers()),
            Some(Some(returned)) => WalkStart::Returned(returned),
            Some(None) => {
                return StopReason::NoCaller {
                    context: header.context,
                };
            }
        };
        walk(
            &self.tables,
            start,
            &self.stacks_of(sample),
            &memory,
            frames,
        )
    }

    /// Instead of a walk: the interrupted instruction, and every word of the kernel stacks that looks
    /// like a return address; `frames` is emptied first.
    pub fn scan(&self, sample: &Sample<'_>, frames: &mut Vec<Frame>) {
        frames.clear();
        let registers = sample.registers();
        if !registers.is_user_mode() {
            let stacks = self.stacks_of(sample);
            scan_stacks(
                &self.tables.text,
                registers,
                &stacks,
                &sample.memory(),
                frames,
            );
        }
    }

    /// How much of each kernel stack was in use at a sample, from the interrupted one outwards;
    /// `frames` are those of its walk. Of a stack that user space knows no bounds of, nothing can be
    /// said.
    pub fn stack_uses<'a>(
        &'a self,
        sample: &'a Sample<'_>,
        frames: &[Frame],
    ) -> impl Iterator<Item = StackUse> + 'a {
        let stacks = self.stacks_of(sample);
        // The copy begins below the stack pointer where the event called a program.
        let first = match sample.start() {
            Start::Registers => None,
            Start::Caller | Start::Trampoline | Start::Frame => {
                frames.first().map(|frame| frame.sp)
            }
        };
        let segments = sample.segments().enumerate();
        segments.filter_map(move |(index, segment)| {
            let copied_from = segment.address;
            let known = stacks.all().find(|stack| {
                stack.kind == segment.kind && stack.begin <= copied_from && copied_from <= stack.end
            })?;
            let sp = match first {
                Some(sp) if index == 0 && copied_from <= sp && sp <= known.end => sp,
                _ => copied_from,
            };
            Some(StackUse {
                kind: known.kind,
                used: u32::try_from(known.end - sp).ok()?,
                size: u32::try_from(known.end - known.begin).ok()?,
            })
        })
    }

    /// The stacks that a sample's context can be on.
    #[must_use]
    pub fn stacks_of(&self, sample: &Sample<'_>) -> StackSet<'_> {
        let header = sample.header();
        let percpu: &[KnownStack] = self
            .cpus
            .get(header.cpu as usize)
            .and_then(Option::as_ref)
            .map_or(&[], |table| &table.stacks);
        StackSet {
            task: KnownStack::task(header.task_stack, self.thread_size).ok(),
            percpu,
            word: WordSize::Eight,
        }
    }
}

/// The kind of stack that a sample interrupted, by the frames of its walk.
#[must_use]
pub fn interrupted_stack(frames: &[Frame]) -> StackKind {
    frames
        .first()
        .map_or(StackKind::Unknown, |frame| frame.stack)
}
