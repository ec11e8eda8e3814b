//! Walks over stacks of a CPU that delivers events by FRED (`arch/x86/entry/entry_fred.c`, 6.18):
//! it pushes two words more, the event's data and a reserved one, above what is in
//! `struct pt_regs`.

use walker_common::StackKind;

use super::machine::*;
use crate::unwind::{StopReason, orc::OrcRegister};

/// Bytes that are pushed above `ss`, and the padding at the top of the task stack.
const EXTRA: u64 = 16;
/// What the CPU pushes with `ss`: the selector is the least of it.
const SS_WITH_EVENT: u64 = 0x0002_0018_0000_0018;

#[test]
fn nmi_to_task_to_user() {
    let mut machine = Machine::new();
    machine.capture(StackKind::Nmi);
    let interrupted = machine.code(call(OrcRegister::Sp, 0x20));
    let syscall = machine.code(regs(0));
    let handler = machine.code(call(OrcRegister::Sp, 0x10));
    let entry = machine.code(regs(0));

    let user = TASK.end - EXTRA - pt_regs::SIZE;
    let (ip, cs, sp) = (0x40_0000, USER_CS, 0x7ffd_0000_0000);
    machine.put_regs(user, &Saved { ip, cs, sp });
    machine.put(user - 8, syscall);

    let nmi = stack_of(StackKind::Nmi);
    let regs = nmi.end - EXTRA - pt_regs::SIZE;
    let (ip, cs, sp) = (interrupted, KERNEL_CS, user - 0x20);
    machine.put_regs(regs, &Saved { ip, cs, sp });
    machine.put(nmi.end - EXTRA - 8, SS_WITH_EVENT);
    machine.put(regs - 8, entry);

    let walk = machine.walk_from(handler, regs - 0x10);
    assert_eq!(walk.ips(), [handler, entry, interrupted, syscall]);
    let (nmi, task) = (StackKind::Nmi, StackKind::Task);
    assert_eq!(walk.kinds(), [nmi, nmi, task, task]);
    assert_eq!(walk.stop, StopReason::UserMode);
}

#[test]
fn an_event_of_user_mode_is_on_the_task_stack_even_if_it_is_an_nmi() {
    let mut machine = Machine::new();
    let handler = machine.code(call(OrcRegister::Sp, 0x10));
    let entry = machine.code(regs(0));
    let user = TASK.end - EXTRA - pt_regs::SIZE;
    let (ip, cs, sp) = (0x40_0000, USER_CS, 0x7ffd_0000_0000);
    machine.put_regs(user, &Saved { ip, cs, sp });
    machine.put(user - 8, entry);
    let walk = machine.walk_from(handler, user - 0x10);
    assert_eq!(walk.ips(), [handler, entry]);
    assert_eq!(walk.kinds(), [StackKind::Task; 2]);
    assert_eq!(walk.stop, StopReason::UserMode);
}
