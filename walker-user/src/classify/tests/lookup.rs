//! Which stack an address is on: limits, guard pages, layouts, the mask and the link.

use walker_common::StackKind;

use super::image::{Image, machine_32, machine_64};
use crate::classify::{
    KnownStack, LayoutError, NextSp, Revisited, StackError, StackInfo, StackSet, VisitMask,
    WordSize, x86_32, x86_64,
};

fn range(kind: StackKind, begin: u64, end: u64) -> StackInfo {
    StackInfo {
        kind,
        begin,
        end,
        next_sp: None,
        next_sp_slot: None,
    }
}

fn kind_at(stacks: &StackSet<'_>, image: &Image, addr: u64) -> Result<StackKind, StackError> {
    stacks
        .get_stack_info(image, addr, None)
        .map(|info| info.kind)
}

#[test]
fn on_stack_is_half_open() {
    let info = range(StackKind::Task, 0x1000, 0x2000);
    assert!(info.on_stack(0x1000, 8));
    assert!(info.on_stack(0x1ff8, 8));
    assert!(info.on_stack(0x1000, 0x1000));
    assert!(!info.on_stack(0xfff, 8));
    assert!(!info.on_stack(0x1ff9, 8));
    assert!(!info.on_stack(0x2000, 8));
    assert!(!info.on_stack(0x1000, 0x1001));
}

#[test]
fn on_stack_of_no_bytes_is_as_in_the_kernel() {
    let info = range(StackKind::Task, 0x1000, 0x2000);
    assert!(!info.on_stack(0x1000, 0));
    assert!(info.on_stack(0x1001, 0));
    assert!(!info.on_stack(0x2000, 0));
}

#[test]
fn on_stack_does_not_overflow() {
    let top = range(StackKind::Task, u64::MAX - 0xfff, u64::MAX);
    assert!(top.on_stack(u64::MAX - 8, 8));
    assert!(!top.on_stack(u64::MAX - 7, 8));
    assert!(!top.on_stack(u64::MAX, 1));
    assert!(!top.on_stack(u64::MAX - 8, u64::MAX));
    // The sum wraps around to 0x47, which is between begin and end.
    let bottom = range(StackKind::Task, 0, 0x1000);
    assert!(!bottom.on_stack(0x50, u64::MAX - 8));
    assert!(!range(StackKind::Task, 0, u64::MAX).on_stack(u64::MAX - 1, 2));
}

#[test]
fn nothing_is_on_a_stack_of_unknown_kind() {
    assert!(!range(StackKind::Unknown, 0x1000, 0x2000).on_stack(0x1800, 8));
    let unknown = KnownStack {
        kind: StackKind::Unknown,
        begin: 0x1000,
        end: 0x2000,
        may_be_empty: true,
        next_sp: NextSp::None,
    };
    let stacks = StackSet {
        task: None,
        percpu: &[unknown],
        word: WordSize::Eight,
    };
    let image = Image::new(WordSize::Eight);
    assert_eq!(
        kind_at(&stacks, &image, 0x1800),
        Err(StackError::Unknown { addr: 0x1800 })
    );
}

#[test]
fn a_null_pointer_is_on_no_stack() {
    let everywhere = KnownStack {
        kind: StackKind::Task,
        begin: 0,
        end: u64::MAX,
        may_be_empty: false,
        next_sp: NextSp::None,
    };
    let stacks = StackSet {
        task: Some(everywhere),
        percpu: &[],
        word: WordSize::Eight,
    };
    let image = Image::new(WordSize::Eight);
    assert_eq!(kind_at(&stacks, &image, 0), Err(StackError::NullPointer));
    assert_eq!(kind_at(&stacks, &image, 1), Ok(StackKind::Task));
}

