//! Walks over chains of x86_32 stacks: the same code with another table and smaller words.

use walker_common::StackKind;

use super::image::{Event, Image, TEXT, dump, interrupted, machine_32, reliable, unreliable};
use crate::classify::dump::{DumpEnd, Mode, Start};

const TASK_SP: u64 = machine_32::TASK + 0x1e04;
const TASK_BP: u64 = TASK_SP + 0x14;
const SOFTIRQ_SP: u64 = machine_32::SOFTIRQ + 0x1f04;
const SOFTIRQ_BP: u64 = SOFTIRQ_SP + 0x14;
const HARDIRQ_SP: u64 = machine_32::HARDIRQ + 0x1f04;
const HARDIRQ_BP: u64 = HARDIRQ_SP + 0x14;

/// A hard interrupt during a softirq during a task.
fn image() -> Image {
    let mut image = machine_32::image();
    image.put_frame(TASK_BP, TASK_BP + 0x80, TEXT + 0x11);
    image.put_frame(TASK_BP + 0x80, 0, TEXT + 0x12);
    image.put_frame(SOFTIRQ_BP, TASK_BP, TEXT + 0x21);
    image.put(machine_32::SOFTIRQ, TASK_SP);
    image.put_frame(HARDIRQ_BP, SOFTIRQ_BP, TEXT + 0x31);
    image.put(machine_32::HARDIRQ, SOFTIRQ_SP);
    image
}

#[test]
fn hardirq_on_softirq_on_task() {
    let percpu = machine_32::percpu(0);
    let stacks = machine_32::stacks(&percpu);
    let mut image = image();
    let start = Start {
        ip: TEXT + 0x30,
        sp: HARDIRQ_SP,
        bp: HARDIRQ_BP,
    };
    let mut expected = vec![
        Event::Begin(StackKind::Irq),
        interrupted(TEXT + 0x30),
        reliable(TEXT + 0x31, HARDIRQ_BP + 4),
        Event::End(StackKind::Irq),
        Event::Begin(StackKind::SoftIrq),
        reliable(TEXT + 0x21, SOFTIRQ_BP + 4),
        Event::End(StackKind::SoftIrq),
        Event::Begin(StackKind::Task),
        reliable(TEXT + 0x11, TASK_BP + 4),
        reliable(TEXT + 0x12, TASK_BP + 0x84),
        Event::End(StackKind::Task),
    ];
    let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
    assert_eq!((end, seen.events), (DumpEnd::EndOfStacks, expected.clone()));

    image.put(SOFTIRQ_SP + 4, TEXT + 0x99);
    expected.insert(5, unreliable(TEXT + 0x99, SOFTIRQ_SP + 4));
    let (seen, end) = dump(&stacks, &image, start, Mode::Scan);
    assert_eq!((end, seen.events), (DumpEnd::EndOfStacks, expected));
}

#[test]
fn double_fault_goes_on_where_the_tss_says() {
    let percpu = machine_32::percpu(TASK_SP);
    let stacks = machine_32::stacks(&percpu);
    let mut image = image();
    let bp = machine_32::DOUBLEFAULT + 0x700;
    image.put_frame(bp, TASK_BP, TEXT + 0x41);
    let start = Start {
        ip: TEXT + 0x40,
        sp: bp - 0x10,
        bp,
    };
    for mode in [Mode::Scan, Mode::FramePointer] {
        let (seen, end) = dump(&stacks, &image, start, mode);
        assert_eq!(end, DumpEnd::EndOfStacks);
        assert_eq!(seen.kinds(), [StackKind::DoubleFault, StackKind::Task]);
        assert_eq!(
            seen.addresses(),
            [TEXT + 0x40, TEXT + 0x41, TEXT + 0x11, TEXT + 0x12]
        );
    }
}

#[test]
fn frame_words_are_four_bytes() {
    let percpu = machine_32::percpu(0);
    let stacks = machine_32::stacks(&percpu);
    let mut image = machine_32::image();
    // The two topmost words of the stack, which would not hold two words of eight bytes.
    let bp = machine_32::TASK + machine_32::THREAD_SIZE - 8;
    image.put_frame(bp, 0xffff_ffff, TEXT);
    let start = Start { ip: 0, sp: bp, bp };
    let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
    assert_eq!(end, DumpEnd::EndOfStacks);
    assert_eq!(seen.events[1], reliable(TEXT, bp + 4));
}
