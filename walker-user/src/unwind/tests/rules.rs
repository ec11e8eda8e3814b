//! One unwind rule each: every register, every kind, in every format that has it.

use walker_common::{StackKind, wire::Registers};

use super::machine::*;
use crate::unwind::{
    FrameSource, StopReason,
    orc::{OrcEntry, OrcFormat, OrcKind, OrcRegister},
};

/// In the middle of the task stack.
const SP: u64 = TASK.begin + 0x2000;

const FORMATS: [OrcFormat; 5] = [
    OrcFormat::V1OffsetFirst,
    OrcFormat::V1,
    OrcFormat::V2,
    OrcFormat::V3,
    OrcFormat::V4,
];

/// The registers a rule can name, and where `struct pt_regs` has them.
const BY_REGISTER: [(OrcRegister, u64); 5] = [
    (OrcRegister::R10, pt_regs::R10),
    (OrcRegister::R13, pt_regs::R13),
    (OrcRegister::Di, pt_regs::DI),
    (OrcRegister::Dx, pt_regs::DX),
    (OrcRegister::Ax, pt_regs::AX),
];

/// An event with this in each of those registers.
fn event(ip: u64, sp: u64, value: u64) -> Registers {
    Registers {
        ip,
        sp,
        cs: KERNEL_CS,
        r10: value,
        r13: value,
        di: value,
        dx: value,
        ax: value,
        ..Registers::default()
    }
}

#[test]
fn the_encoder_is_the_inverse_of_the_decoder() {
    for format in FORMATS {
        for entry in [call(OrcRegister::Sp, 24), regs(-8), partial(40), END] {
            let read = OrcEntry::decode(encode(&entry, format), format);
            assert_eq!((read.sp_reg, read.kind), (entry.sp_reg, entry.kind));
            assert_eq!(read.signal, entry.signal);
            assert_eq!(read.sp_offset, entry.sp_offset);
        }
    }
}

#[test]
fn sp_in_every_format() {
    for format in FORMATS {
        let mut machine = Machine::new();
        machine.format = format;
        let leaf = machine.code(call(OrcRegister::Sp, 0x20));
        let caller = machine.code(END);
        machine.put(SP + 0x18, caller);
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.ips(), [leaf, caller]);
        assert_eq!(walk.stop, StopReason::EndOfStack);
        assert_eq!(walk.frames[1].sp, SP + 0x20);
        assert_eq!(walk.sources(), [FrameSource::Ip, FrameSource::Orc]);
    }
}

#[test]
fn bp_and_the_saved_bp() {
    let mut machine = Machine::new();
    let framed = saving_bp(call(OrcRegister::Bp, 16), OrcRegister::PrevSp, -16);
    let leaf = machine.code(framed);
    let middle = machine.code(framed);
    let outer = machine.code(END);
    machine.put(SP + 0x100, SP + 0x200);
    machine.put(SP + 0x108, middle);
    machine.put(SP + 0x208, outer);
    let walk = machine.walk(&Registers {
        bp: SP + 0x100,
        ..event(leaf, SP, 0)
    });
    assert_eq!(walk.ips(), [leaf, middle, outer]);
    assert_eq!(walk.frames[2].sp, SP + 0x210);
}

#[test]
fn a_bp_that_is_saved_relative_to_bp() {
    let mut machine = Machine::new();
    let leaf = machine.code(saving_bp(call(OrcRegister::Sp, 8), OrcRegister::Bp, -8));
    let middle = machine.code(call(OrcRegister::Bp, 16));
    let outer = machine.code(END);
    machine.put(SP, middle);
    machine.put(SP + 0xf8, SP + 0x200);
    machine.put(SP + 0x208, outer);
    let walk = machine.walk(&Registers {
        bp: SP + 0x100,
        ..event(leaf, SP, 0)
    });
    assert_eq!(walk.ips(), [leaf, middle, outer]);
}

#[test]
fn a_bp_without_a_rule_is_kept_or_comes_from_registers() {
    // Kept over calls.
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::Sp, 8));
    let middle = machine.code(call(OrcRegister::Bp, 16));
    let outer = machine.code(END);
    machine.put(SP, middle);
    machine.put(SP + 0x108, outer);
    let walk = machine.walk(&Registers {
        bp: SP + 0x100,
        ..event(leaf, SP, 0)
    });
    assert_eq!(walk.ips(), [leaf, middle, outer]);

    // From the registers on the stack, where there are some.
    let mut machine = Machine::new();
    let leaf = machine.code(regs(0));
    let middle = machine.code(call(OrcRegister::Bp, 16));
    let outer = machine.code(END);
    machine.put_regs(
        SP,
        &Saved {
            ip: middle,
            cs: KERNEL_CS,
            sp: SP + pt_regs::SIZE,
        },
    );
    machine.put(SP + pt_regs::BP, SP + 0x300);
    machine.put(SP + 0x308, outer);
    let walk = machine.walk(&Registers {
        bp: SP + 0x100,
        ..event(leaf, SP, 0)
    });
    assert_eq!(walk.ips(), [leaf, middle, outer]);
}

