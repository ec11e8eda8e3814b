//! Whole walks of records, from an NMI over the IRQ and the task stack into user space: random
//! calls come out as they were made, and what is corrupted on one side does not change the other.

use proptest::{collection::vec, prelude::*, sample::Index};
use walker_common::{
    StackKind,
    wire::{Registers, SampleHeader, SegmentHeader, SegmentStatus, WIRE_VERSION},
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{machine::*, properties::number};
use crate::{
    capture::record::Sample,
    unwind::{
        Frame, StopReason,
        kernel::{KernelTables, walk},
        orc::OrcRegister,
        start::WalkStart,
        user::{
            call::CALL_BYTES,
            registers::UserRegisters,
            sections::{CfiSections, Section},
            stack::UserStack,
            tables::CfiTables,
            tests::sections::{AT_ENTRY, Builder, op},
            walk::{CodeAt, CodeKind, ModuleId, UserCode, UserWalk, UserWalker},
        },
    },
};

/// User functions, this many bytes each.
const USER_CODE: u64 = 0x10_0000;
const FUNCTION: u64 = 0x100;
const USER_SP: u64 = 0x7ffd_0000_1000;
const RED_ZONE: u64 = 128;
/// Where the registers are that user space entered the kernel with.
const ENTERED: u64 = TASK.end - pt_regs::SIZE;

/// The calls on each stack, leaf first, by the words that the frames take.
#[derive(Debug, Clone)]
struct Calls {
    nmi: Option<Vec<u8>>,
    irq: Option<Vec<u8>>,
    task: Vec<u8>,
    user: Vec<u8>,
}

fn calls() -> impl Strategy<Value = Calls> {
    let frames = || vec(1u8..15, 0..8);
    (
        prop::option::of(frames()),
        prop::option::of(frames()),
        frames(),
        vec(1u8..15, 1..20),
    )
        .prop_map(|(nmi, irq, task, user)| Calls {
            nmi,
            irq,
            task,
            user,
        })
}

/// A sample before it is a record, and what its walk has to find.
struct Event {
    tables: KernelTables,
    registers: Registers,
    stacks: Vec<(StackKind, u64, Vec<u8>)>,
    user_stack: Vec<u8>,
    cfi: Section,
    kernel_ips: Vec<u64>,
    user_ips: Vec<u64>,
}

/// Puts calls on a stack, of which the outermost returns to `to` and has the CFA `cfa`. Returns
/// the functions leaf first, with `to` at the end, and the leaf's sp.
fn call_down(machine: &mut Machine, frames: &[u8], cfa: u64, to: u64) -> (Vec<u64>, u64) {
    let (mut ips, mut sp) = (vec![to], cfa);
    for words in frames.iter().rev() {
        let bytes = 8 * i16::from(*words);
        machine.put(sp - 8, ips[ips.len() - 1]);
        ips.push(machine.code(call(OrcRegister::Sp, bytes)));
        sp -= bytes.cast_unsigned() as u64;
    }
    ips.reverse();
    (ips, sp)
}

/// User functions that call each other, their unwind information, and their stack.
fn user_calls(frames: &[u8]) -> (Section, Vec<u64>, Vec<u8>) {
    let mut builder = Builder::eh_frame();
    builder.cie("z", 16, &AT_ENTRY);
    let start = |at: usize| USER_CODE + FUNCTION * at as u64;
    let mut words = vec![0; RED_ZONE as usize / 8];
    for (at, size) in frames.iter().enumerate() {
        let outermost = at + 1 == frames.len();
        let program = match outermost {
            true => vec![op::UNDEFINED, 16],
            false => vec![op::DEF_CFA_OFFSET, 8 * size],
        };
        builder.fde(start(at), FUNCTION, &program);
        words.resize(words.len() + usize::from(*size) - 1, 0);
        words.push(start(at + 1) + FUNCTION / 2);
    }
    let ips = (0..frames.len()).map(|at| start(at) + FUNCTION / 2);
    let bytes = words.into_iter().flat_map(u64::to_le_bytes).collect();
    (builder.section(), ips.collect(), bytes)
}

impl Event {
    fn new(calls: &Calls) -> Self {
        let (cfi, user_ips, user_stack) = user_calls(&calls.user);
        let mut machine = Machine::new();

        let user = Saved {
            ip: user_ips[0],
            cs: USER_CS,
            sp: USER_SP,
        };
        machine.put_regs(ENTERED, &user);
        let entry = machine.code(regs(0));
        let (mut ips, mut sp) = call_down(&mut machine, &calls.task, ENTERED, entry);
        let mut pieces = vec![(StackKind::Task, sp, TASK.end)];

        if let Some(frames) = &calls.irq {
            let saved = sp - pt_regs::SIZE;
            let (ip, cs) = (ips[0], KERNEL_CS);
            machine.put_regs(saved, &Saved { ip, cs, sp });
            let entry = machine.code(regs(0));
            machine.put(saved - 8, entry);
            machine.put(IRQ.end - 8, saved - 8);
            pieces[0].1 = saved - 8;
            let switch = machine.code(call(OrcRegister::SpIndirect, 8));
            let (mut on_irq, irq_sp) = call_down(&mut machine, frames, IRQ.end - 8, switch);
            on_irq.push(entry);
            on_irq.extend(ips);
            (ips, sp) = (on_irq, irq_sp);
            pieces.push((StackKind::Irq, sp, IRQ.end));
        }
        if let Some(frames) = &calls.nmi {
            let end = stack_of(StackKind::Nmi).end;
            let saved = end - pt_regs::SIZE;
            let (ip, cs) = (ips[0], KERNEL_CS);
            machine.put_regs(saved, &Saved { ip, cs, sp });
            let entry = machine.code(regs(0));
            let (mut on_nmi, nmi_sp) = call_down(&mut machine, frames, saved, entry);
            on_nmi.extend(ips);
            (ips, sp) = (on_nmi, nmi_sp);
            pieces.push((StackKind::Nmi, sp, end));
        }
        let pieces = pieces.into_iter().rev();
        Self {
            tables: machine.tables(),
            registers: Registers {
                ip: ips[0],
                sp,
                cs: KERNEL_CS,
                ..Registers::default()
            },
            stacks: pieces
                .map(|(kind, begin, end)| (kind, begin, machine.bytes(begin, end)))
                .collect(),
            user_stack,
            cfi,
            kernel_ips: ips,
            user_ips,
        }
    }

    /// The record that the BPF program would have written.
    fn record(&self) -> Vec<u8> {
        let captured = |kind: StackKind, address, bytes: &[u8]| SegmentHeader {
            address,
            length: bytes.len() as u32,
            kind: kind as u8,
            status: SegmentStatus::Captured as u8,
            flags: 0,
        };
        let mut header = SampleHeader::new_zeroed();
        header.version = WIRE_VERSION;
        header.data_offset = size_of::<SampleHeader>() as u32;
        header.regs = self.registers;
        header.segment_count = self.stacks.len() as u32;
        let mut data = Vec::new();
        for (segment, (kind, address, bytes)) in header.segments.iter_mut().zip(&self.stacks) {
            *segment = captured(*kind, *address, bytes);
            data.extend(bytes);
        }
        header.user_regs.address = ENTERED;
        header.user_regs.status = SegmentStatus::Absent as u8;
        header.user_stack = captured(StackKind::User, USER_SP - RED_ZONE, &self.user_stack);
        data.extend(&self.user_stack);
        header.size = (size_of::<SampleHeader>() + data.len()) as u32;
        [header.as_bytes(), &data].concat()
    }

    /// The registers that user space entered the kernel with.
    fn saved_registers(&mut self) -> &mut [u8] {
        let (_, _, task) = self.stacks.last_mut().unwrap();
        let begin = task.len() - pt_regs::SIZE as usize;
        &mut task[begin..]
    }

    /// The words that were copied, of the kernel and of user space.
    fn words(&self) -> (usize, usize) {
        let kernel = self.stacks.iter().map(|(_, _, bytes)| bytes.len() / 8);
        (kernel.sum(), self.user_stack.len() / 8)
    }
}

struct UserText(CfiTables);

impl UserCode for UserText {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        let text = USER_CODE..USER_CODE + 32 * FUNCTION;
        text.contains(&address).then_some(CodeAt {
            module: ModuleId(1),
            address,
            cfi: Some(&self.0),
            kind: CodeKind::Object,
        })
    }

    /// Before every address is a call. More is not known.
    fn code_bytes(&mut self, _: u64, buffer: &mut [u8]) -> usize {
        const CALL: [u8; CALL_BYTES] = [0x66, 0x90, 0xe8, 0, 0, 0, 0];
        if buffer.len() != CALL_BYTES {
            return 0;
        }
        buffer.copy_from_slice(&CALL);
        CALL_BYTES
    }
}

