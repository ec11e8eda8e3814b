//! Every way a walk can end before the outermost frame.

use walker_common::{StackKind, wire::Registers};

use super::machine::*;
use crate::{
    classify::KnownStack,
    unwind::{
        FrameSource, StopReason,
        orc::{OrcFormat, OrcKind, OrcRegister},
    },
};

const SP: u64 = TASK.begin + 0x2000;

#[test]
fn code_that_cannot_be_unwound() {
    for format in [OrcFormat::V1, OrcFormat::V2, OrcFormat::V3, OrcFormat::V4] {
        let mut machine = Machine::new();
        machine.format = format;
        let leaf = machine.code(marker(OrcKind::Undefined));
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.ips(), [leaf]);
        assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip: leaf });
    }
}

#[test]
fn rules_that_make_no_sense() {
    for sp_reg in [
        OrcRegister::Undefined,
        OrcRegister::PrevSp,
        OrcRegister::Invalid,
    ] {
        let mut machine = Machine::new();
        let leaf = machine.code(call(sp_reg, 8));
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip: leaf });
    }
    // The code whose rule is wrong is named, not its caller.
    let mut machine = Machine::new();
    let leaf = machine.code(saving_bp(call(OrcRegister::Sp, 8), OrcRegister::R10, 0));
    let caller = machine.code(END);
    machine.put(SP, caller);
    let walk = machine.walk_from(leaf, SP);
    assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip: leaf });
    assert_eq!(walk.exact(), [leaf]);
}

#[test]
fn a_return_address_outside_of_text() {
    for ip in [0, 1, 0x40_0000, TEXT - 1, TEXT_END, DYNAMIC_END, u64::MAX] {
        let mut machine = Machine::new();
        let leaf = machine.code(call(OrcRegister::Sp, 8));
        machine.put(SP, ip);
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.exact(), [leaf]);
        assert_eq!(walk.stop, StopReason::BadReturnAddress { ip });
    }
}

#[test]
fn a_stack_pointer_that_does_not_move_up() {
    // The CFA of a call at or below sp.
    for offset in [0, -8] {
        let mut machine = Machine::new();
        let leaf = machine.code(call(OrcRegister::Sp, offset));
        let caller = machine.code(END);
        let sp = SP.wrapping_add_signed(i64::from(offset));
        machine.put(sp - 8, caller);
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.stop, StopReason::NoProgress { sp });
        assert_eq!(walk.exact(), [leaf]);
    }
    // Saved registers with an sp below them.
    let mut machine = Machine::new();
    let leaf = machine.code(regs(0));
    let saved = Saved {
        ip: leaf,
        cs: KERNEL_CS,
        sp: SP,
    };
    machine.put_regs(SP, &saved);
    let walk = machine.walk_from(leaf, SP);
    assert_eq!(walk.stop, StopReason::NoProgress { sp: SP });
}

#[test]
fn registers_that_lead_in_circles_off_the_stack() {
    // The saved sp is nowhere, so it cannot show that the walk gets no further; its length does.
    let mut machine = Machine::new();
    let leaf = machine.code(crate::unwind::orc::OrcEntry {
        sp_reg: OrcRegister::Bp,
        ..regs(0)
    });
    let saved = Saved {
        ip: leaf,
        cs: KERNEL_CS,
        sp: 0x1000,
    };
    machine.put_regs(SP, &saved);
    machine.put(SP + pt_regs::BP, SP);
    machine.captured = vec![(SP, TASK.end)];
    let walk = machine.walk(&Registers {
        ip: leaf,
        sp: SP,
        bp: SP,
        cs: KERNEL_CS,
        ..Registers::default()
    });
    assert_eq!(walk.stop, StopReason::NoProgress { sp: 0x1000 });
    let words = (TASK.end - SP) / 8;
    assert_eq!(walk.exact().len() as u64, words + 1);
}

#[test]
fn an_sp_on_no_stack() {
    for sp in [0, 8, TASK.begin - 8, TASK.end, u64::MAX, u64::MAX - 7] {
        let mut machine = Machine::new();
        let leaf = machine.code(call(OrcRegister::Sp, 8));
        let walk = machine.walk_from(leaf, sp);
        assert_eq!(walk.ips(), [leaf]);
        assert_eq!(walk.kinds(), [StackKind::Unknown]);
        assert_eq!(walk.stop, StopReason::UnknownStack { address: sp });
    }
}

