//! Walks over chains of x86_64 stacks.

use walker_common::StackKind;

use super::image::{
    Event, Image, Recorder, TEXT, dump, interrupted, is_text, machine_64, reliable, unreliable,
};
use crate::classify::{
    WordSize,
    dump::{DumpEnd, Mode, Start, dump_trace},
};

const TASK_SP: u64 = machine_64::TASK + 0x3e00;
const TASK_BP: u64 = TASK_SP + 0x20;
const IRQ_SP: u64 = machine_64::IRQ_END - 0x200;
const IRQ_BP: u64 = IRQ_SP + 0x20;

/// A task with two frames, and the IRQ stack with one on top of it.
fn image() -> Image {
    let mut image = machine_64::image();
    image.put_frame(TASK_BP, TASK_BP + 0x80, TEXT + 0x11);
    image.put_frame(TASK_BP + 0x80, 0, TEXT + 0x12);
    image.put_frame(IRQ_BP, TASK_BP, TEXT + 0x21);
    image.put(machine_64::IRQ_END - 8, TASK_SP);
    image
}

/// Adds an exception stack with one frame on top of the context at `sp` and `bp`.
fn add_exception(image: &mut Image, kind: StackKind, sp: u64, bp: u64) -> Start {
    let end = machine_64::exception_end(kind);
    image.put_frame(end - 0x180, bp, TEXT + 0x31);
    // ss, sp, flags, cs, ip, as the CPU pushes them.
    for (below, value) in [
        (8, 0x18),
        (16, sp),
        (24, 0x46),
        (32, 0x10),
        (40, TEXT + 0x32),
    ] {
        image.put(end - below, value);
    }
    Start {
        ip: TEXT + 0x30,
        sp: end - 0x200,
        bp: end - 0x180,
    }
}

#[test]
fn exception_on_irq_on_task() {
    for kind in [StackKind::Nmi, StackKind::Debug, StackKind::MachineCheck] {
        let percpu = machine_64::percpu();
        let stacks = machine_64::stacks(&percpu);
        let mut image = image();
        let start = add_exception(&mut image, kind, IRQ_SP, IRQ_BP);
        let exception_end = machine_64::exception_end(kind);

        let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
        assert_eq!(end, DumpEnd::EndOfStacks);
        assert_eq!(
            seen.events,
            [
                Event::Begin(kind),
                interrupted(TEXT + 0x30),
                reliable(TEXT + 0x31, exception_end - 0x178),
                Event::End(kind),
                Event::Begin(StackKind::Irq),
                reliable(TEXT + 0x21, IRQ_BP + 8),
                Event::End(StackKind::Irq),
                Event::Begin(StackKind::Task),
                reliable(TEXT + 0x11, TASK_BP + 8),
                reliable(TEXT + 0x12, TASK_BP + 0x88),
                Event::End(StackKind::Task),
            ]
        );

        // A scan sees the ip that the CPU pushed as well, and what is left over from older calls.
        image.put(IRQ_SP, TEXT + 0x99);
        let (seen, end) = dump(&stacks, &image, start, Mode::Scan);
        assert_eq!(end, DumpEnd::EndOfStacks);
        assert_eq!(
            seen.events,
            [
                Event::Begin(kind),
                interrupted(TEXT + 0x30),
                reliable(TEXT + 0x31, exception_end - 0x178),
                unreliable(TEXT + 0x32, exception_end - 40),
                Event::End(kind),
                Event::Begin(StackKind::Irq),
                unreliable(TEXT + 0x99, IRQ_SP),
                reliable(TEXT + 0x21, IRQ_BP + 8),
                Event::End(StackKind::Irq),
                Event::Begin(StackKind::Task),
                reliable(TEXT + 0x11, TASK_BP + 8),
                reliable(TEXT + 0x12, TASK_BP + 0x88),
                Event::End(StackKind::Task),
            ]
        );
    }
}

#[test]
fn double_fault_on_task() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = image();
    let start = add_exception(&mut image, StackKind::DoubleFault, TASK_SP, TASK_BP);
    let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
    assert_eq!(end, DumpEnd::EndOfStacks);
    assert_eq!(seen.kinds(), [StackKind::DoubleFault, StackKind::Task]);
    assert_eq!(
        seen.addresses(),
        [TEXT + 0x30, TEXT + 0x31, TEXT + 0x11, TEXT + 0x12]
    );
}

