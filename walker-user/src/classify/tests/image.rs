//! Synthetic stacks, and a recorder for what a walk shows.

use std::ops::ControlFlow;

use walker_common::StackKind;

use crate::classify::{
    KnownStack, Memory, StackInfo, StackSet, WordSize,
    dump::{DumpEnd, Mode, Reliability, Start, TraceFrame, TraceVisitor, dump_trace},
    x86_32, x86_64,
};

/// Kernel text of the tests is at this address and up, on both word sizes.
pub(super) const TEXT: u64 = 0x8100_0000;
pub(super) const TEXT_SIZE: u64 = 0x100_0000;

pub(super) fn is_text(address: u64) -> bool {
    (TEXT..TEXT + TEXT_SIZE).contains(&address)
}

/// Bytes at addresses. What was not added cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Image {
    word: WordSize,
    regions: Vec<(u64, Vec<u8>)>,
}

impl Image {
    pub(super) fn new(word: WordSize) -> Self {
        Self {
            word,
            regions: Vec::new(),
        }
    }

    /// Zeroes at `begin..end`.
    pub(super) fn zeroes(mut self, begin: u64, end: u64) -> Self {
        self.regions.push((begin, vec![0; (end - begin) as usize]));
        self
    }

    /// All stacks of a table, zeroed.
    pub(super) fn with_stacks(self, stacks: &[KnownStack]) -> Self {
        stacks
            .iter()
            .fold(self, |image, stack| image.zeroes(stack.begin, stack.end))
    }

    pub(super) fn bytes(mut self, begin: u64, bytes: Vec<u8>) -> Self {
        self.regions.push((begin, bytes));
        self
    }

    /// Writes a word, which must be inside a region.
    #[track_caller]
    pub(super) fn put(&mut self, address: u64, value: u64) {
        let size = self.word.bytes() as usize;
        let (begin, bytes) = self
            .regions
            .iter_mut()
            .find(|(begin, bytes)| (*begin..*begin + bytes.len() as u64).contains(&address))
            .expect("address is in the image");
        let offset = (address - *begin) as usize;
        bytes[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    /// Writes a frame: the caller's frame pointer, then the return address.
    #[track_caller]
    pub(super) fn put_frame(&mut self, bp: u64, next_bp: u64, return_address: u64) {
        self.put(bp, next_bp);
        self.put(bp + self.word.bytes(), return_address);
    }
}

impl Memory for Image {
    fn read_word(&self, addr: u64, size: WordSize) -> Option<u64> {
        let length = size.bytes() as usize;
        self.regions.iter().find_map(|(begin, bytes)| {
            let offset = usize::try_from(addr.checked_sub(*begin)?).ok()?;
            let found = bytes.get(offset..offset.checked_add(length)?)?;
            let mut word = [0; 8];
            word[..length].copy_from_slice(found);
            Some(u64::from_le_bytes(word))
        })
    }
}

/// One call of a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Begin(StackKind),
    Frame(TraceFrame),
    End(StackKind),
}

/// Keeps the calls, and stops the walk at the one whose number is `stop_at`.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) events: Vec<Event>,
    pub(super) stop_at: Option<usize>,
}

impl Recorder {
    fn record(&mut self, event: Event) -> ControlFlow<()> {
        let stop = self.stop_at == Some(self.events.len());
        self.events.push(event);
        if stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The stacks that were begun.
    pub(super) fn kinds(&self) -> Vec<StackKind> {
        let begun = |event: &Event| match event {
            Event::Begin(kind) => Some(*kind),
            _ => None,
        };
        self.events.iter().filter_map(begun).collect()
    }

    pub(super) fn frames(&self) -> Vec<TraceFrame> {
        let frames = |event: &Event| match event {
            Event::Frame(frame) => Some(*frame),
            _ => None,
        };
        self.events.iter().filter_map(frames).collect()
    }

    /// The addresses of the frames.
    pub(super) fn addresses(&self) -> Vec<u64> {
        self.frames().iter().map(|frame| frame.address).collect()
    }
}

impl TraceVisitor for Recorder {
    fn stack_begin(&mut self, info: &StackInfo) -> ControlFlow<()> {
        self.record(Event::Begin(info.kind))
    }

    fn frame(&mut self, frame: &TraceFrame) -> ControlFlow<()> {
        self.record(Event::Frame(*frame))
    }

    fn stack_end(&mut self, info: &StackInfo) {
        self.events.push(Event::End(info.kind));
    }
}

/// A walk that nothing stops.
pub(super) fn dump(
    stacks: &StackSet<'_>,
    image: &Image,
    start: Start,
    mode: Mode,
) -> (Recorder, DumpEnd) {
    let mut recorder = Recorder::default();
    let end = dump_trace(stacks, image, start, &is_text, mode, &mut recorder);
    (recorder, end)
}

pub(super) fn reliable(address: u64, slot: u64) -> Event {
    Event::Frame(TraceFrame {
        address,
        slot: Some(slot),
        reliability: Reliability::Reliable,
    })
}

pub(super) fn unreliable(address: u64, slot: u64) -> Event {
    Event::Frame(TraceFrame {
        address,
        slot: Some(slot),
        reliability: Reliability::Unreliable,
    })
}

pub(super) fn interrupted(address: u64) -> Event {
    Event::Frame(TraceFrame {
        address,
        slot: None,
        reliability: Reliability::Reliable,
    })
}

/// A 6.18 machine: addresses as on a real CPU 0.
pub(super) mod machine_64 {
    use super::*;