#[test]
fn a_pointer_off_every_stack() {
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::SpIndirect, 8));
    machine.put(SP, 0xffff_8880_0000_1000);
    let walk = machine.walk_from(leaf, SP);
    let address = 0xffff_8880_0000_1000;
    assert_eq!(walk.stop, StopReason::UnknownStack { address });

    // A word or registers that only begin on the stack.
    for (rule, sp) in [
        (call(OrcRegister::Sp, 12), TASK.end - 8),
        (regs(0), TASK.end - pt_regs::SIZE + 8),
        (partial(0), TASK.end - 32),
    ] {
        let mut machine = Machine::new();
        let leaf = machine.code(rule);
        let walk = machine.walk_from(leaf, sp);
        assert!(
            matches!(
                walk.stop,
                StopReason::UnknownStack { .. } | StopReason::Loop { .. }
            ),
            "{:?}",
            walk.stop
        );
        assert_eq!(walk.exact(), [leaf]);
    }
}

#[test]
fn no_kind_of_stack_is_entered_twice() {
    let kinds = [
        StackKind::Irq,
        StackKind::Entry,
        StackKind::DoubleFault,
        StackKind::Nmi,
        StackKind::Debug,
        StackKind::MachineCheck,
        StackKind::Vc,
        StackKind::Vc2,
    ];
    for kind in kinds {
        // From the stack to the task's, and back; and the other way round.
        for (from, to) in [(stack_of(kind), TASK), (TASK, stack_of(kind))] {
            let mut machine = Machine::new();
            machine.captured = [from, to].map(|stack| (stack.begin, stack.end)).to_vec();
            let switch = machine.code(call(OrcRegister::SpIndirect, 8));
            let (low, high) = (from.begin + 0x100, from.begin + 0x800);
            let over = to.begin + 0x100;
            machine.put(low, over);
            machine.put(over, switch);
            machine.put(over + 8, high);
            machine.put(high, switch);
            let walk = machine.walk_from(switch, low);
            assert_eq!(walk.exact(), [switch, switch]);
            assert_eq!(walk.stop, StopReason::Loop { kind: from.kind });
            assert_eq!(walk.kinds()[..2], [from.kind, to.kind]);
        }
    }
}

#[test]
fn interrupted_frames_that_lead_back_are_shown_but_not_followed() {
    // Registers on the task stack whose sp is on the IRQ stack that the walk came from.
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::SpIndirect, 8));
    let entry = machine.code(regs(0));
    let interrupted = machine.code(call(OrcRegister::Sp, 8));
    machine.put(IRQ.end - 8, SP);
    machine.put(SP, entry);
    let saved = Saved {
        ip: interrupted,
        cs: KERNEL_CS,
        sp: IRQ.begin + 0x100,
    };
    machine.put_regs(SP + 8, &saved);
    machine.put(IRQ.begin + 0x100, interrupted);
    let walk = machine.walk_from(leaf, IRQ.end - 8);
    assert_eq!(walk.ips(), [leaf, entry, interrupted]);
    assert_eq!(walk.sources()[2], FrameSource::OrcRegs);
    let kind = StackKind::Irq;
    assert_eq!(walk.stop, StopReason::Loop { kind });
}

#[test]
fn bytes_that_are_not_in_the_sample() {
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::Sp, 0x108));
    machine.captured = vec![(SP, SP + 0x100)];
    let walk = machine.walk_from(leaf, SP);
    let address = SP + 0x100;
    assert_eq!(walk.stop, StopReason::MissingBytes { address });

    // A stack that was not captured at all, and an iret frame that is cut.
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::SpIndirect, 8));
    let KnownStack { begin: address, .. } = stack_of(StackKind::Debug);
    machine.put(SP, address);
    let walk = machine.walk_from(leaf, SP);
    assert_eq!(walk.stop, StopReason::MissingBytes { address });

    let mut machine = Machine::new();
    let leaf = machine.code(partial(0));
    machine.captured = vec![(SP, SP + 8)];
    let walk = machine.walk_from(leaf, SP);
    let address = SP + 8;
    assert_eq!(walk.stop, StopReason::MissingBytes { address });

    // Between two captured pieces of the same stack.
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::Sp, 0x10c));
    machine.captured = vec![(SP, SP + 0x100), (SP + 0x108, TASK.end)];
    let walk = machine.walk_from(leaf, SP);
    let address = SP + 0x104;
    assert_eq!(walk.stop, StopReason::MissingBytes { address });
}

#[test]
fn a_bp_that_cannot_be_read_ends_the_walk_before_the_caller() {
    let mut machine = Machine::new();
    let leaf = machine.code(saving_bp(call(OrcRegister::Sp, 8), OrcRegister::Bp, 0));
    let caller = machine.code(END);
    machine.put(SP, caller);
    let walk = machine.walk(&Registers {
        ip: leaf,
        sp: SP,
        bp: 0x1000,
        cs: KERNEL_CS,
        ..Registers::default()
    });
    assert_eq!(walk.exact(), [leaf]);
    assert_eq!(walk.stop, StopReason::UnknownStack { address: 0x1000 });
    // As a frame it is found again by the scan, and marked.
    assert_eq!(walk.ips(), [leaf, caller]);
}