#[test]
fn double_fault_of_a_task_that_overflowed_its_stack() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = image();
    // The push that faulted was right below the stack.
    let overflowed = machine_64::TASK - 0x30;
    let start = add_exception(&mut image, StackKind::DoubleFault, overflowed, TASK_BP);
    let expected = [TEXT + 0x30, TEXT + 0x31, TEXT + 0x11, TEXT + 0x12];
    let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
    assert_eq!(
        (end, seen.addresses()),
        (DumpEnd::EndOfStacks, expected.to_vec())
    );
    // The scan begins with the lowest word of the stack.
    image.put(machine_64::TASK, TEXT + 0x77);
    let (seen, end) = dump(&stacks, &image, start, Mode::Scan);
    assert_eq!(end, DumpEnd::EndOfStacks);
    assert!(
        seen.events
            .contains(&unreliable(TEXT + 0x77, machine_64::TASK))
    );
    // No further than into one guard page.
    let start = add_exception(
        &mut image,
        StackKind::DoubleFault,
        machine_64::TASK - 0x1001,
        0,
    );
    let (_, end) = dump(&stacks, &image, start, Mode::Scan);
    assert_eq!(
        end,
        DumpEnd::UnknownStack {
            addr: machine_64::TASK - 0x1001
        }
    );
}

#[test]
fn vc_and_vc2_on_task() {
    for kind in [StackKind::Vc, StackKind::Vc2] {
        let percpu = machine_64::percpu();
        let stacks = machine_64::stacks(&percpu);
        let stack_end = machine_64::exception_end(kind);
        let mut image = image().zeroes(stack_end - 0x2000, stack_end);
        let start = add_exception(&mut image, kind, TASK_SP, TASK_BP);
        let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
        assert_eq!(end, DumpEnd::EndOfStacks);
        assert_eq!(seen.kinds(), [kind, StackKind::Task]);
        assert_eq!(
            seen.addresses(),
            [TEXT + 0x30, TEXT + 0x31, TEXT + 0x11, TEXT + 0x12]
        );
    }
}

#[test]
fn nmi_on_the_entry_stack_ends_there() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = image();
    let entry_sp = machine_64::ENTRY + machine_64::ENTRY_SIZE - 40;
    image.put(entry_sp, 0x40_1000);
    let start = add_exception(&mut image, StackKind::Nmi, entry_sp, 0);
    let (seen, end) = dump(&stacks, &image, start, Mode::Scan);
    assert_eq!(end, DumpEnd::EndOfStacks);
    assert_eq!(seen.kinds(), [StackKind::Nmi, StackKind::Entry]);
    assert_eq!(seen.addresses(), [TEXT + 0x30, TEXT + 0x31, TEXT + 0x32]);
}

#[test]
fn the_walk_says_which_bytes_are_missing() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let half = machine_64::TASK + 0x2000;
    let mut image = Image::new(WordSize::Eight).zeroes(machine_64::TASK, half);
    let sp = half - 0x40;
    image.put(half - 8, TEXT);
    let (seen, end) = dump(&stacks, &image, Start { ip: 0, sp, bp: 0 }, Mode::Scan);
    assert_eq!(end, DumpEnd::MissingBytes { addr: half });
    assert_eq!(
        seen.events,
        [
            Event::Begin(StackKind::Task),
            unreliable(TEXT, half - 8),
            Event::End(StackKind::Task)
        ]
    );
    let from = Start {
        ip: 0,
        sp,
        bp: half - 8,
    };
    let (_, end) = dump(&stacks, &image, from, Mode::FramePointer);
    assert_eq!(end, DumpEnd::MissingBytes { addr: half });
}

#[test]
fn a_frame_pointer_that_does_not_rise_ends_the_chain() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = machine_64::image();
    // To itself, down, into the frame it came from, below the stack pointer.
    for next_bp in [TASK_BP, TASK_BP - 0x10, TASK_BP + 8, TASK_SP - 0x10] {
        image.put_frame(TASK_BP, next_bp, TEXT);
        image.put(TASK_BP + 0x10, TEXT + 1);
        image.put(TASK_BP - 8, TEXT + 2);
        image.put(TASK_SP - 8, TEXT + 3);
        let start = Start {
            ip: 0,
            sp: TASK_SP,
            bp: TASK_BP,
        };
        let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
        assert_eq!(end, DumpEnd::EndOfStacks);
        assert_eq!(seen.addresses(), [TEXT], "next_bp {next_bp:#x}");
    }
    // Frames right above each other are fine.
    image.put_frame(TASK_BP, TASK_BP + 0x10, TEXT);
    image.put_frame(TASK_BP + 0x10, 0, TEXT + 1);
    let start = Start {
        ip: 0,
        sp: TASK_SP,
        bp: TASK_BP,
    };
    let (seen, _) = dump(&stacks, &image, start, Mode::FramePointer);
    assert_eq!(seen.addresses(), [TEXT, TEXT + 1]);
    // Nor is a start below the stack pointer a frame.
    image.put_frame(TASK_SP - 0x10, 0, TEXT + 3);
    let start = Start {
        ip: 0,
        sp: TASK_SP,
        bp: TASK_SP - 0x10,
    };
    let (seen, _) = dump(&stacks, &image, start, Mode::FramePointer);
    assert!(seen.addresses().is_empty());
}

