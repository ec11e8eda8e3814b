//! Walks over several stacks, laid out as the kernel's entry code does it (6.18).

use walker_common::StackKind;

use super::machine::*;
use crate::unwind::{FrameSource, StopReason, orc::OrcRegister};

/// What is on the task stack when it is interrupted, up to the entry from user mode.
struct Kernel {
    machine: Machine,
    /// Interrupted on the task stack at this ip and sp ...
    ip: u64,
    sp: u64,
    /// ... and called from here.
    syscall: u64,
}

/// A system call: `pt_regs` at the top of the task stack, below it a return address into the entry
/// code, below that the function that is interrupted.
fn system_call() -> Kernel {
    let mut machine = Machine::new();
    let ip = machine.code(call(OrcRegister::Sp, 0x20));
    let syscall = machine.code(regs(0));
    let user = TASK.end - pt_regs::SIZE;
    let saved = Saved {
        ip: 0x40_0000,
        cs: USER_CS,
        sp: 0x7ffd_0000_0000,
    };
    machine.put_regs(user, &saved);
    machine.put(user - 8, syscall);
    Kernel {
        machine,
        ip,
        sp: user - 0x20,
        syscall,
    }
}

impl Kernel {
    /// An interrupt of the task: registers below its sp, a call from there into
    /// `call_on_irqstack`, which saves sp in the topmost word of the IRQ stack and goes on from
    /// there. Returns the frames from the handler that runs on the IRQ stack on, and its sp.
    fn interrupt(&mut self) -> ([u64; 3], u64) {
        let machine = &mut self.machine;
        let handler = machine.code(call(OrcRegister::Sp, 0x10));
        let switch = machine.code(call(OrcRegister::SpIndirect, 8));
        let entry = machine.code(regs(0));
        let regs = self.sp - pt_regs::SIZE;
        let saved = Saved {
            ip: self.ip,
            cs: KERNEL_CS,
            sp: self.sp,
        };
        machine.put_regs(regs, &saved);
        machine.put(regs - 8, entry);
        machine.put(IRQ.end - 8, regs - 8);
        machine.put(IRQ.end - 16, switch);
        ([handler, switch, entry], IRQ.end - 0x18)
    }

    /// An exception with a stack of its own, which interrupts `ip` at `sp`. Returns the code of
    /// its handler and the sp there.
    fn exception(&mut self, kind: StackKind, ip: u64, sp: u64) -> ([u64; 2], u64) {
        self.machine.capture(kind);
        let machine = &mut self.machine;
        let handler = machine.code(call(OrcRegister::Sp, 0x10));
        let entry = machine.code(regs(0));
        let top = stack_of(kind).end;
        let cs = KERNEL_CS;
        machine.put_regs(top - pt_regs::SIZE, &Saved { ip, cs, sp });
        machine.put(top - pt_regs::SIZE - 8, entry);
        ([handler, entry], top - pt_regs::SIZE - 0x10)
    }
}

#[test]
fn task_to_user() {
    let Kernel {
        machine,
        ip,
        sp,
        syscall,
    } = system_call();
    let walk = machine.walk_from(ip, sp);
    assert_eq!(walk.ips(), [ip, syscall]);
    assert_eq!(walk.stop, StopReason::UserMode);
}

#[test]
fn irq_to_task_to_user() {
    let mut kernel = system_call();
    let ([handler, switch, entry], sp) = kernel.interrupt();
    let walk = kernel.machine.walk_from(handler, sp);
    assert_eq!(
        walk.ips(),
        [handler, switch, entry, kernel.ip, kernel.syscall]
    );
    assert_eq!(walk.stop, StopReason::UserMode);
    // The return address into the switching code is on the IRQ stack, the one that it finds
    // through the saved sp on the task's.
    assert_eq!(
        walk.kinds(),
        [
            StackKind::Irq,
            StackKind::Irq,
            StackKind::Task,
            StackKind::Task,
            StackKind::Task
        ]
    );
    assert_eq!(
        walk.sources(),
        [
            FrameSource::Ip,
            FrameSource::Orc,
            FrameSource::Orc,
            FrameSource::OrcRegs,
            FrameSource::Orc
        ]
    );
}

#[test]
fn an_interrupt_in_the_switching_code_itself() {
    let mut kernel = system_call();
    let ([_, switch, entry], _) = kernel.interrupt();
    let walk = kernel.machine.walk_from(switch, IRQ.end - 8);
    assert_eq!(walk.ips(), [switch, entry, kernel.ip, kernel.syscall]);
    assert_eq!(walk.kinds()[..2], [StackKind::Irq, StackKind::Task]);
    assert_eq!(walk.stop, StopReason::UserMode);
}

