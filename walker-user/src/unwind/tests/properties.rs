//! Random kernels, stacks and bytes: a walk always ends, within its bounds, and never comes back.

use proptest::{prelude::*, sample::select};
use walker_common::{StackKind, wire::Registers};

use super::machine::{
    self, DYNAMIC, DYNAMIC_END, IRQ, KERNEL_CS, TASK, TEXT, TEXT_END, USER_CS, encode,
};
use crate::{
    classify::{KnownStack, NextSp, StackSet, WordSize},
    unwind::{
        Frame, FrameSource, StopReason,
        kernel::{KernelTables, TextMap, TextRange, walk},
        memory::{MAX_SEGMENTS, SampleMemory, Segment},
        orc::{OrcEntry, OrcFormat, OrcKind, OrcRegister, OrcTable, RAW_ENTRY_BYTES},
        start::WalkStart,
    },
};

/// Numbers that mean something somewhere: addresses in a few small places, so that they meet. Made
/// of one number each, which is quick.
pub(super) fn number() -> impl Strategy<Value = u64> {
    any::<u32>().prop_map(number_from)
}

fn number_from(seed: u32) -> u64 {
    let value = u64::from(seed >> 8);
    let word = 8 * (value & 0x3f);
    match seed & 0x1f {
        0..=9 => TASK.begin + word,
        10..=13 => IRQ.begin + word,
        14..=15 => NMI_BEGIN + word,
        16..=25 => TEXT + (value & 0x1ff),
        26..=27 => DYNAMIC + (value & 0x1ff),
        28 => (TASK.begin + (value & 0x1ff)) | 1,
        29 => u64::MAX - (value & 0x3f),
        30 => value & 0x3f,
        _ => value.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

/// Where [`honest_stacks`] has the NMI stack.
const NMI_BEGIN: u64 = TASK.end - 0x100;

fn range() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        8 => (number(), 0u64..0x400).prop_map(|(begin, size)| (begin, begin.saturating_add(size))),
        // Inverted ones, and all there is.
        1 => (number(), number()),
        1 => Just((0, u64::MAX)),
    ]
}

fn stack() -> impl Strategy<Value = KnownStack> {
    let next_sp = prop_oneof![
        Just(NextSp::None),
        (0u64..0x40).prop_map(NextSp::BelowEnd),
        Just(NextSp::AtBegin),
        number().prop_map(NextSp::Value),
    ];
    let kind = select(StackKind::ALL.to_vec());
    (kind, range(), any::<bool>(), next_sp).prop_map(
        |(kind, (begin, end), may_be_empty, next_sp)| KnownStack {
            kind,
            begin,
            end,
            may_be_empty,
            next_sp,
        },
    )
}

/// Stacks as they are on a machine: each where it should be, none over another.
fn honest_stacks() -> impl Strategy<Value = Vec<KnownStack>> {
    let link = prop_oneof![Just(8u64), Just(16)];
    (link, any::<bool>()).prop_map(|(link, small)| {
        let size = if small { 0x100 } else { 0x400 };
        let at = |kind, begin, next_sp| KnownStack {
            kind,
            begin,
            end: begin + size,
            may_be_empty: false,
            next_sp,
        };
        vec![
            at(StackKind::Task, TASK.begin, NextSp::None),
            at(StackKind::Irq, IRQ.begin, NextSp::BelowEnd(link)),
            at(StackKind::Nmi, NMI_BEGIN, NextSp::BelowEnd(16)),
        ]
    })
}

/// Words, mostly return addresses in some of them, so that walks get far.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let seeds = prop::collection::vec(any::<u32>(), 0..0x60);
    (seeds, any::<bool>(), 0usize..8).prop_map(|(seeds, dense, cut)| {
        let word = |seed: u32| match seed >> 28 {
            0..12 if dense => TEXT + u64::from(seed & 0x1ff),
            _ => number_from(seed),
        };
        let words = seeds.into_iter().map(word);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(bytes.len().saturating_sub(cut));
        bytes
    })
}

/// Pieces of memory, anywhere or from the begin of each honest stack on.
fn segments() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let stacks = [TASK.begin, IRQ.begin, NMI_BEGIN];
    prop_oneof![
        1 => prop::collection::vec((number(), bytes()), 0..7),
        3 => prop::array::uniform3(bytes())
            .prop_map(move |bytes| stacks.into_iter().zip(bytes).collect()),
    ]
}