#[test]
fn every_stack_of_x86_64_is_found_from_its_first_to_its_last_byte() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let image = machine_64::image();
    let expected = [
        (
            StackKind::Task,
            0xffff_c900_0012_c000,
            0xffff_c900_0013_0000,
        ),
        (StackKind::Irq, 0xffff_c900_0000_0000, 0xffff_c900_0000_4000),
        (
            StackKind::Entry,
            0xffff_fe00_0000_3000,
            0xffff_fe00_0000_4000,
        ),
        (
            StackKind::DoubleFault,
            0xffff_fe00_0000_9000,
            0xffff_fe00_0000_b000,
        ),
        (StackKind::Nmi, 0xffff_fe00_0000_c000, 0xffff_fe00_0000_e000),
        (
            StackKind::Debug,
            0xffff_fe00_0000_f000,
            0xffff_fe00_0001_1000,
        ),
        (
            StackKind::MachineCheck,
            0xffff_fe00_0001_2000,
            0xffff_fe00_0001_4000,
        ),
        (StackKind::Vc, 0xffff_fe00_0001_5000, 0xffff_fe00_0001_7000),
        (StackKind::Vc2, 0xffff_fe00_0001_8000, 0xffff_fe00_0001_a000),
    ];
    for (kind, begin, end) in expected {
        for addr in [begin, end - 1] {
            let info = stacks.get_stack_info(&image, addr, None).unwrap();
            assert_eq!((info.kind, info.begin, info.end), (kind, begin, end));
        }
        for addr in [begin - 1, end] {
            assert_eq!(
                kind_at(&stacks, &image, addr),
                Err(StackError::Unknown { addr })
            );
        }
    }
}

#[test]
fn guard_pages_are_on_no_stack() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let image = machine_64::image();
    for member in machine_64::MEMBERS {
        for below in [1, 0x800, 0x1000] {
            let addr = machine_64::ESTACKS + member.offset - below;
            assert_eq!(
                kind_at(&stacks, &image, addr),
                Err(StackError::Unknown { addr })
            );
        }
    }
}

#[test]
fn every_stack_of_x86_32_is_found() {
    let percpu = machine_32::percpu(0);
    let stacks = machine_32::stacks(&percpu);
    let image = machine_32::image();
    let expected = [
        (StackKind::Task, 0xc180_0000, 0xc180_2000),
        (StackKind::Entry, 0xff80_1000, 0xff80_2000),
        (StackKind::Irq, 0xc100_0000, 0xc100_2000),
        (StackKind::SoftIrq, 0xc100_2000, 0xc100_4000),
        (StackKind::DoubleFault, 0xff80_8000, 0xff80_8800),
    ];
    for (kind, begin, end) in expected {
        let info = stacks.get_stack_info(&image, end - 4, None).unwrap();
        assert_eq!((info.kind, info.begin, info.end), (kind, begin, end));
    }
}

#[test]
fn the_search_order_is_that_of_the_kernel() {
    let kinds = |stacks: &[KnownStack]| stacks.iter().map(|s| s.kind).collect::<Vec<_>>();
    assert_eq!(
        kinds(&machine_64::percpu()),
        [
            StackKind::DoubleFault,
            StackKind::Nmi,
            StackKind::Debug,
            StackKind::MachineCheck,
            StackKind::Vc,
            StackKind::Vc2,
            StackKind::Irq,
            StackKind::Entry,
        ]
    );
    assert_eq!(
        kinds(&machine_32::percpu(0)),
        [
            StackKind::Entry,
            StackKind::Irq,
            StackKind::SoftIrq,
            StackKind::DoubleFault
        ]
    );
    // Where stacks overlap, the first one is found, and the task's is before all others.
    let overlapping = [StackKind::Nmi, StackKind::Irq]
        .map(|kind| KnownStack::from_begin(kind, 0x1000, 0x2000, NextSp::None).unwrap());
    let task = KnownStack::task(0x2000, 0x1000).unwrap();
    let stacks = StackSet {
        task: Some(task),
        percpu: &overlapping,
        word: WordSize::Eight,
    };
    let image = Image::new(WordSize::Eight);
    assert_eq!(kind_at(&stacks, &image, 0x1800), Ok(StackKind::Nmi));
    assert_eq!(kind_at(&stacks, &image, 0x2800), Ok(StackKind::Task));
}

