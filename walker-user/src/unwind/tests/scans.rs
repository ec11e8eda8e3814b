//! What follows a walk that could not go on: frames that are marked, on stacks not walked before.

use walker_common::{StackKind, wire::Registers};

use super::machine::*;
use crate::unwind::{
    Frame, FrameSource, StopReason,
    orc::{OrcKind, OrcRegister},
};

const SP: u64 = TASK.begin + 0x2000;

#[test]
fn frames_are_marked_and_the_reason_stays() {
    let mut machine = Machine::new();
    let leaf = machine.code(marker(OrcKind::Undefined));
    let caller = machine.code(END);
    machine.put(SP + 0x100, caller);
    machine.put(SP + 0x208, 0x1234);
    machine.put(TASK.end - 8, DYNAMIC);
    // Below sp, where nothing counts.
    machine.put(SP - 8, caller);
    let walk = machine.walk_from(leaf, SP);
    assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip: leaf });
    let scanned = |ip, sp| Frame {
        ip,
        sp,
        stack: StackKind::Task,
        source: FrameSource::Scan,
        reliable: false,
    };
    let expected = [scanned(caller, SP + 0x100), scanned(DYNAMIC, TASK.end - 8)];
    assert_eq!(walk.frames[1..], expected);
    assert!(walk.frames[0].reliable);
}

#[test]
fn a_complete_walk_is_not_followed_by_a_scan() {
    let mut machine = Machine::new();
    let leaf = machine.code(END);
    machine.put(SP + 0x100, leaf);
    assert_eq!(machine.walk_from(leaf, SP).ips(), [leaf]);
}

#[test]
fn it_goes_on_to_stacks_that_were_not_walked() {
    let mut machine = Machine::new();
    let leaf = machine.code(marker(OrcKind::Undefined));
    let (on_irq, on_task) = (machine.code(END), machine.code(END));
    machine.put(IRQ.end - 0x20, on_irq);
    machine.put(IRQ.end - 8, SP);
    machine.put(SP + 8, on_task);
    let walk = machine.walk_from(leaf, IRQ.end - 0x100);
    assert_eq!(walk.ips(), [leaf, on_irq, on_task]);
    let (irq, task) = (StackKind::Irq, StackKind::Task);
    assert_eq!(walk.kinds(), [irq, irq, task]);
    assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip: leaf });
}

#[test]
fn it_visits_no_stack_that_was_walked() {
    // From the #DB stack to the IRQ stack, which leads back to the #DB stack.
    let mut machine = Machine::new();
    machine.capture(StackKind::Debug);
    let debug = stack_of(StackKind::Debug);
    let switch = machine.code(call(OrcRegister::SpIndirect, 8));
    let lost = machine.code(marker(OrcKind::Undefined));
    let stale = machine.code(END);
    machine.put(debug.begin, IRQ.begin);
    machine.put(debug.begin + 0x100, stale);
    machine.put(IRQ.begin, lost);
    machine.put(IRQ.begin + 0x10, stale);
    machine.put(IRQ.end - 8, debug.begin);
    let walk = machine.walk_from(switch, debug.begin);
    assert_eq!(walk.ips(), [switch, lost, stale]);
    assert_eq!(walk.frames[2].sp, IRQ.begin + 0x10);
    assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip: lost });
}

#[test]
fn it_does_not_begin_on_a_stack_that_was_left() {
    // Registers on the IRQ stack whose sp is back on the #DB stack, with an ip that is not text
    // or without a way on.
    for ip in [0x1234, 0] {
        let mut machine = Machine::new();
        machine.capture(StackKind::Debug);
        let debug = stack_of(StackKind::Debug);
        let switch = machine.code(call(OrcRegister::SpIndirect, 8));
        let entry = machine.code(regs(0));
        let stuck = machine.code(call(OrcRegister::Sp, 8));
        let stale = machine.code(END);
        let ip = if ip == 0 { stuck } else { ip };
        machine.put(debug.begin, IRQ.begin);
        machine.put(debug.begin + 0x100, stale);
        machine.put(IRQ.begin, entry);
        let (cs, sp) = (KERNEL_CS, debug.begin + 0x80);
        machine.put_regs(IRQ.begin + 8, &Saved { ip, cs, sp });
        let walk = machine.walk_from(switch, debug.begin);
        assert!(!walk.stop.is_complete());
        let scanned = walk.frames.iter().filter(|frame| !frame.reliable);
        assert!(scanned.clone().all(|frame| frame.stack != StackKind::Debug));
    }
}

#[test]
fn it_begins_at_the_last_frame_not_where_the_failed_step_led() {
    // The CFA was wrong, so its return address is none: those below it are not lost.
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::Sp, 0x100));
    let caller = machine.code(END);
    machine.put(SP + 0x20, caller);
    machine.put(SP + 0xf8, 0x1234);
    let walk = machine.walk_from(leaf, SP);
    assert_eq!(walk.stop, StopReason::BadReturnAddress { ip: 0x1234 });
    assert_eq!(walk.ips(), [leaf, caller]);

    // A CFA far below adds no words that were walked before.
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::Bp, 0));
    let caller = machine.code(END);
    machine.put(TASK.begin + 8, caller);
    machine.put(SP + 8, caller);
    let walk = machine.walk(&Registers {
        ip: leaf,
        sp: SP,
        bp: TASK.begin + 16,
        cs: KERNEL_CS,
        ..Registers::default()
    });
    let sp = TASK.begin + 16;
    assert_eq!(walk.stop, StopReason::NoProgress { sp });
    assert_eq!(walk.frames.len(), 2);
    assert_eq!(walk.frames[1].sp, SP + 8);
}

#[test]
fn words_that_are_missing_end_it() {
    let mut machine = Machine::new();
    let leaf = machine.code(marker(OrcKind::Undefined));
    let caller = machine.code(END);
    machine.put(SP + 8, caller);
    machine.put(SP + 0x200, caller);
    machine.captured = vec![(SP, SP + 0x100), (SP + 0x108, TASK.end)];
    let walk = machine.walk_from(leaf, SP);
    assert_eq!(walk.ips(), [leaf, caller]);
    assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip: leaf });
}