/// Rules as a kernel has them.
fn entry() -> impl Strategy<Value = OrcEntry> {
    let kind = prop_oneof![
        1 => Just(OrcKind::Undefined),
        1 => Just(OrcKind::EndOfStack),
        10 => Just(OrcKind::Call),
        4 => Just(OrcKind::Regs),
        2 => Just(OrcKind::RegsPartial),
    ];
    let sp_reg = prop_oneof![
        8 => Just(OrcRegister::Sp),
        4 => Just(OrcRegister::Bp),
        2 => Just(OrcRegister::SpIndirect),
        1 => Just(OrcRegister::BpIndirect),
        1 => select(vec![
            OrcRegister::R10,
            OrcRegister::R13,
            OrcRegister::Di,
            OrcRegister::Dx,
            OrcRegister::Ax,
            OrcRegister::Undefined,
        ]),
    ];
    let bp_reg = prop_oneof![
        6 => Just(OrcRegister::Undefined),
        3 => Just(OrcRegister::PrevSp),
        1 => Just(OrcRegister::Bp),
    ];
    (kind, sp_reg, bp_reg, 0i16..8, -4i16..4, any::<bool>()).prop_map(
        |(kind, sp_reg, bp_reg, sp, bp, signal)| OrcEntry {
            sp_offset: 8 * sp,
            bp_offset: 8 * bp,
            sp_reg,
            bp_reg,
            kind,
            signal,
        },
    )
}

/// The formats' own rules, or any bits at all.
fn raw_entry(format: OrcFormat) -> impl Strategy<Value = [u8; RAW_ENTRY_BYTES]> {
    prop_oneof![
        6 => entry().prop_map(move |mut entry| {
            if format == OrcFormat::V1OffsetFirst && entry.sp_reg == OrcRegister::SpIndirect {
                entry.sp_reg = OrcRegister::SpIndirectOffsetFirst;
            }
            encode(&entry, format)
        }),
        1 => any::<[u8; RAW_ENTRY_BYTES]>(),
    ]
}

fn table() -> impl Strategy<Value = OrcTable> {
    let format = select(vec![
        OrcFormat::V1OffsetFirst,
        OrcFormat::V1,
        OrcFormat::V2,
        OrcFormat::V3,
        OrcFormat::V4,
    ]);
    (format, select(vec![TEXT, TEXT, TEXT, DYNAMIC]))
        .prop_flat_map(|(format, base)| {
            let entries = prop::collection::vec((0u64..0x240, raw_entry(format)), 1..30);
            (Just(format), Just(base), entries)
        })
        .prop_map(|(format, base, mut entries)| {
            // So that the first function begins where the text does.
            entries[0].0 = 0;
            entries.sort_unstable_by_key(|(start, _)| *start);
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(start, raw)| (base + start, raw))
                .collect();
            machine::table(&entries, format)
        })
}

fn text() -> impl Strategy<Value = TextMap> {
    let range = || range().prop_map(|(begin, end)| TextRange { begin, end });
    let any = (
        prop::collection::vec(range(), 0..3),
        prop::option::of(range()),
    )
        .prop_map(|(ranges, dynamic)| TextMap { ranges, dynamic });
    let honest = TextMap {
        ranges: vec![TextRange {
            begin: TEXT,
            end: TEXT_END,
        }],
        dynamic: Some(TextRange {
            begin: DYNAMIC,
            end: DYNAMIC_END,
        }),
    };
    prop_oneof![4 => Just(honest), 1 => any]
}

fn registers() -> impl Strategy<Value = Registers> {
    let cs = prop_oneof![15 => Just(KERNEL_CS), 1 => Just(USER_CS)];
    let ip = prop_oneof![3 => (0u64..0x240).prop_map(|at| TEXT + at), 1 => number()];
    let sp = prop_oneof![
        3 => (select(vec![TASK.begin, IRQ.begin, NMI_BEGIN]), 0u64..0x10)
            .prop_map(|(stack, word)| stack + 8 * word),
        1 => number(),
    ];
    (ip, sp, prop::array::uniform10(number()), cs).prop_map(|(ip, sp, values, cs)| {
        let [bp, r10, r13, di, dx, ax, bx, cx, si, r11] = values;
        Registers {
            ip,
            sp,
            bp,
            r10,
            r13,
            di,
            dx,
            ax,
            bx,
            cx,
            si,
            r11,
            cs,
            ..Registers::default()
        }
    })
}

#[derive(Debug)]
struct Input {
    tables: KernelTables,
    event: Registers,
    task: Option<KnownStack>,
    percpu: Vec<KnownStack>,
    segments: Vec<(u64, Vec<u8>)>,
    word: WordSize,
    /// Whether the stacks are as on a machine.
    honest: bool,
}

fn input() -> impl Strategy<Value = Input> {
    let stacks = prop_oneof![
        3 => honest_stacks().prop_map(|mut stacks| (Some(stacks.remove(0)), stacks, true)),
        2 => (
            prop::option::of(stack()),
            prop::collection::vec(stack(), 0..9)
        )
            .prop_map(|(task, percpu)| (task, percpu, false)),
    ];
    (
        text(),
        prop::collection::vec(table(), 0..3),
        registers(),
        stacks,
        segments(),
    )
        .prop_map(
            |(text, orc, event, (task, percpu, honest), segments)| Input {
                tables: KernelTables { text, orc },
                event,
                task,
                percpu,
                segments,
                word: WordSize::Eight,
                honest,
            },
        )
}

