//! The walk of a kernel with frame pointers.

use walker_common::{StackKind, wire::Registers};

use super::machine::*;
use crate::unwind::{FrameSource, StopReason};

const SP: u64 = TASK.begin + 0x2000;
/// Any code.
const A: u64 = TEXT + 0x100;
const B: u64 = TEXT + 0x200;
const C: u64 = TEXT + 0x300;

fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.frame_pointers = true;
    machine
}

impl Machine {
    fn put_frame(&mut self, bp: u64, next_bp: u64, return_address: u64) {
        self.put(bp, next_bp);
        self.put(bp + 8, return_address);
    }

    /// Registers, with the interrupted frame pointer.
    fn put_regs_and_bp(&mut self, address: u64, saved: &Saved, bp: u64) {
        self.put_regs(address, saved);
        self.put(address + pt_regs::BP, bp);
    }

    fn walk_bp(&self, ip: u64, sp: u64, bp: u64) -> Walk {
        self.walk(&Registers {
            ip,
            sp,
            bp,
            cs: KERNEL_CS,
            ..Registers::default()
        })
    }
}

#[test]
fn calls_to_the_end_of_the_task_stack() {
    let mut machine = machine();
    machine.put_frame(SP + 0x20, SP + 0x80, B);
    machine.put_frame(SP + 0x80, 0, C);
    let walk = machine.walk_bp(A, SP, SP + 0x20);
    assert_eq!(walk.ips(), [A, B, C]);
    assert_eq!(walk.stop, StopReason::EndOfStack);
    let call = FrameSource::FramePointer;
    assert_eq!(walk.sources(), [FrameSource::Ip, call, call]);
    assert_eq!(walk.kinds(), [StackKind::Task; 3]);
    assert_eq!(walk.frames[1].sp, SP + 0x30);
}

#[test]
fn encoded_registers() {
    let mut machine = machine();
    let regs = SP + 0x40;
    machine.put_frame(SP + 0x20, regs | 1, B);
    let saved = Saved {
        ip: C,
        cs: KERNEL_CS,
        sp: regs + pt_regs::SIZE,
    };
    machine.put_regs_and_bp(regs, &saved, regs + 0x200);
    machine.put_frame(regs + 0x200, 0, A);
    let walk = machine.walk_bp(A, SP, SP + 0x20);
    assert_eq!(walk.ips(), [A, B, C, A]);
    assert_eq!(walk.sources()[2], FrameSource::FramePointerRegs);
    assert_eq!(walk.frames[2].sp, regs + pt_regs::SIZE);
    assert_eq!(walk.stop, StopReason::EndOfStack);
    assert_eq!(walk.frames[2].lookup_address(), C);
    assert_eq!(walk.frames[3].lookup_address(), A - 1);
}

#[test]
fn encoded_user_registers() {
    let mut machine = machine();
    let regs = TASK.end - pt_regs::SIZE;
    machine.put_frame(SP, regs | 1, B);
    let saved = Saved {
        ip: 0x40_0000,
        cs: USER_CS,
        sp: 0x7ffd_0000_0000,
    };
    machine.put_regs_and_bp(regs, &saved, 0x7ffd_0000_1000);
    let walk = machine.walk_bp(A, SP, SP);
    assert_eq!(walk.ips(), [A, B]);
    assert_eq!(walk.stop, StopReason::UserMode);
}

#[test]
fn from_stack_to_stack_through_registers() {
    // An NMI in an interrupt in a task.
    let mut machine = machine();
    machine.capture(StackKind::Nmi);
    let nmi = stack_of(StackKind::Nmi);
    let nmi_regs = nmi.end - pt_regs::SIZE;
    machine.put_frame(nmi_regs - 0x20, nmi_regs | 1, B);
    let irq_sp = IRQ.end - 0x100;
    let saved = Saved {
        ip: C,
        cs: KERNEL_CS,
        sp: irq_sp,
    };
    machine.put_regs_and_bp(nmi_regs, &saved, irq_sp + 0x20);
    // With frame pointers the switch to the IRQ stack is a call like any other.
    machine.put_frame(irq_sp + 0x20, SP + 0x20, A);
    machine.put_frame(SP + 0x20, 0, B);
    let walk = machine.walk_bp(A, nmi_regs - 0x40, nmi_regs - 0x20);
    assert_eq!(walk.ips(), [A, B, C, A, B]);
    let (nmi, irq, task) = (StackKind::Nmi, StackKind::Irq, StackKind::Task);
    assert_eq!(walk.kinds(), [nmi, nmi, irq, irq, task]);
    assert_eq!(walk.stop, StopReason::EndOfStack);
}