#[test]
fn sp_indirect_adds_the_offset_after_the_read_since_5_12() {
    for format in FORMATS {
        let first = format == OrcFormat::V1OffsetFirst;
        let mut machine = Machine::new();
        machine.format = format;
        let register = if first {
            OrcRegister::SpIndirectOffsetFirst
        } else {
            OrcRegister::SpIndirect
        };
        let leaf = machine.code(call(register, 0x10));
        let caller = machine.code(END);
        machine.put(if first { SP + 0x10 } else { SP }, SP + 0x100);
        machine.put(if first { SP + 0xf8 } else { SP + 0x108 }, caller);
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.ips(), [leaf, caller], "{format:?}");
    }
}

#[test]
fn bp_indirect_adds_the_offset_before_the_read() {
    let mut machine = Machine::new();
    let leaf = machine.code(call(OrcRegister::BpIndirect, -8));
    let caller = machine.code(END);
    machine.put(SP + 0xf8, SP + 0x200);
    machine.put(SP + 0x1f8, caller);
    let walk = machine.walk(&Registers {
        bp: SP + 0x100,
        ..event(leaf, SP, 0)
    });
    assert_eq!(walk.ips(), [leaf, caller]);
    assert_eq!(walk.frames[1].sp, SP + 0x200);
}

#[test]
fn registers_of_the_event() {
    for (register, _) in BY_REGISTER {
        let mut machine = Machine::new();
        // The offset is not added to these, as in the kernel.
        let leaf = machine.code(call(register, 0x40));
        let caller = machine.code(END);
        machine.put(SP + 0xf8, caller);
        let walk = machine.walk(&event(leaf, SP, SP + 0x100));
        assert_eq!(walk.ips(), [leaf, caller], "{register:?}");
        assert_eq!(walk.frames[1].sp, SP + 0x100);
    }
}

#[test]
fn registers_on_the_stack() {
    for (register, at) in BY_REGISTER {
        let mut machine = Machine::new();
        let leaf = machine.code(regs(0));
        let interrupted = machine.code(call(register, 0));
        let caller = machine.code(END);
        machine.put_regs(
            SP,
            &Saved {
                ip: interrupted,
                cs: KERNEL_CS,
                sp: SP + pt_regs::SIZE,
            },
        );
        machine.put(SP + at, SP + 0x400);
        machine.put(SP + 0x3f8, caller);
        // Those of the event do not count any more.
        let walk = machine.walk(&event(leaf, SP, SP + 0x500));
        assert_eq!(walk.ips(), [leaf, interrupted, caller], "{register:?}");
        assert_eq!(
            walk.sources(),
            [FrameSource::Ip, FrameSource::OrcRegs, FrameSource::Orc]
        );
    }
}

#[test]
fn an_iret_frame_leaves_the_registers_before_it() {
    for (register, at) in BY_REGISTER {
        // Two iret frames in a row, above a whole set or right at the event.
        for whole_set in [false, true] {
            let mut machine = Machine::new();
            let leaf = machine.code(regs(0));
            let first = machine.code(partial(0));
            let second = machine.code(partial(0));
            let third = machine.code(call(register, 0));
            let caller = machine.code(END);
            let mut sp = SP;
            let saved = |ip, sp| Saved {
                ip,
                cs: KERNEL_CS,
                sp,
            };
            if whole_set {
                machine.put_regs(sp, &saved(first, sp + pt_regs::SIZE));
                machine.put(sp + at, SP + 0x400);
                sp += pt_regs::SIZE;
            }
            let iret = pt_regs::SIZE - pt_regs::IP;
            machine.put_regs(sp - pt_regs::IP, &saved(second, sp + iret));
            machine.put_regs(sp + iret - pt_regs::IP, &saved(third, sp + 2 * iret));
            machine.put(SP + 0x3f8, caller);
            let (start, expected) = if whole_set {
                // The event's registers are older than the whole set.
                (
                    event(leaf, SP, SP + 0x500),
                    vec![leaf, first, second, third, caller],
                )
            } else {
                (
                    event(first, SP, SP + 0x400),
                    vec![first, second, third, caller],
                )
            };
            let walk = machine.walk(&start);
            assert_eq!(walk.ips(), expected, "{register:?}");
            assert_eq!(walk.stop, StopReason::EndOfStack);
        }
    }
}

#[test]
fn registers_are_not_known_above_a_call() {
    for (register, _) in BY_REGISTER {
        let mut machine = Machine::new();
        let leaf = machine.code(call(OrcRegister::Sp, 8));
        let caller = machine.code(call(register, 0));
        machine.put(SP, caller);
        let walk = machine.walk(&event(leaf, SP, SP + 0x100));
        assert_eq!(walk.exact(), [leaf, caller]);
        assert_eq!(walk.stop, StopReason::MissingRegister { ip: caller });
    }
}