impl Input {
    fn walk(&self, frames: &mut Vec<Frame>) -> StopReason {
        let mut memory = SampleMemory::new();
        for (address, bytes) in &self.segments {
            memory.push(Segment {
                address: *address,
                bytes,
            });
        }
        let stacks = StackSet {
            task: self.task,
            percpu: &self.percpu,
            word: self.word,
        };
        walk(
            &self.tables,
            WalkStart::Interrupted(&self.event),
            &stacks,
            &memory,
            frames,
        )
    }

    fn words(&self) -> usize {
        let used = self.segments.iter().take(MAX_SEGMENTS);
        let word = self.word.bytes() as usize;
        used.map(|(_, bytes)| bytes.len() / word).sum()
    }
}

/// The kinds of stack in the order in which they are come to.
fn runs<'a>(frames: impl Iterator<Item = &'a Frame>) -> Vec<StackKind> {
    let mut kinds: Vec<_> = frames.map(|frame| frame.stack).collect();
    kinds.dedup();
    kinds
}

fn has_repeats(kinds: &[StackKind]) -> bool {
    let mut seen = kinds.to_vec();
    seen.sort_unstable();
    seen.windows(2).any(|pair| pair[0] == pair[1])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn every_walk_ends_within_its_bounds(
        mut input in input(),
        word in prop_oneof![4 => Just(WordSize::Eight), 1 => Just(WordSize::Four)],
    ) {
        input.word = word;
        let mut frames = Vec::new();
        let stop = input.walk(&mut frames);
        if input.event.is_user_mode() {
            prop_assert_eq!(stop, StopReason::UserSample);
            prop_assert!(frames.is_empty());
            return Ok(());
        }

        // The exact part: a frame for each captured word at most, and the event itself.
        let exact = frames.iter().take_while(|frame| frame.reliable).count();
        let (exact, scanned) = frames.split_at(exact);
        let words = input.words();
        prop_assert!(exact.len() <= words + 1);
        prop_assert_eq!(exact[0].ip, input.event.ip);
        prop_assert_eq!(exact[0].source, FrameSource::Ip);
        for frame in &exact[1..] {
            prop_assert!(frame.source != FrameSource::Ip && frame.source != FrameSource::Scan);
            prop_assert!(input.tables.text.contains(frame.ip));
        }

        // The scanned part: each word once where no stack lies over another, else once on each.
        prop_assert!(scanned.is_empty() || !stop.is_complete());
        for frame in scanned {
            prop_assert_eq!(frame.source, FrameSource::Scan);
            prop_assert!(!frame.reliable);
            prop_assert!(input.tables.text.contains(frame.ip));
        }
        let stacks = if input.honest { 1 } else { StackKind::ALL.len() - 1 };
        prop_assert!(scanned.len() <= stacks * words);

        // No stack is left twice. Where an interrupted frame was is a captured word, which can
        // claim anything; a return address was read where it is.
        let read = |frame: &&Frame| {
            !matches!(frame.source, FrameSource::OrcRegs | FrameSource::FramePointerRegs)
        };
        let walked = runs(exact.iter().filter(read));
        prop_assert!(!has_repeats(&walked), "{:?}", walked);
        let scanned_kinds = runs(scanned.iter());
        prop_assert!(!has_repeats(&scanned_kinds), "{:?}", scanned_kinds);
        // Nor is one scanned that was walked, other than that where the walk ended.
        for kind in &scanned_kinds {
            let before_last = walked.iter().rev().skip(1);
            prop_assert!(!before_last.clone().any(|walked| walked == kind));
        }

        // Nothing is kept between walks.
        let mut again = Vec::new();
        prop_assert_eq!(input.walk(&mut again), stop);
        prop_assert_eq!(again, frames);
    }
}

#[test]
fn the_random_walks_are_worth_it() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let mut longest = 0;
    let mut stops = std::collections::BTreeSet::new();
    let mut sources = std::collections::BTreeSet::new();
    for _ in 0..3000 {
        let input = input().new_tree(&mut runner).unwrap().current();
        let mut frames = Vec::new();
        stops.insert(input.walk(&mut frames).name());
        let exact = frames.iter().take_while(|frame| frame.reliable).count();
        longest = longest.max(exact);
        sources.extend(frames.iter().map(|frame| frame.source));
    }
    let every_stop = [
        "bad-return-address",
        "end-of-stack",
        "loop",
        "missing-bytes",
        "missing-register",
        "no-progress",
        "no-unwind-info",
        "unknown-stack",
        "user-mode",
        "user-sample",
    ];
    assert!(stops.iter().eq(&every_stop), "{stops:?}");
    // Thunks and registers with an encoded frame pointer are too much of a coincidence.
    let likely = [
        FrameSource::Ip,
        FrameSource::Orc,
        FrameSource::OrcRegs,
        FrameSource::FramePointer,
        FrameSource::Scan,
    ];
    for source in likely {
        assert!(sources.contains(&source), "{source:?}");
    }
    assert!(longest >= 8, "{longest}");
}
