//! One test for each bug of the kernel commit that brought in `get_stack_info()` (cb76c93982404),
//! all of them fixed there later.

use walker_common::StackKind;

use super::image::{Event, TEXT, dump, interrupted, machine_32, machine_64, reliable, unreliable};
use crate::classify::{
    KnownStack, StackError, VisitMask,
    dump::{DumpEnd, Mode, Start},
};

fn start(sp: u64) -> Start {
    Start { ip: 0, sp, bp: 0 }
}

/// On x86_64 an address on no stack, or on one visited before, was reported as found, with the info
/// of the stack before. The walk went on from that info's `next_sp` for ever.
#[test]
fn unknown_or_revisited_stack_is_not_found_with_stale_info() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = machine_64::image();
    let nmi_end = machine_64::exception_end(StackKind::Nmi);
    let nmi_sp = nmi_end - 0x100;
    let mut mask = VisitMask::default();
    assert!(
        stacks
            .get_stack_info(&image, nmi_sp, Some(&mut mask))
            .is_ok()
    );
    assert_eq!(
        stacks.get_stack_info(&image, nmi_sp, Some(&mut mask)),
        Err(StackError::Revisited {
            kind: StackKind::Nmi,
            addr: nmi_sp
        })
    );
    let nowhere = 0xffff_8880_0000_0000;
    assert_eq!(
        stacks.get_stack_info(&image, nowhere, Some(&mut mask)),
        Err(StackError::Unknown { addr: nowhere })
    );

    // NMI → #DB → NMI.
    let debug_end = machine_64::exception_end(StackKind::Debug);
    image.put(nmi_end - 16, debug_end - 0x100);
    image.put(debug_end - 16, nmi_sp);
    for mode in [Mode::Scan, Mode::FramePointer] {
        let (seen, end) = dump(&stacks, &image, start(nmi_sp), mode);
        assert_eq!(
            end,
            DumpEnd::Revisited {
                kind: StackKind::Nmi
            }
        );
        assert_eq!(seen.kinds(), [StackKind::Nmi, StackKind::Debug]);
    }
}

/// Only the exception stacks were masked, so the IRQ stack could lead to itself.
#[test]
fn irq_and_task_stacks_are_masked_too() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = machine_64::image();
    for addr in [
        machine_64::TASK,
        machine_64::IRQ_END - 0x100,
        machine_64::ENTRY,
    ] {
        let mut mask = VisitMask::default();
        let first = stacks
            .get_stack_info(&image, addr, Some(&mut mask))
            .unwrap();
        assert_eq!(
            stacks.get_stack_info(&image, addr, Some(&mut mask)),
            Err(StackError::Revisited {
                kind: first.kind,
                addr
            })
        );
    }

    let irq_sp = machine_64::IRQ_END - 0x100;
    image.put(machine_64::IRQ_END - 8, irq_sp);
    image.put(irq_sp, TEXT);
    let (seen, end) = dump(&stacks, &image, start(irq_sp), Mode::Scan);
    assert_eq!(
        end,
        DumpEnd::Revisited {
            kind: StackKind::Irq
        }
    );
    assert_eq!(
        seen.events,
        [
            Event::Begin(StackKind::Irq),
            unreliable(TEXT, irq_sp),
            Event::End(StackKind::Irq)
        ]
    );
}

/// The 32-bit function took the mask and did not look at it.
#[test]
fn x86_32_uses_the_mask() {
    let percpu = machine_32::percpu(machine_32::DOUBLEFAULT + 0x100);
    let stacks = machine_32::stacks(&percpu);
    let mut image = machine_32::image();
    for stack in percpu.iter().chain(&stacks.task) {
        let mut mask = VisitMask::default();
        assert!(
            stacks
                .get_stack_info(&image, stack.end - 4, Some(&mut mask))
                .is_ok()
        );
        assert!(mask.contains(stack.kind));
        assert_eq!(
            stacks.get_stack_info(&image, stack.end - 4, Some(&mut mask)),
            Err(StackError::Revisited {
                kind: stack.kind,
                addr: stack.end - 4
            })
        );
    }

    let hardirq_sp = machine_32::HARDIRQ + 0x1000;
    image.put(machine_32::HARDIRQ, machine_32::SOFTIRQ + 0x1000);
    image.put(machine_32::SOFTIRQ, hardirq_sp);
    let (seen, end) = dump(&stacks, &image, start(hardirq_sp), Mode::Scan);
    assert_eq!(
        end,
        DumpEnd::Revisited {
            kind: StackKind::Irq
        }
    );
    assert_eq!(seen.kinds(), [StackKind::Irq, StackKind::SoftIrq]);
}