/// The frames of both sides, and how each ended.
#[derive(Debug, PartialEq, Eq)]
struct Walked {
    kernel: Vec<Frame>,
    stop: StopReason,
    user: Vec<Frame>,
    user_walk: Option<UserWalk>,
}

impl Walked {
    /// Walks as `record` does: the kernel's stacks, then the user's behind them.
    fn of(event: &Event) -> Self {
        let record = event.record();
        let sample = Sample::parse(&record).unwrap();
        let mut kernel = Vec::new();
        let memory = sample.memory();
        let stop = walk(
            &event.tables,
            WalkStart::Interrupted(sample.registers()),
            &STACKS,
            &memory,
            &mut kernel,
        );
        let mut frames = kernel.clone();
        let user_walk = sample.user_registers().map(|registers| {
            let tables = CfiTables::new(CfiSections {
                eh_frame: Some(event.cfi.clone()),
                ..CfiSections::default()
            });
            let copy = sample.user_stack().unwrap();
            let stack = UserStack {
                segment: copy.segment,
                cut_by_budget: copy.cut_by_budget,
            };
            let registers = UserRegisters::from(&registers);
            let mut text = UserText(tables.unwrap());
            UserWalker::new().walk(&mut text, &registers, &stack, &mut frames)
        });
        let user = frames.split_off(kernel.len());
        assert_eq!(
            frames, kernel,
            "a user walk leaves the kernel's frames alone"
        );
        Self {
            kernel,
            stop,
            user,
            user_walk,
        }
    }
}