#[test]
fn both_conventions_for_the_irq_stack_pointer_give_the_same_stack() {
    let with_pointer = |hardirq_stack_ptr| {
        let cpu = x86_64::CpuPointers {
            hardirq_stack_ptr: Some(hardirq_stack_ptr),
            ..x86_64::CpuPointers::default()
        };
        x86_64::percpu_stacks(&machine_64::LAYOUT, &cpu)
    };
    let irq = KnownStack {
        kind: StackKind::Irq,
        begin: 0xffff_c900_0000_0000,
        end: 0xffff_c900_0000_4000,
        may_be_empty: false,
        next_sp: NextSp::BelowEnd(8),
    };
    assert_eq!(with_pointer(0xffff_c900_0000_4000), Ok(vec![irq]));
    assert_eq!(with_pointer(0xffff_c900_0000_3ff8), Ok(vec![irq]));
    for pointer in [
        0xffff_c900_0000_3ff0,
        0xffff_c900_0000_4008,
        u64::MAX,
        u64::MAX - 7,
    ] {
        // u64::MAX - 7 would end the stack right past the address space.
        assert_eq!(
            with_pointer(pointer),
            Err(LayoutError::IrqStackPointer { pointer })
        );
    }
}

#[test]
fn impossible_places_are_refused() {
    let layout = machine_64::LAYOUT;
    let impossible = |cpu| match x86_64::percpu_stacks(&layout, &cpu) {
        Err(LayoutError::Impossible { kind, .. }) => Some(kind),
        _ => None,
    };
    let none = x86_64::CpuPointers::default();
    assert_eq!(x86_64::percpu_stacks(&layout, &none), Ok(vec![]));
    let irq_at_null = x86_64::CpuPointers {
        hardirq_stack_ptr: Some(0),
        ..none
    };
    assert_eq!(impossible(irq_at_null), Some(StackKind::Irq));
    let irq_too_low = x86_64::CpuPointers {
        hardirq_stack_ptr: Some(0x3000),
        ..none
    };
    assert_eq!(impossible(irq_too_low), Some(StackKind::Irq));
    let exceptions = x86_64::CpuPointers {
        cea_exception_stacks: Some(u64::MAX),
        ..none
    };
    assert_eq!(impossible(exceptions), Some(StackKind::DoubleFault));
    let entry_at_null = x86_64::CpuPointers {
        entry_stack: Some(0),
        ..none
    };
    assert_eq!(impossible(entry_at_null), Some(StackKind::Entry));

    let cpu = x86_32::CpuPointers {
        softirq_stack_ptr: Some(0x1000),
        ..Default::default()
    };
    let empty = x86_32::Layout {
        thread_size: 0,
        ..machine_32::LAYOUT
    };
    assert_eq!(
        x86_32::percpu_stacks(&empty, &cpu),
        Err(LayoutError::Impossible {
            kind: StackKind::SoftIrq,
            addr: 0x1000,
            size: 0
        })
    );
    assert!(KnownStack::task(0, 0x4000).is_err());
}

#[test]
fn a_look_without_a_mask_enters_nothing_and_errors_leave_the_mask_alone() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let image = machine_64::image();
    let addr = machine_64::TASK;
    let mut mask = VisitMask::default();
    assert!(stacks.get_stack_info(&image, addr, None).is_ok());
    assert!(stacks.get_stack_info(&image, addr, None).is_ok());
    assert!(stacks.get_stack_info(&image, 1, Some(&mut mask)).is_err());
    assert_eq!(mask, VisitMask::default());
    assert!(stacks.get_stack_info(&image, addr, Some(&mut mask)).is_ok());
    let entered = mask;
    assert_eq!(
        stacks.get_stack_info(&image, addr, Some(&mut mask)),
        Err(StackError::Revisited {
            kind: StackKind::Task,
            addr
        })
    );
    assert_eq!(mask, entered);
}