#[test]
fn every_exception_stack_to_irq_to_task_to_user() {
    for kind in [
        StackKind::Nmi,
        StackKind::Debug,
        StackKind::MachineCheck,
        StackKind::Vc,
        StackKind::Vc2,
        StackKind::DoubleFault,
    ] {
        let mut kernel = system_call();
        let ([irq, switch, irq_entry], irq_sp) = kernel.interrupt();
        let ([handler, entry], sp) = kernel.exception(kind, irq, irq_sp);
        let walk = kernel.machine.walk_from(handler, sp);
        assert_eq!(
            walk.ips(),
            [
                handler,
                entry,
                irq,
                switch,
                irq_entry,
                kernel.ip,
                kernel.syscall
            ]
        );
        let (irq, task) = (StackKind::Irq, StackKind::Task);
        assert_eq!(walk.kinds(), [kind, kind, irq, irq, task, task, task]);
        assert_eq!(walk.stop, StopReason::UserMode);
    }
}

#[test]
fn double_fault_to_task() {
    let mut kernel = system_call();
    let (ip, task_sp) = (kernel.ip, kernel.sp);
    let ([handler, entry], sp) = kernel.exception(StackKind::DoubleFault, ip, task_sp);
    let walk = kernel.machine.walk_from(handler, sp);
    assert_eq!(walk.ips(), [handler, entry, ip, kernel.syscall]);
    let (df, task) = (StackKind::DoubleFault, StackKind::Task);
    assert_eq!(walk.kinds(), [df, df, task, task]);
    assert_eq!(walk.stop, StopReason::UserMode);
}

#[test]
fn exceptions_in_exceptions_as_deep_as_a_record_goes() {
    let mut kernel = system_call();
    let ([irq, ..], irq_sp) = kernel.interrupt();
    let (mut ip, mut sp) = (irq, irq_sp);
    let kinds = [
        StackKind::Debug,
        StackKind::Nmi,
        StackKind::MachineCheck,
        StackKind::DoubleFault,
    ];
    for kind in kinds {
        let (code, at) = kernel.exception(kind, ip, sp);
        (ip, sp) = (code[0], at);
    }
    let walk = kernel.machine.walk_from(ip, sp);
    let mut entered = walk.kinds();
    entered.dedup();
    assert_eq!(
        entered,
        [
            StackKind::DoubleFault,
            StackKind::MachineCheck,
            StackKind::Nmi,
            StackKind::Debug,
            StackKind::Irq,
            StackKind::Task
        ]
    );
    assert_eq!(walk.stop, StopReason::UserMode);
    assert_eq!(walk.frames.len(), 4 * 2 + 5);
}

#[test]
fn an_exception_on_the_entry_stack_is_known_but_its_caller_is_user_mode() {
    let mut kernel = system_call();
    kernel.machine.capture(StackKind::Entry);
    let entry_stack = stack_of(StackKind::Entry);
    let on_entry = kernel.machine.code(partial(0));
    let user = entry_stack.end - 40;
    let saved = Saved {
        ip: 0x40_0000,
        cs: USER_CS,
        sp: 0x7ffd_0000_0000,
    };
    kernel.machine.put_regs(user - pt_regs::IP, &saved);
    let ([handler, entry], sp) = kernel.exception(StackKind::Nmi, on_entry, user);
    let walk = kernel.machine.walk_from(handler, sp);
    assert_eq!(walk.ips(), [handler, entry, on_entry]);
    assert_eq!(walk.kinds()[2], StackKind::Entry);
    assert_eq!(walk.stop, StopReason::UserMode);
}

#[test]
fn an_interrupted_frame_counts_for_the_stack_it_was_using() {
    // The registers of an interrupt in a softirq are on the IRQ stack, as is the softirq.
    let mut machine = Machine::new();
    let handler = machine.code(regs(0));
    let interrupted = machine.code(END);
    let at = IRQ.begin + 0x1000;
    for (sp, kind) in [
        (at + pt_regs::SIZE, StackKind::Irq),
        (TASK.begin + 8, StackKind::Task),
        (0x1000, StackKind::Unknown),
    ] {
        let (ip, cs) = (interrupted, KERNEL_CS);
        machine.put_regs(at, &Saved { ip, cs, sp });
        let walk = machine.walk_from(handler, at);
        assert_eq!(walk.kinds(), [StackKind::Irq, kind]);
        assert_eq!(walk.stop, StopReason::EndOfStack);
    }
}
