//! Walks over processes that are made up, where every stop and every doubt can be brought about.

use walker_common::StackKind;

use super::sections::{AT_ENTRY, Builder, op};
use crate::unwind::{
    Frame, FrameSource, StopReason,
    memory::Segment,
    user::{
        call::CALL_BYTES,
        registers::UserRegisters,
        stack::UserStack,
        tables::CfiTables,
        walk::{CodeAt, CodeKind, ModuleId, UserCode, UserWalk, UserWalker},
    },
};

const STACK: u64 = 0x7000_0000;
/// Code with unwind information, linked where it is.
const OBJECT: u64 = 0x1000;
const OBJECT_END: u64 = 0x3000;
/// Code without.
const BARE: u64 = 0x4000;
const BARE_END: u64 = 0x5000;
/// What a just-in-time compiler wrote.
const JIT: u64 = 0x6000;
const JIT_END: u64 = 0x7000;

/// An ordinary function: 16 bytes of frame.
const PLAIN: u64 = OBJECT + 0x100;
/// One with a frame pointer.
const FRAMED: u64 = OBJECT + 0x200;
/// One without a caller.
const START: u64 = OBJECT + 0x300;
/// Its return address is in rdx.
const POPPED: u64 = OBJECT + 0x400;
/// Returns from a signal handler: the words at rsp are ip and sp of what was interrupted. Nothing
/// covers the byte before.
const RESTORER: u64 = OBJECT + 0x580;
/// Has malformed unwind information.
const BROKEN: u64 = OBJECT + 0x600;

struct Machine {
    tables: CfiTables,
    /// Addresses that follow no call; nothing is known of the others.
    no_calls: Vec<u64>,
    /// Addresses that do follow one.
    calls: Vec<u64>,
}

impl Machine {
    fn new() -> Self {
        let mut builder = Builder::eh_frame();
        builder.cie("", 16, &AT_ENTRY);
        builder.fde(PLAIN, 0x100, &[op::DEF_CFA_OFFSET, 16]);
        builder.fde(FRAMED, 0x100, &[op::DEF_CFA, 6, 16, op::OFFSET | 6, 2]);
        builder.fde(START, 0x100, &[op::UNDEFINED, 16]);
        builder.fde(POPPED, 0x100, &[op::DEF_CFA_OFFSET, 0, op::REGISTER, 16, 1]);
        builder.fde(BROKEN, 0x100, &[0x3f]);
        builder.cie("zS", 16, &[]);
        builder.fde(
            RESTORER,
            0x10,
            &[
                op::DEF_CFA_EXPRESSION,
                3,
                0x77, // breg7 8, deref
                8,
                0x06,
                op::EXPRESSION,
                16,
                2,
                0x77, // breg7 0
                0,
            ],
        );
        Self {
            tables: builder.tables(),
            no_calls: Vec::new(),
            calls: Vec::new(),
        }
    }
}

impl UserCode for Machine {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        let (cfi, kind) = match address {
            OBJECT..OBJECT_END => (Some(&self.tables), CodeKind::Object),
            BARE..BARE_END => (None, CodeKind::Object),
            JIT..JIT_END => (None, CodeKind::Jit),
            _ => return None,
        };
        Some(CodeAt {
            module: ModuleId(1),
            address,
            cfi,
            kind,
        })
    }

    /// Knows only what is before the return addresses of the test.
    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        const NOP: u8 = 0x90;
        const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
        let end = address + buffer.len() as u64;
        let is_call = self.calls.contains(&end);
        if buffer.len() != CALL_BYTES || !is_call && !self.no_calls.contains(&end) {
            return 0;
        }
        buffer.fill(NOP);
        if is_call {
            buffer[CALL_BYTES - CALL.len()..].copy_from_slice(&CALL);
        }
        buffer.len()
    }
}