    pub(in super::super) const ESTACKS: u64 = 0xffff_fe00_0000_8000;
    pub(in super::super) const IRQ_END: u64 = 0xffff_c900_0000_4000;
    pub(in super::super) const IRQ_SIZE: u64 = 0x4000;
    pub(in super::super) const ENTRY: u64 = 0xffff_fe00_0000_3000;
    pub(in super::super) const ENTRY_SIZE: u64 = 0x1000;
    pub(in super::super) const TASK: u64 = 0xffff_c900_0012_c000;
    pub(in super::super) const THREAD_SIZE: u64 = 0x4000;

    /// `struct cea_exception_stacks`: 4 KiB of guard, then 8 KiB of stack, six times.
    pub(in super::super) const MEMBERS: [x86_64::ExceptionStack; 6] = [
        member(StackKind::DoubleFault, 0x1000),
        member(StackKind::Nmi, 0x4000),
        member(StackKind::Debug, 0x7000),
        member(StackKind::MachineCheck, 0xa000),
        member(StackKind::Vc, 0xd000),
        member(StackKind::Vc2, 0x1_0000),
    ];

    const fn member(kind: StackKind, offset: u64) -> x86_64::ExceptionStack {
        x86_64::ExceptionStack {
            kind,
            offset,
            size: 0x2000,
        }
    }

    pub(in super::super) const LAYOUT: x86_64::Layout<'static> = x86_64::Layout {
        irq_stack_size: IRQ_SIZE,
        exception_stacks: &MEMBERS,
        entry_stack_size: ENTRY_SIZE,
    };

    pub(in super::super) const CPU: x86_64::CpuPointers = x86_64::CpuPointers {
        hardirq_stack_ptr: Some(IRQ_END - 8),
        cea_exception_stacks: Some(ESTACKS),
        entry_stack: Some(ENTRY),
    };

    pub(in super::super) fn percpu() -> Vec<KnownStack> {
        x86_64::percpu_stacks(&LAYOUT, &CPU).unwrap()
    }

    pub(in super::super) fn task() -> KnownStack {
        KnownStack::task(TASK, THREAD_SIZE).unwrap()
    }

    pub(in super::super) fn stacks(percpu: &[KnownStack]) -> StackSet<'_> {
        StackSet {
            task: Some(task()),
            percpu,
            word: WordSize::Eight,
        }
    }

    /// All stacks zeroed, except that those of `#VC` are not mapped, as outside of SEV guests.
    pub(in super::super) fn image() -> Image {
        let mapped: Vec<_> = percpu()
            .into_iter()
            .filter(|stack| !matches!(stack.kind, StackKind::Vc | StackKind::Vc2))
            .collect();
        Image::new(WordSize::Eight)
            .with_stacks(&mapped)
            .with_stacks(&[task()])
    }

    /// The end of the exception stack of this kind.
    pub(in super::super) fn exception_end(kind: StackKind) -> u64 {
        let member = MEMBERS.iter().find(|member| member.kind == kind).unwrap();
        ESTACKS + member.offset + member.size
    }
}

/// A 32-bit machine. The softirq stack comes right after the hardirq stack.
pub(super) mod machine_32 {
    use super::*;

    pub(in super::super) const THREAD_SIZE: u64 = 0x2000;
    pub(in super::super) const TASK: u64 = 0xc180_0000;
    pub(in super::super) const HARDIRQ: u64 = 0xc100_0000;
    pub(in super::super) const SOFTIRQ: u64 = HARDIRQ + THREAD_SIZE;
    pub(in super::super) const ENTRY: u64 = 0xff80_1000;
    pub(in super::super) const DOUBLEFAULT: u64 = 0xff80_8000;

    pub(in super::super) const LAYOUT: x86_32::Layout = x86_32::Layout {
        thread_size: THREAD_SIZE,
        entry_stack_size: 0x1000,
        doublefault_stack_size: 0x800,
    };

    pub(in super::super) fn percpu(tss_sp: u64) -> Vec<KnownStack> {
        let cpu = x86_32::CpuPointers {
            entry_stack: Some(ENTRY),
            hardirq_stack_ptr: Some(HARDIRQ),
            softirq_stack_ptr: Some(SOFTIRQ),
            doublefault: Some(x86_32::DoubleFault {
                begin: DOUBLEFAULT,
                tss_sp,
            }),
        };
        x86_32::percpu_stacks(&LAYOUT, &cpu).unwrap()
    }

    pub(in super::super) fn task() -> KnownStack {
        KnownStack::task(TASK, THREAD_SIZE).unwrap()
    }

    pub(in super::super) fn stacks(percpu: &[KnownStack]) -> StackSet<'_> {
        StackSet {
            task: Some(task()),
            percpu,
            word: WordSize::Four,
        }
    }

    pub(in super::super) fn image() -> Image {
        Image::new(WordSize::Four)
            .with_stacks(&percpu(0))
            .with_stacks(&[task()])
    }
}