#[test]
fn the_mask_has_one_bit_for_each_kind() {
    let mut mask = VisitMask::default();
    for (index, kind) in StackKind::ALL.into_iter().enumerate() {
        assert!(!mask.contains(kind));
        assert_eq!(mask.visit(kind), Ok(()));
        assert_eq!(mask.visit(kind), Err(Revisited { kind }));
        for (other_index, other) in StackKind::ALL.into_iter().enumerate() {
            assert_eq!(mask.contains(other), other_index <= index);
        }
    }
}

#[test]
fn next_sp_is_the_word_that_its_kind_of_stack_keeps() {
    let percpu = machine_64::percpu();
    let stacks = machine_64::stacks(&percpu);
    let mut image = machine_64::image();
    let nmi_end = machine_64::exception_end(StackKind::Nmi);
    image.put(machine_64::IRQ_END - 16, 0x16);
    image.put(machine_64::IRQ_END - 8, 0x8);
    image.put(nmi_end - 24, 0x24);
    image.put(nmi_end - 16, 0x16);
    image.put(nmi_end - 8, 0x8);
    let next = |addr| {
        let info = stacks.get_stack_info(&image, addr, None).unwrap();
        (info.next_sp, info.next_sp_slot)
    };
    let irq_slot = 0xffff_c900_0000_3ff8;
    assert_eq!(
        next(machine_64::IRQ_END - 0x100),
        (Some(0x8), Some(irq_slot))
    );
    assert_eq!(
        next(nmi_end - 0x100),
        (Some(0x16), Some(0xffff_fe00_0000_dff0))
    );
    assert_eq!(next(machine_64::TASK), (None, None));
    assert_eq!(next(machine_64::ENTRY), (None, None));
    // The stack is known, its bytes are not there.
    let vc_end = machine_64::exception_end(StackKind::Vc);
    assert_eq!(next(vc_end - 0x100), (None, Some(vc_end - 16)));

    let percpu = machine_32::percpu(0x1234_5678);
    let stacks = machine_32::stacks(&percpu);
    let mut image = machine_32::image();
    image.put(machine_32::HARDIRQ, 0xdead_beef);
    image.put(machine_32::HARDIRQ + 4, 0xffff_ffff);
    let next = |addr| {
        let info = stacks.get_stack_info(&image, addr, None).unwrap();
        (info.next_sp, info.next_sp_slot)
    };
    let hardirq_slot = Some(machine_32::HARDIRQ);
    assert_eq!(
        next(machine_32::HARDIRQ + 0x100),
        (Some(0xdead_beef), hardirq_slot)
    );
    assert_eq!(next(machine_32::DOUBLEFAULT), (Some(0x1234_5678), None));
    assert_eq!(next(machine_32::TASK), (None, None));
}

#[test]
fn a_link_that_would_not_be_on_its_stack_is_not_read() {
    let image = Image::new(WordSize::Eight).zeroes(0, 0x4000);
    for next_sp in [
        NextSp::BelowEnd(4),
        NextSp::BelowEnd(0x1001),
        NextSp::BelowEnd(u64::MAX),
    ] {
        let stack = KnownStack::from_begin(StackKind::Irq, 0x2000, 0x1000, next_sp).unwrap();
        let stacks = StackSet {
            task: None,
            percpu: &[stack],
            word: WordSize::Eight,
        };
        let info = stacks.get_stack_info(&image, 0x2800, None).unwrap();
        assert_eq!((info.next_sp, info.next_sp_slot), (None, None));
    }
}

#[test]
fn errors_say_what_was_wrong() {
    assert_eq!(
        StackError::Revisited {
            kind: StackKind::Debug,
            addr: 0x1234
        }
        .to_string(),
        "0x1234 leads back to the #DB stack"
    );
    assert_eq!(
        StackError::Unknown { addr: 0x1234 }.to_string(),
        "0x1234 is on no known stack"
    );
    assert_eq!(
        LayoutError::IrqStackPointer { pointer: 0x10 }.to_string(),
        "IRQ stack pointer 0x10 is not at the top of a page"
    );
}
