//! Walks over stacks of 32-bit words: the same code, with frame pointers as the entry code of
//! 32-bit kernels leaves them (`arch/x86/entry/entry_32.S`, 6.1), and without.

use std::collections::BTreeMap;

use walker_common::{StackKind, wire::Registers};

use crate::{
    classify::{KnownStack, StackSet, WordSize, x86_32},
    unwind::{
        Frame, FrameSource, StopReason,
        kernel::{KernelTables, TextMap, TextRange, walk},
        memory::{SampleMemory, Segment},
        start::{Returned, WalkStart},
    },
};

const TEXT: u64 = 0xc100_0000;
const THREAD_SIZE: u64 = 0x2000;
const TASK: u64 = 0xc180_0000;
const HARDIRQ: u64 = 0xc200_0000;
const SOFTIRQ: u64 = 0xc200_8000;
const ENTRY: u64 = 0xff80_2000;
const DOUBLEFAULT: u64 = 0xff80_8000;

/// Bytes of `struct pt_regs`.
const REGS: u64 = 68;
/// `TOP_OF_KERNEL_STACK_PADDING` with virtual-8086 mode.
const PADDING: u64 = 16;
const USER_REGS: u64 = TASK + THREAD_SIZE - PADDING - REGS;
const KERNEL_CS: u64 = 0x60;
const USER_CS: u64 = 0x73;
/// What user mode had in its frame pointer.
const USER_BP: u64 = 0x0804_9000;

/// The code of the tests.
const fn code(number: u64) -> u64 {
    TEXT + 0x100 * number
}

/// Words at addresses; the rest of the stacks is 0.
#[derive(Default)]
struct Machine {
    words: BTreeMap<u64, u64>,
    tss_sp: u64,
}

impl Machine {
    /// A frame: the caller's frame pointer, and the return address.
    fn frame(&mut self, bp: u64, next_bp: u64, ip: u64) {
        self.words.insert(bp, next_bp);
        self.words.insert(bp + 4, ip);
    }

    /// A whole `struct pt_regs`.
    fn regs(&mut self, at: u64, ip: u64, cs: u64, sp: u64, bp: u64) {
        let ss = if cs & 3 == 3 { 0x7b } else { 0x68 };
        for (offset, value) in [
            (20, bp),
            (48, ip),
            (52, cs),
            (56, 0x246),
            (60, sp),
            (64, ss),
        ] {
            self.words.insert(at + offset, value);
        }
    }

    /// A system call up to a function whose frame pointer is returned: the entry code calls with
    /// its registers right above the return address, and with the frame pointer of user mode.
    fn system_call(&mut self) -> u64 {
        self.regs(USER_REGS, 0xb7f0_1559, USER_CS, 0xbf80_0000, USER_BP);
        self.frame(USER_REGS - 8, USER_BP, code(1));
        self.frame(USER_REGS - 0x80, USER_REGS - 8, code(2));
        USER_REGS - 0x80
    }

    fn walk(&self, start: WalkStart<'_>) -> (Vec<Frame>, StopReason) {
        let pointers = x86_32::CpuPointers {
            entry_stack: Some(ENTRY),
            hardirq_stack_ptr: Some(HARDIRQ),
            softirq_stack_ptr: Some(SOFTIRQ),
            doublefault: Some(x86_32::DoubleFault {
                begin: DOUBLEFAULT,
                tss_sp: self.tss_sp,
            }),
        };
        let layout = x86_32::Layout {
            thread_size: THREAD_SIZE,
            entry_stack_size: 0x1000,
            doublefault_stack_size: 0x1000 - 104,
        };
        let percpu = x86_32::percpu_stacks(&layout, &pointers).unwrap();
        let stacks = StackSet {
            task: Some(KnownStack::task(TASK, THREAD_SIZE).unwrap()),
            percpu: &percpu,
            word: WordSize::Four,
        };
        let word = |at| self.words.get(&at).copied().unwrap_or(0) as u32;
        let copies: Vec<(u64, Vec<u8>)> = stacks
            .task
            .iter()
            .chain(&percpu)
            .map(|stack| {
                let words = (stack.begin..stack.end).step_by(4).map(word);
                (stack.begin, words.flat_map(u32::to_le_bytes).collect())
            })
            .collect();
        let mut memory = SampleMemory::new();
        for (address, bytes) in &copies {
            memory.push(Segment {
                address: *address,
                bytes,
            });
        }
        let tables = KernelTables {
            text: TextMap {
                ranges: vec![TextRange {
                    begin: TEXT,
                    end: TEXT + 0x10_0000,
                }],
                dynamic: None,
            },
            orc: Vec::new(),
        };
        let mut frames = Vec::new();
        let stop = walk(&tables, start, &stacks, &memory, &mut frames);
        (frames, stop)
    }

