//! Walks that begin in the function that reported the event.

use walker_common::StackKind;

use super::machine::*;
use crate::unwind::{
    FrameSource, StopReason,
    kernel::TextRange,
    memory::{SampleMemory, Segment},
    orc::OrcRegister,
    start::{Returned, WalkStart},
};

/// Where the context of the program is, on the IRQ stack.
const CONTEXT: u64 = IRQ.begin + 0x3800;
/// The slot of the return address to the caller, and the bytes of the caller's frame.
const SLOT: u64 = CONTEXT - 0x30;
const FRAME: i16 = 0x60;

/// A program that was called by a function, and has called another.
struct Called {
    machine: Machine,
    caller: u64,
    outer: u64,
}

impl Called {
    fn new() -> Self {
        let mut machine = Machine::new();
        let caller = machine.code(call(OrcRegister::Sp, FRAME));
        let outer = machine.code(END);
        let mut called = Self {
            machine,
            caller,
            outer,
        };
        called.program(SLOT, caller);
        let cfa = SLOT + 8 + FRAME as u64;
        called.machine.put(cfa - 8, outer);
        called
    }

    /// The frames of a program below `slot`, whose return address is this.
    fn program(&mut self, slot: u64, caller: u64) {
        self.machine.put(slot, caller);
        self.machine.put(slot - 8, 0x1234);
        // The program's function, which keeps the program's frame pointer.
        self.machine.put(slot - 0x40, DYNAMIC + 0x500);
        self.machine.put(slot - 0x48, slot - 8);
    }

    fn with_memory<T>(&self, look: impl FnOnce(&SampleMemory<'_>) -> T) -> T {
        let bytes = self.machine.bytes(IRQ.begin, IRQ.end);
        let mut memory = SampleMemory::new();
        memory.push(Segment {
            address: IRQ.begin,
            bytes: &bytes,
        });
        look(&memory)
    }

    fn found(&self) -> Option<Returned> {
        let tables = self.machine.tables();
        self.with_memory(|memory| Returned::to_caller(&tables, memory, CONTEXT))
    }
}

#[test]
fn the_caller_of_a_program_is_found_and_the_walk_goes_on_from_it() {
    let called = Called::new();
    let found = called.found().unwrap();
    assert_eq!(
        (found.ip, found.sp, found.bp),
        (called.caller, SLOT + 8, 0x1234)
    );
    let walk = called.machine.walk_start(WalkStart::Returned(found));
    assert_eq!(walk.ips(), [called.caller, called.outer]);
    assert_eq!(walk.sources(), [FrameSource::Caller, FrameSource::Orc]);
    assert_eq!(walk.kinds(), [StackKind::Irq; 2]);
    assert_eq!(walk.stop, StopReason::EndOfStack);
    // It is a return address, and looked up as that.
    assert_eq!(walk.frames[0].lookup_address(), called.caller - 1);
}

#[test]
fn old_return_addresses_above_it_are_passed_over() {
    let mut called = Called::new();
    let stale = called.machine.code(call(OrcRegister::Sp, FRAME));
    // In the caller's frame, with a function's frame that would hold the context.
    called.machine.put(CONTEXT - 0x10, stale);
    called
        .machine
        .put(CONTEXT - 0x10 + 8 + FRAME as u64 - 8, called.outer);
    assert_eq!(called.found().unwrap().ip, called.caller);
}

#[test]
fn what_does_not_hold_the_context_or_calls_no_program_is_not_the_caller() {
    // A frame that ends below the context.
    let mut short = Called::new();
    let caller = short.machine.code(call(OrcRegister::Sp, 8));
    short.machine.put(SLOT, caller);
    assert_eq!(short.found(), None);
    // No function of the program below.
    let mut alone = Called::new();
    alone.machine.put(SLOT - 0x48, 0);
    assert_eq!(alone.found(), None);
    // One that returns into the kernel's text is no program.
    let mut kernel = Called::new();
    kernel.machine.put(SLOT - 0x40, kernel.outer);
    assert_eq!(kernel.found(), None);
    // An address that no call is before.
    let mut interrupted = Called::new();
    let caller = interrupted.machine.code(regs(0));
    interrupted.machine.put(SLOT, caller);
    assert_eq!(interrupted.found(), None);
}

#[test]
fn a_trampoline_leads_to_where_its_function_goes_on() {
    let mut called = Called::new();
    let entry = TextRange {
        begin: called.caller - 5,
        end: called.caller + 27,
    };
    let slot = CONTEXT + 0x28;
    called.machine.put(slot, called.caller);
    called.machine.put(slot - 8, 0x77);
    let found = called.with_memory(|memory| Returned::to_trampoline(memory, CONTEXT, entry));
    let expected = Returned {
        ip: called.caller,
        sp: slot + 8,
        bp: 0x77,
    };
    assert_eq!(found, Some(expected));
    let elsewhere = TextRange {
        begin: TEXT_END - 8,
        end: TEXT_END,
    };
    let none = called.with_memory(|memory| Returned::to_trampoline(memory, CONTEXT, elsewhere));
    assert_eq!(none, None);
}

#[test]
fn a_frame_address_leads_to_the_caller() {
    let mut called = Called::new();
    called.machine.put(CONTEXT, 0x55);
    called.machine.put(CONTEXT + 8, called.caller);
    let expected = Returned {
        ip: called.caller,
        sp: CONTEXT + 16,
        bp: 0x55,
    };
    let at = |frame| called.with_memory(|memory| Returned::to_frame(memory, frame));
    assert_eq!(at(CONTEXT), Some(expected));
    // What is not in the sample leads nowhere.
    for missing in [0, 8, u64::MAX, u64::MAX - 8, IRQ.end] {
        assert_eq!(at(missing), None);
    }
}