#[test]
fn a_return_address_that_is_not_text_ends_the_chain_on_its_stack() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = image();
    image.put_frame(IRQ_BP, TASK_BP, 0x1234);
    let start = Start {
        ip: TEXT,
        sp: IRQ_SP,
        bp: IRQ_BP,
    };
    let (seen, end) = dump(&stacks, &image, start, Mode::FramePointer);
    assert_eq!(end, DumpEnd::EndOfStacks);
    assert_eq!(seen.kinds(), [StackKind::Irq, StackKind::Task]);
    assert_eq!(seen.addresses(), [TEXT]);
}

#[test]
fn a_scan_goes_on_where_the_frame_pointer_is_no_use() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = image();
    // Right before `ret`: the return address is at sp, and bp is not that of this function. Below
    // it, on the stack but not in use, is what must not be taken for the next frame pointer.
    image.put(TASK_SP, TEXT + 1);
    for bp in [0, TASK_SP, TASK_SP - 8, u64::MAX, u64::MAX - 7] {
        let start = Start {
            ip: 0,
            sp: TASK_SP,
            bp,
        };
        let (seen, end) = dump(&stacks, &image, start, Mode::Scan);
        assert_eq!(end, DumpEnd::EndOfStacks);
        assert_eq!(
            seen.addresses(),
            [TEXT + 1, TEXT + 0x11, TEXT + 0x12],
            "bp {bp:#x}"
        );
    }
    // On the lowest word of the stack the frame pointer's own word would be below it.
    let below = machine_64::TASK - 8;
    let mut image = image.zeroes(below, machine_64::TASK);
    image.put(below, TASK_BP);
    image.put(machine_64::TASK, TEXT + 2);
    let start = Start {
        ip: 0,
        sp: machine_64::TASK,
        bp: below,
    };
    let (seen, _) = dump(&stacks, &image, start, Mode::Scan);
    assert_eq!(seen.events[1], reliable(TEXT + 2, machine_64::TASK));
    assert!(seen.events.contains(&unreliable(TEXT + 0x11, TASK_BP + 8)));
}

#[test]
fn stack_pointers_that_are_not_aligned_are_rounded_up() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = image();
    image.put(TASK_SP, TEXT + 1);
    image.put(TASK_SP + 8, TEXT + 2);
    image.put(machine_64::IRQ_END - 8, TASK_SP + 1);
    let start = Start {
        ip: 0,
        sp: machine_64::IRQ_END - 15,
        bp: 0,
    };
    let (seen, end) = dump(&stacks, &image, start, Mode::Scan);
    assert_eq!(end, DumpEnd::EndOfStacks);
    assert_eq!(seen.kinds(), [StackKind::Irq, StackKind::Task]);
    assert_eq!(seen.addresses(), [TEXT + 2, TEXT + 0x11, TEXT + 0x12]);
}

#[test]
fn the_walk_begins_only_on_a_known_stack() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let image = image();
    for sp in [0, 7, 0xffff_8880_0000_1000, u64::MAX] {
        let (seen, end) = dump(
            &stacks,
            &image,
            Start {
                ip: TEXT,
                sp,
                bp: 0,
            },
            Mode::Scan,
        );
        assert_eq!(end, DumpEnd::UnknownStack { addr: sp });
        assert_eq!(seen.events, []);
    }
}

#[test]
fn an_interrupted_address_outside_of_text_is_no_frame() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let start = Start {
        ip: 0x1234,
        sp: TASK_SP,
        bp: TASK_BP,
    };
    let (seen, _) = dump(&stacks, &image(), start, Mode::FramePointer);
    assert_eq!(seen.addresses(), [TEXT + 0x11, TEXT + 0x12]);
}

#[test]
fn the_visitor_can_stop_at_any_call_and_stacks_still_end() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let image = image();
    let start = Start {
        ip: TEXT,
        sp: IRQ_SP,
        bp: IRQ_BP,
    };
    for mode in [Mode::Scan, Mode::FramePointer] {
        let (whole, _) = dump(&stacks, &image, start, mode);
        for (stop_at, event) in whole.events.iter().enumerate() {
            let mut recorder = Recorder {
                stop_at: Some(stop_at),
                ..Recorder::default()
            };
            let end = dump_trace(&stacks, &image, start, &is_text, mode, &mut recorder);
            if matches!(event, Event::End(_)) {
                assert_eq!(
                    (end, &recorder.events),
                    (DumpEnd::EndOfStacks, &whole.events)
                );
                continue;
            }
            assert_eq!(end, DumpEnd::VisitorStopped);
            let (last, before) = recorder.events.split_last().unwrap();
            assert_eq!(before, &whole.events[..=stop_at]);
            assert_eq!(
                Some(last),
                recorder
                    .kinds()
                    .last()
                    .map(|kind| Event::End(*kind))
                    .as_ref()
            );
        }
    }
}