    fn interrupted(&self, ip: u64, sp: u64, bp: u64) -> (Vec<Frame>, StopReason) {
        let registers = Registers {
            ip,
            sp,
            bp,
            cs: KERNEL_CS,
            ..Registers::default()
        };
        self.walk(WalkStart::Interrupted(&registers))
    }
}

/// The address as `encode_frame_pointer()` of 32-bit kernels makes it.
const fn encoded(regs: u64) -> u64 {
    regs & 0x7fff_ffff
}

/// Address, stack, and whether it is certain.
fn shown(frames: &[Frame]) -> Vec<(u64, StackKind, bool)> {
    frames
        .iter()
        .map(|frame| (frame.ip, frame.stack, frame.reliable))
        .collect()
}

/// A hard interrupt of a softirq, which a hard interrupt of a system call had raised. The
/// softirq's stack is entered by a call, the hard interrupt's registers are on the softirq stack,
/// and its handler's stack is entered by a call again.
fn hardirq_on_softirq_on_task() -> (Machine, u64, u64) {
    let mut machine = Machine::default();
    let task_bp = machine.system_call();
    let softirq_bp = SOFTIRQ + THREAD_SIZE - 0x40;
    machine.frame(softirq_bp, task_bp, code(3));
    machine.words.insert(SOFTIRQ, task_bp - 0x20);
    let regs = softirq_bp - 0x100;
    machine.regs(regs, code(4), KERNEL_CS, regs + REGS, softirq_bp);
    machine.frame(regs - 0x10, encoded(regs), code(5));
    let hardirq_bp = HARDIRQ + THREAD_SIZE - 8;
    machine.frame(hardirq_bp, regs - 0x10, code(6));
    machine.words.insert(HARDIRQ, regs - 0x20);
    (machine, hardirq_bp - 0x20, hardirq_bp)
}

#[test]
fn hardirq_to_softirq_to_task_to_user() {
    let (machine, sp, bp) = hardirq_on_softirq_on_task();
    let (frames, stop) = machine.interrupted(code(7), sp, bp);
    assert_eq!(stop, StopReason::UserMode);
    let (irq, softirq, task) = (StackKind::Irq, StackKind::SoftIrq, StackKind::Task);
    assert_eq!(
        shown(&frames),
        [
            (code(7), irq, true),
            (code(6), irq, true),
            (code(5), softirq, true),
            (code(4), softirq, true),
            (code(3), softirq, true),
            (code(2), task, true),
            (code(1), task, true),
        ]
    );
    assert_eq!(frames[3].source, FrameSource::FramePointerRegs);
    assert_eq!(frames[3].lookup_address(), code(4));
}

#[test]
fn without_frame_pointers_the_same_stacks_are_scanned_and_every_frame_is_in_doubt() {
    let (machine, sp, _) = hardirq_on_softirq_on_task();
    let (frames, stop) = machine.interrupted(code(7), sp, 0x1234_5678);
    assert!(!stop.is_complete());
    let (irq, softirq, task) = (StackKind::Irq, StackKind::SoftIrq, StackKind::Task);
    assert_eq!(
        shown(&frames),
        [
            (code(7), irq, true),
            (code(6), irq, false),
            (code(5), softirq, false),
            (code(4), softirq, false),
            (code(3), softirq, false),
            (code(2), task, false),
            (code(1), task, false),
        ]
    );
}

#[test]
fn double_fault_goes_on_where_the_tss_says() {
    let mut machine = Machine::default();
    let task_bp = machine.system_call();
    let bp = DOUBLEFAULT + 0xf00;
    machine.frame(bp, task_bp, code(8));
    let (frames, stop) = machine.interrupted(code(9), bp - 0x10, bp);
    let (df, task) = (StackKind::DoubleFault, StackKind::Task);
    let expected = [
        (code(9), df, true),
        (code(8), df, true),
        (code(2), task, true),
        (code(1), task, true),
    ];
    assert_eq!(
        (shown(&frames), stop),
        (expected.to_vec(), StopReason::UserMode)
    );

    // Where the frame pointer is no use, the scan follows the stack pointer in the TSS.
    machine.tss_sp = task_bp;
    let (frames, _) = machine.interrupted(code(9), bp - 0x10, 0);
    assert_eq!(
        shown(&frames),
        expected.map(|(ip, kind, _)| (ip, kind, ip == code(9)))
    );
}