#[test]
fn registers_whose_bytes_are_missing_are_not_known() {
    let mut machine = Machine::new();
    let leaf = machine.code(regs(0));
    let interrupted = machine.code(call(OrcRegister::R10, 0));
    let saved = Saved {
        ip: interrupted,
        cs: KERNEL_CS,
        sp: SP + pt_regs::SIZE,
    };
    machine.put_regs(SP, &saved);
    machine.captured = vec![(SP + pt_regs::AX, TASK.end)];
    let walk = machine.walk_from(leaf, SP);
    let ip = interrupted;
    assert_eq!(walk.stop, StopReason::MissingRegister { ip });
}

#[test]
fn user_registers_are_the_end() {
    for rule in [regs(0x20), partial(0x20)] {
        let mut machine = Machine::new();
        let leaf = machine.code(rule);
        let whole = if rule.kind == OrcKind::Regs {
            SP + 0x20
        } else {
            SP + 0x20 - pt_regs::IP
        };
        let saved = Saved {
            ip: 0x40_0000,
            cs: USER_CS,
            sp: 0x7ffd_0000_0000,
        };
        machine.put_regs(whole, &saved);
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.ips(), [leaf]);
        assert_eq!(walk.stop, StopReason::UserMode);
    }
}

#[test]
fn an_event_in_user_mode_has_no_frames() {
    let walk = Machine::new().walk(&Registers {
        cs: USER_CS,
        ..event(0x40_0000, 0x7ffd_0000_0000, 0)
    });
    assert!(walk.frames.is_empty());
    assert_eq!(walk.stop, StopReason::UserSample);
}

#[test]
fn the_rules_before_and_after_an_address() {
    // A return address belongs to the instruction before it, an interrupted one to itself.
    let short = call(OrcRegister::Sp, 8);
    let long = call(OrcRegister::Sp, 16);
    let mut machine = Machine::new();
    let boundary = machine.code_that_changes(short, long);
    let leaf = machine.code(call(OrcRegister::Sp, 8));
    let (wrong, right) = (machine.code(END), machine.code(END));
    machine.put(SP, boundary);
    machine.put(SP + 8, right);
    machine.put(SP + 16, wrong);
    assert_eq!(machine.walk_from(leaf, SP).ips(), [leaf, boundary, right]);

    machine.put(SP, wrong);
    machine.put(SP + 8, right);
    assert_eq!(machine.walk_from(boundary, SP).ips(), [boundary, right]);

    // Saved registers: interrupted if the entry says so.
    for signal in [true, false] {
        let mut machine = Machine::new();
        let boundary = machine.code_that_changes(short, long);
        let leaf = machine.code(OrcEntry { signal, ..regs(0) });
        let (wrong, right) = (machine.code(END), machine.code(END));
        let sp = SP + pt_regs::SIZE;
        let saved = Saved {
            ip: boundary,
            cs: KERNEL_CS,
            sp,
        };
        machine.put_regs(SP, &saved);
        machine.put(sp, wrong);
        machine.put(sp + 8, right);
        let walk = machine.walk_from(leaf, SP);
        assert_eq!(walk.ips().len(), 3);
        assert_eq!(walk.ips()[2] == right, signal);
        assert_eq!(walk.ips()[2] == wrong, !signal);
    }
}

#[test]
fn a_call_through_a_null_pointer_returns_to_the_word_at_sp() {
    let mut machine = Machine::new();
    let caller = machine.code(END);
    machine.put(SP, caller);
    let walk = machine.walk_from(0, SP);
    assert_eq!(walk.ips(), [0, caller]);
    assert_eq!(walk.sources(), [FrameSource::Ip, FrameSource::Orc]);
    assert_eq!(walk.stop, StopReason::EndOfStack);
}

#[test]
fn code_without_a_table_is_stepped_over_by_its_frame_pointer() {
    let mut machine = Machine::new();
    let program = DYNAMIC + 0x40;
    let leaf = machine.code(call(OrcRegister::Sp, 8));
    let outer = machine.code(END);
    machine.put(SP, program);
    machine.put(SP + 0x100, 0);
    machine.put(SP + 0x108, outer);
    let walk = machine.walk(&Registers {
        bp: SP + 0x100,
        ..event(leaf, SP, 0)
    });
    assert_eq!(walk.ips(), [leaf, program, outer]);
    assert_eq!(
        walk.sources(),
        [FrameSource::Ip, FrameSource::Orc, FrameSource::FramePointer]
    );
    assert!(walk.frames.iter().all(|frame| frame.reliable));
    assert_eq!(walk.kinds(), [StackKind::Task; 3]);
}