#[test]
fn a_null_bp_off_the_task_stack_is_no_end() {
    let mut machine = machine();
    machine.put_frame(IRQ.begin + 0x20, 0, B);
    let walk = machine.walk_bp(A, IRQ.begin, IRQ.begin + 0x20);
    assert_eq!(walk.ips(), [A, B]);
    assert_eq!(walk.stop, StopReason::UnknownStack { address: 0 });
}

#[test]
fn chains_that_go_down_or_in_circles() {
    // To itself, down, into the frame before, and below sp at the start.
    for next in [SP + 0x20, SP, SP + 0x28] {
        let mut machine = machine();
        machine.put_frame(SP + 0x20, next, B);
        let walk = machine.walk_bp(A, SP, SP + 0x20);
        assert_eq!(walk.ips(), [A, B]);
        assert_eq!(walk.stop, StopReason::NoProgress { sp: next });
    }
    let walk = machine().walk_bp(A, SP, SP - 16);
    assert_eq!(walk.stop, StopReason::NoProgress { sp: SP - 16 });
}

#[test]
fn registers_that_lead_to_themselves() {
    let mut machine = machine();
    let saved = Saved {
        ip: B,
        cs: KERNEL_CS,
        sp: SP + pt_regs::SIZE,
    };
    machine.put_regs_and_bp(SP, &saved, SP | 1);
    let walk = machine.walk_bp(A, SP, SP | 1);
    assert_eq!(walk.ips(), [A, B]);
    assert_eq!(walk.stop, StopReason::NoProgress { sp: SP });

    // An sp far up does not let the chain jump over what is in between.
    let saved = Saved {
        sp: TASK.end - 8,
        ..saved
    };
    machine.put_regs_and_bp(SP, &saved, SP + pt_regs::SIZE);
    machine.put_frame(SP + pt_regs::SIZE, 0, C);
    let walk = machine.walk_bp(A, SP, SP | 1);
    assert_eq!(walk.ips(), [A, B, C]);
    assert_eq!(walk.stop, StopReason::EndOfStack);
}

#[test]
fn a_stack_that_was_left_is_not_entered_again() {
    let mut machine = machine();
    machine.put_frame(IRQ.begin + 0x20, SP, B);
    machine.put_frame(SP, IRQ.begin + 0x80, C);
    let walk = machine.walk_bp(A, IRQ.begin, IRQ.begin + 0x20);
    assert_eq!(walk.ips(), [A, B, C]);
    let kind = StackKind::Irq;
    assert_eq!(walk.stop, StopReason::Loop { kind });

    let mut machine = self::machine();
    machine.put_frame(SP, IRQ.begin | 1, B);
    let saved = Saved {
        ip: C,
        cs: KERNEL_CS,
        sp: SP + 0x100,
    };
    machine.put_regs_and_bp(IRQ.begin, &saved, SP + 0x100);
    let walk = machine.walk_bp(A, SP, SP);
    assert_eq!(walk.ips(), [A, B, C]);
    let kind = StackKind::Task;
    assert_eq!(walk.stop, StopReason::Loop { kind });
}

#[test]
fn bad_addresses_and_missing_bytes() {
    let mut machine = machine();
    machine.put_frame(SP, SP + 0x20, 0x1234);
    let walk = machine.walk_bp(A, SP, SP);
    assert_eq!(walk.stop, StopReason::BadReturnAddress { ip: 0x1234 });

    // A frame that only begins on the stack.
    let walk = machine.walk_bp(A, SP, TASK.end - 8);
    let kind = StackKind::Task;
    assert_eq!(walk.stop, StopReason::Loop { kind });
    let walk = machine.walk_bp(A, SP, 0x1000);
    assert_eq!(walk.stop, StopReason::UnknownStack { address: 0x1000 });
    machine.captured = vec![(SP, SP + 8)];
    let walk = machine.walk_bp(A, SP, SP);
    assert_eq!(walk.stop, StopReason::MissingBytes { address: SP + 8 });
}