/// Words of a stack, by their offset in bytes from [`STACK`].
fn stack_bytes(words: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    for &(offset, word) in words {
        let offset = offset as usize;
        bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn walk_bytes(
    machine: &mut Machine,
    registers: &UserRegisters,
    bytes: &[u8],
    cut_by_budget: bool,
) -> (Vec<Frame>, UserWalk) {
    let stack = UserStack {
        segment: Segment {
            address: STACK,
            bytes,
        },
        cut_by_budget,
    };
    let mut frames = Vec::new();
    let walk = UserWalker::new().walk(machine, registers, &stack, &mut frames);
    (frames, walk)
}

/// Walks from this ip, with rsp `sp` bytes into the stack and rbp `rbp` bytes into it.
fn walk_from(
    machine: &mut Machine,
    ip: u64,
    sp: u64,
    rbp: Option<u64>,
    words: &[(u64, u64)],
) -> (Vec<Frame>, StopReason) {
    let mut registers = UserRegisters::new(ip, STACK + sp);
    registers.set(6, rbp.map(|rbp| STACK + rbp));
    let (frames, walk) = walk_bytes(machine, &registers, &stack_bytes(words), false);
    (frames, walk.stop)
}

fn ips(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.ip).collect()
}

#[test]
fn frames_say_where_they_are_and_how_they_were_found() {
    let words = [(0x28, FRAMED + 1), (0x40, 0), (0x48, START + 1)];
    let (frames, stop) = walk_from(&mut Machine::new(), PLAIN, 0x20, Some(0x40), &words);
    let frame = |ip, sp, source| Frame {
        ip,
        sp: STACK + sp,
        stack: StackKind::User,
        source,
        reliable: true,
    };
    assert_eq!(
        frames,
        [
            frame(PLAIN, 0x20, FrameSource::UserRegs),
            frame(FRAMED + 1, 0x30, FrameSource::Cfi),
            frame(START + 1, 0x50, FrameSource::Cfi),
        ]
    );
    assert_eq!(stop, StopReason::OutermostFrame);
}

#[test]
fn frames_are_appended() {
    let mut machine = Machine::new();
    let bytes = stack_bytes(&[]);
    let stack = UserStack {
        segment: Segment {
            address: STACK,
            bytes: &bytes,
        },
        cut_by_budget: false,
    };
    let mut frames = Vec::new();
    let mut walker = UserWalker::new();
    let registers = UserRegisters::new(START, STACK);
    walker.walk(&mut machine, &registers, &stack, &mut frames);
    walker.walk(&mut machine, &registers, &stack, &mut frames);
    assert_eq!(ips(&frames), [START, START]);
}

/// A function that ends with a call returns to what is another function's.
#[test]
fn a_return_address_is_looked_up_from_the_call_and_an_interrupted_one_is_not() {
    let mut machine = Machine::new();
    let (frames, stop) = walk_from(&mut machine, PLAIN, 0, None, &[(0x8, START), (0x18, 0)]);
    assert_eq!(ips(&frames), [PLAIN, START]);
    let missing = StopReason::MissingRegister { ip: START };
    assert_eq!(stop, missing, "by the rule of the function before");
    let (_, stop) = walk_from(&mut machine, START, 0, None, &[]);
    assert_eq!(stop, StopReason::OutermostFrame);
}

#[test]
fn return_addresses_that_cannot_be_are_the_end() {
    for (word, wanted) in [
        (0, StopReason::OutermostFrame),
        (0x9000, StopReason::Unmapped { ip: 0x9000 }),
        (1, StopReason::Unmapped { ip: 1 }),
        (1 << 56, StopReason::BadReturnAddress { ip: 1 << 56 }),
        (u64::MAX, StopReason::BadReturnAddress { ip: u64::MAX }),
    ] {
        let (frames, stop) = walk_from(&mut Machine::new(), PLAIN, 0, None, &[(8, word)]);
        assert_eq!(ips(&frames), [PLAIN], "{word:#x}");
        assert_eq!(stop, wanted);
    }
}

#[test]
fn a_stack_pointer_that_does_not_go_up_is_the_end() {
    let words = [(0x18, FRAMED + 1), (0x28, FRAMED + 1)];
    for rbp in [0x20, 0x10] {
        let (frames, stop) = walk_from(&mut Machine::new(), FRAMED, 0x80, Some(rbp), &words);
        assert_eq!(ips(&frames), [FRAMED]);
        let sp = STACK + rbp + 16;
        assert_eq!(stop, StopReason::NoProgress { sp });
    }
}

#[test]
fn only_an_interrupted_frame_may_have_nothing_on_the_stack() {
    let mut machine = Machine::new();
    let mut registers = UserRegisters::new(POPPED, STACK);
    registers.set(1, Some(PLAIN + 1));
    let bytes = stack_bytes(&[(8, POPPED + 1)]);
    let (frames, walk) = walk_bytes(&mut machine, &registers, &bytes, false);
    assert_eq!(ips(&frames), [POPPED, PLAIN + 1, POPPED + 1]);
    // In its second frame rdx is not known.
    let ip = POPPED + 1;
    assert_eq!(walk.stop, StopReason::MissingRegister { ip });
}

#[test]
fn an_end_of_the_copy_is_told_from_an_end_of_the_stack() {
    let mut machine = Machine::new();
    let registers = UserRegisters::new(PLAIN, STACK);
    let bytes = stack_bytes(&[(8, PLAIN + 1)]);
    for length in [0, 8, 15, 16, 24] {
        let bytes = &bytes[..length];
        let (frames, cut) = walk_bytes(&mut machine, &registers, bytes, true);
        let wanted = StopReason::Truncated {
            bytes: length as u32,
        };
        assert_eq!(cut.stop, wanted);
        let (same, whole) = walk_bytes(&mut machine, &registers, bytes, false);
        assert_eq!(frames, same);
        let address = STACK + if length < 16 { 8 } else { 24 };
        assert_eq!(whole.stop, StopReason::MissingBytes { address });
        let used = if length < 16 { 0 } else { 16 };
        assert_eq!((cut.bytes_used, whole.bytes_used), (used, used));
    }
}

#[test]
fn frame_pointers_are_followed_through_code_without_unwind_information() {
    for base in [BARE, JIT] {
        let words = [
            (0x20, STACK + 0x40),
            (0x28, base + 0x20),
            (0x40, 0),
            (0x48, base + 0x30),
        ];
        let (frames, stop) = walk_from(&mut Machine::new(), base, 0x20, Some(0x20), &words);
        assert_eq!(ips(&frames), [base, base + 0x20, base + 0x30]);
        assert_eq!(frames[1].source, FrameSource::FramePointer);
        assert_eq!(frames[1].sp, STACK + 0x30);
        // A zero in rbp is no proof: code without unwind information may use it for anything.
        assert_eq!(stop, StopReason::NoUnwindInfo { ip: base + 0x30 });
    }
}

#[test]
fn nothing_is_made_up_from_a_bad_frame_pointer() {
    let no_info = StopReason::NoUnwindInfo { ip: JIT };
    let bad = |ip| StopReason::BadReturnAddress { ip };
    let address = STACK + 0x408;
    for (rbp, next, return_address, wanted) in [
        (None, 0, 0, no_info),
        (Some(0x44), 0, JIT, no_info),               // not aligned
        (Some(0x10), 0, JIT, no_info),               // below rsp
        (Some(0x40), 0x80, 0x9000, bad(0x9000)),     // not in code
        (Some(0x40), 0x80, 0, bad(0)),               // not in the first frame
        (Some(0x40), 0x80, u64::MAX, bad(u64::MAX)), // no address
        (Some(0x40), 0x40, JIT + 8, no_info),        // a chain that does not go up
        (Some(0x400), 0, JIT, StopReason::MissingBytes { address }),
    ] {
        let mut machine = Machine::new();
        let words = [(0x40, STACK + next), (0x48, return_address)];
        let (frames, stop) = walk_from(&mut machine, JIT, 0x20, rbp, &words);
        assert_eq!(ips(&frames), [JIT], "{rbp:x?} {return_address:#x}");
        assert_eq!(stop, wanted, "{rbp:x?} {return_address:#x}");
    }
}

/// Only a JIT compiler changes return addresses to what no call is before.
#[test]
fn a_file_s_code_returns_to_what_follows_a_call() {
    for (base, frames_wanted) in [(BARE, 1), (JIT, 2)] {
        let mut machine = Machine::new();
        machine.no_calls.push(base + 2);
        let words = [(0x40, STACK + 0x80), (0x48, base + 2)];
        let (frames, stop) = walk_from(&mut machine, base, 0x20, Some(0x40), &words);
        assert_eq!(frames.len(), frames_wanted, "{stop:?}");
    }
}

/// Compiled code may use rbp for anything, and its unwind information says where it was.
#[test]
fn any_frame_pointer_will_do_for_a_caller_with_unwind_information() {
    let words = [(0x40, 7), (0x48, PLAIN + 1), (0x58, 0)];
    let (frames, stop) = walk_from(&mut Machine::new(), JIT, 0x20, Some(0x40), &words);
    assert_eq!(ips(&frames), [JIT, PLAIN + 1]);
    assert_eq!(stop, StopReason::OutermostFrame);
}

#[test]
fn a_call_through_a_bad_pointer_needs_proof() {
    let mut machine = Machine::new();
    let words = [(0, PLAIN + 1), (0x10, 0)];
    for ip in [0, 0x9000, u64::MAX] {
        let (frames, stop) = walk_from(&mut machine, ip, 0, None, &words);
        assert_eq!(ips(&frames), [ip], "nothing is known of the word");
        assert_eq!(stop, StopReason::Unmapped { ip });
    }
    machine.calls.push(PLAIN + 1);
    let (frames, stop) = walk_from(&mut machine, 0, 0, None, &words);
    assert_eq!(ips(&frames), [0, PLAIN + 1]);
    assert_eq!((frames[1].source, frames[1].sp), (FrameSource::Scan, STACK));
    assert!(!frames[1].reliable);
    assert_eq!(stop, StopReason::OutermostFrame);
}

#[test]
fn the_end_of_a_signal_handler_needs_no_byte_before_it() {
    let mut machine = Machine::new();
    // The handler's return address, then ip and sp of what it interrupted.
    let words = [(8, RESTORER), (0x10, START), (0x18, STACK + 0x80)];
    let (frames, stop) = walk_from(&mut machine, PLAIN, 0, None, &words);
    assert_eq!(ips(&frames), [PLAIN, RESTORER, START]);
    // Nobody called it, so the byte before it is another function's.
    assert_eq!(frames[1].source, FrameSource::SignalReturn);
    assert_eq!(frames[1].lookup_address(), RESTORER);
    assert_eq!(frames[2].source, FrameSource::CfiSignal);
    assert_eq!(frames[2].sp, STACK + 0x80);
    // START was interrupted at its first instruction, so that is where it is looked up.
    assert_eq!(stop, StopReason::OutermostFrame);
}

/// The layout alone tells a signal frame where the C library has no unwind information.
#[test]
fn a_signal_frame_is_known_by_its_layout() {
    let restorer = BARE + 0x10;
    let registers = 0x10 + 40;
    let words = [
        (8, restorer),
        (0x10, 7),                           // uc_flags
        (registers + 10 * 8, STACK + 0x300), // rbp
        (registers + 15 * 8, STACK + 0x200), // rsp
        (registers + 16 * 8, START),         // rip
        (registers + 17 * 8, 0x246),         // flags
        (registers + 18 * 8, 0x002b_0000_0000_0033),
    ];
    let mut machine = Machine::new();
    let (frames, stop) = walk_from(&mut machine, PLAIN, 0, None, &words);
    assert_eq!(ips(&frames), [PLAIN, restorer, START]);
    assert_eq!(frames[2].source, FrameSource::CfiSignal);
    assert_eq!(frames[2].sp, STACK + 0x200);
    assert_eq!(stop, StopReason::OutermostFrame);
    for (index, word) in [
        (1, 8),
        (5, 0x244),
        (5, 1 << 40),
        (6, 0x33),
        (6, 0x2b_0000_0000_0000),
    ] {
        let mut words = words;
        words[index].1 = word;
        let (frames, _) = walk_from(&mut machine, PLAIN, 0, None, &words);
        assert_eq!(ips(&frames), [PLAIN, restorer], "{index} {word:#x}");
    }
    machine.calls.push(restorer);
    let (frames, _) = walk_from(&mut machine, PLAIN, 0, None, &words);
    assert_eq!(ips(&frames), [PLAIN, restorer], "it was called");
}

#[test]
fn a_signal_frame_that_leads_back_is_the_end() {
    let mut machine = Machine::new();
    // It interrupted its own restorer, at the same place.
    let words = [(8, RESTORER), (0x10, RESTORER), (0x18, STACK + 0x10)];
    let (frames, stop) = walk_from(&mut machine, PLAIN, 0, None, &words);
    assert_eq!(ips(&frames), [PLAIN, RESTORER]);
    let sp = STACK + 0x10;
    assert_eq!(stop, StopReason::NoProgress { sp });
    // It interrupted what is further down, which leads up to it again.
    let words = [
        (8, RESTORER),
        (0x108, RESTORER),
        (0x110, PLAIN),
        (0x118, STACK),
        (0x10, PLAIN),
        (0x18, STACK + 0x100),
    ];
    let (frames, stop) = walk_from(&mut machine, PLAIN, 0x100, None, &words);
    assert_eq!(ips(&frames), [PLAIN, RESTORER, PLAIN, RESTORER]);
    let sp = STACK + 0x100;
    assert_eq!(stop, StopReason::NoProgress { sp });
}

#[test]
fn malformed_unwind_information_is_told_and_not_replaced_by_a_guess() {
    let words = [(0x20, 0), (0x28, PLAIN)];
    let (frames, stop) = walk_from(&mut Machine::new(), BROKEN, 0x20, Some(0x20), &words);
    assert_eq!(ips(&frames), [BROKEN]);
    assert_eq!(stop, StopReason::BadUnwindInfo { ip: BROKEN });
}