/// The walk along frame pointers checked the place where it had begun, again and again, instead of
/// the words it was about to read.
#[test]
fn range_check_is_on_the_words_that_are_read() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let task = machine_64::task();
    let sp = task.begin + 0x100;
    // There are bytes around the stack, and every one of their words would be a good frame.
    let mut image = machine_64::image()
        .zeroes(task.end, task.end + 0x100)
        .zeroes(task.begin - 0x100, task.begin);
    for slot in (0..0x100).step_by(8) {
        image.put(task.end + slot, TEXT + 1);
        image.put(task.begin - 0x100 + slot, TEXT + 2);
    }
    image.put(task.begin, TEXT + 3);
    image.put(task.end - 8, TEXT + 4);
    let outside = [
        // The return address is past the end.
        task.end - 8,
        task.end - 15,
        // Both words are.
        task.end,
        task.end + 0x10,
        // The next frame pointer is below the begin.
        task.begin - 8,
        task.begin - 0x10,
        u64::MAX - 8,
    ];
    for bp in outside {
        let (seen, end) = dump(&stacks, &image, Start { ip: 0, sp, bp }, Mode::FramePointer);
        assert_eq!(seen.frames(), [], "bp {bp:#x}");
        assert_eq!(end, DumpEnd::EndOfStacks);
        // The same if the chain leads there from a good frame.
        image.put_frame(sp + 0x40, bp, TEXT);
        let from = Start {
            ip: 0,
            sp,
            bp: sp + 0x40,
        };
        let (seen, end) = dump(&stacks, &image, from, Mode::FramePointer);
        assert_eq!(seen.addresses(), [TEXT], "bp {bp:#x}");
        assert_eq!(end, DumpEnd::EndOfStacks);
    }
    // The two topmost words are on the stack.
    image.put_frame(task.end - 16, 0, TEXT + 4);
    let from = Start {
        ip: 0,
        sp,
        bp: task.end - 16,
    };
    let (seen, _) = dump(&stacks, &image, from, Mode::FramePointer);
    assert_eq!(seen.events[1], reliable(TEXT + 4, task.end - 8));
}

/// A stack that code switched to and that is still empty has its stack pointer at its end. It was
/// taken for no stack, and the chain was cut.
#[test]
fn x86_32_sp_may_equal_the_end() {
    let percpu = machine_32::percpu(0);
    let stacks = machine_32::stacks(&percpu);
    let mut image = machine_32::image();
    let softirq_end = machine_32::SOFTIRQ + machine_32::THREAD_SIZE;
    let task_sp = machine_32::TASK + 0x1f00;
    image.put(machine_32::SOFTIRQ, task_sp);
    image.put(task_sp + 8, TEXT);
    let from = Start {
        ip: TEXT + 9,
        sp: softirq_end,
        bp: 0,
    };
    let (seen, end) = dump(&stacks, &image, from, Mode::Scan);
    assert_eq!(end, DumpEnd::EndOfStacks);
    assert_eq!(
        seen.events,
        [
            Event::Begin(StackKind::SoftIrq),
            interrupted(TEXT + 9),
            Event::End(StackKind::SoftIrq),
            Event::Begin(StackKind::Task),
            unreliable(TEXT, task_sp + 8),
            Event::End(StackKind::Task),
        ]
    );

    // The hardirq stack ends where the softirq stack begins; the kernel asks for hardirq first.
    let info = stacks
        .get_stack_info(&image, machine_32::SOFTIRQ, None)
        .unwrap();
    assert_eq!((info.kind, info.end), (StackKind::Irq, machine_32::SOFTIRQ));
    assert!(!info.on_stack(machine_32::SOFTIRQ, 4));

    // It is so for no other stack: those of the CPU's making, the task's, and x86_64's IRQ stack,
    // whose topmost word is in use from the start.
    let ends = |stacks: &[KnownStack]| -> Vec<u64> {
        let others = stacks.iter().filter(|stack| !stack.may_be_empty);
        others.map(|stack| stack.end).collect()
    };
    assert_eq!(ends(&percpu).len(), 2);
    for end in ends(&percpu).into_iter().chain([machine_32::task().end]) {
        let found = stacks.get_stack_info(&image, end, None);
        assert_eq!(found, Err(StackError::Unknown { addr: end }));
    }
    let percpu = machine_64::percpu();
    assert_eq!(ends(&percpu).len(), percpu.len());
}

/// An exception stack that was never used has no saved stack pointer, but the word is taken for
/// one all the same.
#[test]
fn next_sp_of_a_never_used_exception_stack_is_hostile() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mce_end = machine_64::exception_end(StackKind::MachineCheck);
    let mce_begin = machine_64::ESTACKS + 0xa000;
    let vc_sp = machine_64::exception_end(StackKind::Vc) - 0x100;
    let cases = [
        (0, DumpEnd::EndOfStacks),
        (1, DumpEnd::UnknownStack { addr: 1 }),
        (u64::MAX, DumpEnd::UnknownStack { addr: u64::MAX }),
        (u64::MAX - 7, DumpEnd::UnknownStack { addr: u64::MAX - 7 }),
        (
            0x6b6b_6b6b_6b6b_6b6b,
            DumpEnd::UnknownStack {
                addr: 0x6b6b_6b6b_6b6b_6b6b,
            },
        ),
        (
            mce_end - 0x100,
            DumpEnd::Revisited {
                kind: StackKind::MachineCheck,
            },
        ),
        (
            mce_begin,
            DumpEnd::Revisited {
                kind: StackKind::MachineCheck,
            },
        ),
        // In its own guard page.
        (
            mce_begin - 8,
            DumpEnd::Revisited {
                kind: StackKind::MachineCheck,
            },
        ),
        // On a stack that is not mapped.
        (vc_sp, DumpEnd::MissingBytes { addr: vc_sp }),
    ];
    for (next_sp, expected) in cases {
        let mut image = machine_64::image();
        image.put(mce_end - 16, next_sp);
        let (seen, end) = dump(&stacks, &image, start(mce_end - 0x100), Mode::Scan);
        assert_eq!(end, expected, "next_sp {next_sp:#x}");
        assert_eq!(seen.kinds()[0], StackKind::MachineCheck);
        assert_eq!(seen.frames(), []);
    }
    // An unmapped stack has a place, but no link.
    let image = machine_64::image();
    let (_, end) = dump(&stacks, &image, start(vc_sp), Mode::FramePointer);
    let slot = machine_64::exception_end(StackKind::Vc) - 16;
    assert_eq!(end, DumpEnd::MissingBytes { addr: slot });
}