fn ips(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.ip).collect()
}

/// Replaces words.
fn corrupt(bytes: &mut [u8], changes: &[(Index, u64)]) {
    let (words, _) = bytes.as_chunks_mut::<8>();
    for (at, word) in changes {
        words[at.index(words.len())] = word.to_le_bytes();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_call_of_every_stack_is_found(calls in calls()) {
        let event = Event::new(&calls);
        let walked = Walked::of(&event);
        prop_assert_eq!(ips(&walked.kernel), event.kernel_ips);
        prop_assert_eq!(ips(&walked.user), event.user_ips);
        prop_assert_eq!(walked.stop, StopReason::UserMode);
        prop_assert_eq!(walked.user_walk.unwrap().stop, StopReason::OutermostFrame);

        // The stacks follow each other as they were entered.
        let order = [StackKind::Nmi, StackKind::Irq, StackKind::Task, StackKind::User];
        let frames = walked.kernel.iter().chain(&walked.user);
        let places: Vec<_> = frames
            .map(|frame| order.iter().position(|kind| *kind == frame.stack))
            .collect();
        prop_assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
        prop_assert!(walked.kernel.iter().chain(&walked.user).all(|frame| frame.reliable));
    }

    #[test]
    fn what_is_corrupt_ends_in_bounds_and_stays_on_its_side(
        calls in calls(),
        kernel in vec((any::<Index>(), any::<Index>(), number()), 0..4),
        registers in vec((0usize..21, number()), 0..3),
        user in vec((any::<Index>(), prop_oneof![
            USER_CODE..USER_CODE + 32 * FUNCTION,
            (0u64..0x200).prop_map(|word| USER_SP + 8 * word),
            any::<u64>(),
        ]), 0..4),
        cfi in vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let mut event = Event::new(&calls);
        let intact = Walked::of(&event);
        for (stack, at, word) in &kernel {
            let stack = stack.index(event.stacks.len());
            let bytes = &mut event.stacks[stack].2;
            corrupt(bytes, &[(*at, *word)]);
        }
        for (register, value) in &registers {
            let saved = event.saved_registers();
            saved[8 * register..][..8].copy_from_slice(&value.to_le_bytes());
        }
        corrupt(&mut event.user_stack, &user);
        let mut section = event.cfi.bytes.to_vec();
        for (at, byte) in &cfi {
            let at = at.index(section.len());
            section[at] = *byte;
        }
        event.cfi.bytes = section.into();

        let walked = Walked::of(&event);
        let (kernel_words, user_words) = event.words();
        let exact = walked.kernel.iter().filter(|frame| frame.reliable).count();
        prop_assert!(exact <= kernel_words + 1);
        prop_assert!(walked.kernel.len() - exact <= kernel_words);
        prop_assert!(walked.user.len() <= user_words + 8);
        prop_assert!(walked.kernel.iter().all(|frame| frame.stack != StackKind::User));
        prop_assert!(walked.user.iter().all(|frame| frame.stack == StackKind::User));
        prop_assert_eq!(walked.kernel[0].ip, event.kernel_ips[0]);

        if kernel.is_empty() && registers.is_empty() {
            prop_assert_eq!(&walked.kernel, &intact.kernel);
            prop_assert_eq!(walked.stop, intact.stop);
        }
        let same_entry = event.saved_registers() == Event::new(&calls).saved_registers();
        if same_entry && user.is_empty() && cfi.is_empty() {
            prop_assert_eq!(&walked.user, &intact.user);
            prop_assert_eq!(walked.user_walk, intact.user_walk);
        }
        prop_assert_eq!(Walked::of(&event), walked);
    }
}
