//! Retpoline thunks: the two states that are left, and those that only look like them.

use walker_common::{StackKind, wire::Registers};

use super::machine::*;
use crate::unwind::{
    FrameSource, StopReason,
    orc::{OrcKind, OrcRegister},
};

const SP: u64 = TASK.begin + 0x2000;

struct Thunk {
    machine: Machine,
    thunk: u64,
    caller: u64,
    outer: u64,
    target: u64,
}

fn thunk() -> Thunk {
    let mut machine = Machine::new();
    let thunk = machine.code(marker(OrcKind::Undefined));
    // After the call of the thunk its caller goes on here.
    let caller = machine.code(call(OrcRegister::Sp, 8));
    let outer = machine.code(END);
    let target = machine.code(call(OrcRegister::Sp, 8));
    Thunk {
        machine,
        thunk,
        caller,
        outer,
        target,
    }
}

impl Thunk {
    fn event(&self) -> Registers {
        Registers {
            ip: self.thunk,
            sp: SP,
            cs: KERNEL_CS,
            ..Registers::default()
        }
    }

    fn words(&mut self, words: &[u64]) {
        for (at, word) in (SP..).step_by(8).zip(words) {
            self.machine.put(at, *word);
        }
    }
}

#[test]
fn with_the_return_address_of_the_inner_call() {
    let mut thunk = thunk();
    thunk.words(&[thunk.thunk + 8, thunk.caller, thunk.outer]);
    let walk = thunk.machine.walk(&thunk.event());
    assert_eq!(walk.ips(), [thunk.thunk, thunk.caller, thunk.outer]);
    let sources = [FrameSource::Ip, FrameSource::Thunk, FrameSource::Orc];
    assert_eq!(walk.sources(), sources);
    assert_eq!(walk.stop, StopReason::EndOfStack);
    assert_eq!(walk.frames[1].sp, SP + 16);
    assert_eq!(walk.kinds(), [StackKind::Task; 3]);
    assert!(walk.frames[1].reliable);
}

#[test]
fn with_the_register_in_its_place() {
    let mut thunk = thunk();
    thunk.words(&[thunk.target, thunk.caller, thunk.outer]);
    let set: [fn(&mut Registers) -> &mut u64; 15] = [
        |regs| &mut regs.ax,
        |regs| &mut regs.bx,
        |regs| &mut regs.cx,
        |regs| &mut regs.dx,
        |regs| &mut regs.si,
        |regs| &mut regs.di,
        |regs| &mut regs.bp,
        |regs| &mut regs.r8,
        |regs| &mut regs.r9,
        |regs| &mut regs.r10,
        |regs| &mut regs.r11,
        |regs| &mut regs.r12,
        |regs| &mut regs.r13,
        |regs| &mut regs.r14,
        |regs| &mut regs.r15,
    ];
    for register in set {
        let mut event = thunk.event();
        *register(&mut event) = thunk.target;
        let walk = thunk.machine.walk(&event);
        assert_eq!(walk.ips(), [thunk.thunk, thunk.caller, thunk.outer]);
        assert_eq!(walk.stop, StopReason::EndOfStack);
    }
}

#[test]
fn the_walk_goes_on_from_the_caller() {
    let mut thunk = thunk();
    let outer = thunk.outer;
    // The frame pointer is the caller's own: a thunk does not touch it.
    let caller = thunk.machine.code(call(OrcRegister::Bp, 16));
    thunk.words(&[thunk.thunk, caller, 0, outer]);
    let event = Registers {
        bp: SP + 16,
        ..thunk.event()
    };
    let walk = thunk.machine.walk(&event);
    assert_eq!(walk.ips(), [thunk.thunk, caller, outer]);
    assert_eq!(walk.stop, StopReason::EndOfStack);
}

#[test]
fn what_only_looks_like_a_thunk_is_an_end() {
    let base = thunk();
    // The word at sp is in other code and in no register; the next one is no address behind a
    // call; there is no next one.
    let looks = [
        vec![base.target, base.caller],
        vec![base.caller, base.caller],
        vec![base.thunk, 0],
        vec![base.thunk, base.thunk],
        vec![base.thunk, base.outer],
        vec![base.thunk, DYNAMIC + 0x10],
        vec![0, 0],
    ];
    for words in looks {
        let mut thunk = thunk();
        thunk.words(&words);
        let walk = thunk.machine.walk(&thunk.event());
        assert_eq!(walk.exact(), [thunk.thunk], "{words:x?}");
        let ip = thunk.thunk;
        assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip });
    }
    let mut thunk = thunk();
    thunk.words(&[thunk.thunk, thunk.caller]);
    thunk.machine.captured = vec![(SP, SP + 8)];
    let walk = thunk.machine.walk(&thunk.event());
    let ip = thunk.thunk;
    assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip });
}

#[test]
fn only_a_thunk_that_the_event_interrupted_is_left() {
    // The same state further up the stack is nothing that can be: a thunk makes no calls.
    let mut thunk = thunk();
    let leaf = thunk.machine.code(call(OrcRegister::Sp, 8));
    let words = [thunk.thunk, thunk.thunk, thunk.caller, thunk.outer];
    thunk.words(&words);
    let walk = thunk.machine.walk_from(leaf, SP);
    assert_eq!(walk.exact(), [leaf, thunk.thunk]);
    let ip = thunk.thunk;
    assert_eq!(walk.stop, StopReason::NoUnwindInfo { ip });
}