#[test]
fn an_interrupt_of_user_mode_ends_at_its_registers() {
    let mut machine = Machine::default();
    machine.regs(USER_REGS, 0xb7f0_1559, USER_CS, 0xbf80_0000, USER_BP);
    machine.frame(USER_REGS - 0x20, encoded(USER_REGS), code(1));
    let (frames, stop) = machine.interrupted(code(2), USER_REGS - 0x40, USER_REGS - 0x20);
    assert_eq!(frames.len(), 2);
    assert_eq!(stop, StopReason::UserMode);

    // Virtual-8086 mode has any number for a code segment.
    machine.words.insert(USER_REGS + 52, 0xf000);
    machine.words.insert(USER_REGS + 56, 1 << 17);
    let (_, stop) = machine.interrupted(code(2), USER_REGS - 0x40, USER_REGS - 0x20);
    assert_eq!(stop, StopReason::UserMode);
}

#[test]
fn the_outermost_frame_of_a_system_call_is_told_by_where_it_is() {
    // With any frame pointer of user mode: not in use, like an address in the kernel, encoded.
    for user_bp in [0, 1, 0xbf80_1234, 0x4180_0100, TASK + 0x100, 0xffff_ffff] {
        let mut machine = Machine::default();
        let bp = machine.system_call();
        machine.frame(USER_REGS - 8, user_bp, code(1));
        let (frames, stop) = machine.interrupted(code(3), bp - 0x10, bp);
        assert_eq!(stop, StopReason::UserMode, "bp of user mode {user_bp:#x}");
        assert_eq!(frames.len(), 3);
    }
}

#[test]
fn a_function_that_aligns_the_stack_can_be_outermost() {
    let mut machine = Machine::default();
    machine.regs(USER_REGS, 0xb7f0_1559, USER_CS, 0xbf80_0000, USER_BP);
    machine.words.insert(USER_REGS - 4, code(1));
    machine.frame(USER_REGS - 20, USER_BP, code(1));
    let (frames, stop) = machine.interrupted(code(2), USER_REGS - 0x40, USER_REGS - 20);
    assert_eq!((frames.len(), stop), (2, StopReason::UserMode));
    // It is only if it is that address: a caller of that name is a frame of its own.
    machine.words.insert(USER_REGS - 4, code(9));
    let (_, stop) = machine.interrupted(code(2), USER_REGS - 0x40, USER_REGS - 20);
    assert!(!stop.is_complete());
}

#[test]
fn kernel_threads_end_at_registers_that_are_0() {
    let mut machine = Machine::default();
    // What copy_thread() makes of a kernel thread.
    machine.frame(USER_REGS - 0x20, encoded(USER_REGS), code(1));
    let (frames, stop) = machine.interrupted(code(2), USER_REGS - 0x40, USER_REGS - 0x20);
    assert_eq!((frames.len(), stop), (2, StopReason::EndOfStack));
    // The first idle task is called with room for them, and whatever the boot code had in bp.
    machine.frame(USER_REGS - 8, 0x0100_0000, code(1));
    let (frames, stop) = machine.interrupted(code(2), USER_REGS - 0x40, USER_REGS - 8);
    assert_eq!((frames.len(), stop), (2, StopReason::EndOfStack));
}

#[test]
fn a_task_that_was_switched_away_from_begins_with_a_return_address() {
    let mut machine = Machine::default();
    let bp = machine.system_call();
    let registers = Returned {
        ip: code(3),
        sp: bp - 0x10,
        bp,
    };
    let (frames, stop) = machine.walk(WalkStart::SwitchedOut(registers));
    assert_eq!((frames.len(), stop), (3, StopReason::UserMode));
    assert_eq!(frames[0].source, FrameSource::Switch);
    assert_eq!(frames[0].lookup_address(), code(3) - 1);
}

#[test]
fn the_entry_stack_is_the_end_whatever_user_mode_had_in_its_frame_pointer() {
    let mut machine = Machine::default();
    let task_bp = machine.system_call();
    // Like that of a frame on the task's stack, or nowhere.
    for bp in [task_bp, encoded(USER_REGS), 0xffff_fff7, 0] {
        let (frames, stop) = machine.interrupted(code(3), ENTRY + 0xf00, bp);
        assert_eq!(
            shown(&frames),
            [(code(3), StackKind::Entry, true)],
            "{bp:#x}"
        );
        assert_eq!(stop, StopReason::UserMode);
    }
    // What the entry code itself called there, with its registers below the stack's end.
    let regs = ENTRY + 0x1000 - REGS;
    machine.regs(regs, 0xb7f0_1559, USER_CS, 0xbf80_0000, USER_BP);
    machine.frame(regs - 0x20, encoded(regs), code(4));
    let (frames, stop) = machine.interrupted(code(5), regs - 0x40, regs - 0x20);
    assert_eq!((frames.len(), stop), (2, StopReason::UserMode));
}
