//! Properties that hold for every input: nothing panics, and the bytes bound the work.

use std::cell::Cell;

use proptest::prelude::*;
use walker_common::StackKind;

use super::image::{Event, Image, Recorder, TEXT, is_text};
use crate::classify::{
    KnownStack, Memory, NextSp, StackInfo, StackSet, VisitMask, WordSize,
    dump::{DumpEnd, Mode, Start, dump_trace},
    x86_32, x86_64,
};

/// Where most of the stacks and pointers of these tests are, so that they often meet.
const ARENA: u64 = 0x10_0000;
const ARENA_SIZE: u64 = 0x800;

fn word_size() -> impl Strategy<Value = WordSize> {
    prop_oneof![Just(WordSize::Four), Just(WordSize::Eight)]
}

/// Addresses that lead somewhere, and some that do not.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0..ARENA_SIZE / 4).prop_map(|word| ARENA + 4 * word),
        2 => ARENA - 16..ARENA + ARENA_SIZE + 16,
        1 => any::<u64>(),
        1 => prop_oneof![Just(0), 0_u64..16, u64::MAX - 16..=u64::MAX],
    ]
}

/// Words that are pointers, kernel text or noise.
fn stack_word() -> impl Strategy<Value = u64> {
    prop_oneof![4 => address(), 4 => (0_u64..0x1000).prop_map(|at| TEXT + at), 1 => any::<u64>()]
}

fn next_sp() -> impl Strategy<Value = NextSp> {
    prop_oneof![
        1 => Just(NextSp::None),
        4 => prop_oneof![Just(8), Just(16), 0_u64..64, any::<u64>()].prop_map(NextSp::BelowEnd),
        2 => Just(NextSp::AtBegin),
        2 => address().prop_map(NextSp::Value),
    ]
}

prop_compose! {
    /// Also empty, inverted, overlapping, unaligned and endless ones.
    fn known_stack()(
        kind in 0..StackKind::ALL.len(),
        begin in address(),
        size in 0_u64..0x200,
        other_end in address(),
        has_size in proptest::bool::weighted(0.75),
        may_be_empty: bool,
        next_sp in next_sp(),
    ) -> KnownStack {
        let end = if has_size { begin.saturating_add(size) } else { other_end };
        KnownStack { kind: StackKind::ALL[kind], begin, end, may_be_empty, next_sp }
    }
}

#[derive(Debug)]
struct Scene {
    task: Option<KnownStack>,
    percpu: Vec<KnownStack>,
    word: WordSize,
    image: Image,
    start: Start,
}

prop_compose! {
    fn scene()(
        task in proptest::option::of(known_stack()),
        percpu in proptest::collection::vec(known_stack(), 0..12),
        word in word_size(),
        words in proptest::collection::vec(stack_word(), 0..ARENA_SIZE as usize / 8),
        skew in 0_usize..3,
        (ip, sp, bp) in (stack_word(), address(), address()),
    ) -> Scene {
        let size = word.bytes() as usize;
        let mut bytes: Vec<u8> =
            words.iter().flat_map(|word| word.to_le_bytes().into_iter().take(size)).collect();
        // Sometimes the last word is not whole.
        bytes.truncate(bytes.len().saturating_sub(skew));
        let image = Image::new(word).bytes(ARENA, bytes);
        Scene { task, percpu, word, image, start: Start { ip, sp, bp } }
    }
}

impl Scene {
    fn stacks(&self) -> StackSet<'_> {
        StackSet {
            task: self.task,
            percpu: &self.percpu,
            word: self.word,
        }
    }

    fn all(&self) -> impl Iterator<Item = &KnownStack> {
        self.task.iter().chain(&self.percpu)
    }
}

/// Counts the reads.
struct Counted<'a> {
    image: &'a Image,
    reads: Cell<u64>,
}

impl Memory for Counted<'_> {
    fn read_word(&self, addr: u64, size: WordSize) -> Option<u64> {
        self.reads.set(self.reads.get() + 1);
        self.image.read_word(addr, size)
    }
}

/// A memory in which every word is there and is the same.
struct Endless(u64);

impl Memory for Endless {
    fn read_word(&self, _: u64, _: WordSize) -> Option<u64> {
        Some(self.0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_walk_is_bounded_by_the_bytes(scene in scene(), scan: bool) {
        let mode = if scan { Mode::Scan } else { Mode::FramePointer };
        let memory = Counted { image: &scene.image, reads: Cell::new(0) };
        let mut seen = Recorder::default();
        let end = dump_trace(&scene.stacks(), &memory, scene.start, &is_text, mode, &mut seen);

        let on_stack = seen.frames().iter().filter(|frame| frame.slot.is_some()).count() as u128;
        let stack_bytes: u128 =
            scene.all().map(|stack| u128::from(stack.end.saturating_sub(stack.begin))).sum();
        prop_assert!(on_stack <= stack_bytes / u128::from(scene.word.bytes()));
        prop_assert!(seen.frames().len() as u128 - on_stack <= 1);

        let image_words = ARENA_SIZE / scene.word.bytes();
        prop_assert!(memory.reads.get() <= 10 * (2 * image_words + 3));

        let mut kinds = seen.kinds();
        kinds.sort();
        kinds.dedup();
        prop_assert_eq!(kinds.len(), seen.kinds().len(), "a stack was entered twice");
        prop_assert!(!kinds.contains(&StackKind::Unknown));
        prop_assert_ne!(end, DumpEnd::VisitorStopped);
        if let DumpEnd::Revisited { kind } = end {
            prop_assert!(kinds.contains(&kind));
        }
    }

    #[test]
    fn every_frame_is_a_text_word_of_the_stack_it_is_reported_on(scene in scene(), scan: bool) {
        let mode = if scan { Mode::Scan } else { Mode::FramePointer };
        let mut seen = Recorder::default();
        dump_trace(&scene.stacks(), &scene.image, scene.start, &is_text, mode, &mut seen);
        let mut current = None;
        let mut last_slot = None;
        for event in &seen.events {
            match *event {
                Event::Begin(kind) => {
                    prop_assert_eq!(current.replace(kind), None);
                    last_slot = None;
                }
                Event::End(kind) => prop_assert_eq!(current.take(), Some(kind)),
                Event::Frame(frame) => {
                    prop_assert!(is_text(frame.address));
                    let Some(slot) = frame.slot else {
                        prop_assert_eq!(frame.address, scene.start.ip);
                        continue;
                    };
                    prop_assert!(last_slot < Some(slot));
                    last_slot = Some(slot);
                    let word = scene.image.read_word(slot, scene.word);
                    prop_assert_eq!(word, Some(frame.address));
                    let on_it = |stack: &&KnownStack| {
                        Some(stack.kind) == current
                            && stack.begin <= slot
                            && slot + scene.word.bytes() <= stack.end
                    };
                    prop_assert!(scene.all().any(|stack| on_it(&stack)));
                }
            }
        }
        prop_assert_eq!(current, None);
    }

    /// Even if nothing is ever missing, the two ends of the stacks bound the walk.
    #[test]
    fn a_walk_over_endless_memory_ends(
        scene in scene(),
        value in prop_oneof![stack_word(), Just(TEXT)],
        scan: bool,
    ) {
        let small = |stack: &&KnownStack| stack.end.saturating_sub(stack.begin) < 0x200;
        let percpu: Vec<_> = scene.percpu.iter().filter(small).copied().collect();
        let task = scene.task.filter(|stack| small(&stack));
        let stacks = StackSet { task, percpu: &percpu, word: scene.word };
        let mode = if scan { Mode::Scan } else { Mode::FramePointer };
        let mut seen = Recorder::default();
        dump_trace(&stacks, &Endless(value), scene.start, &is_text, mode, &mut seen);
        prop_assert!(seen.frames().len() as u64 <= 1 + 10 * (0x200 / scene.word.bytes()));
    }

    #[test]
    fn a_lookup_finds_only_a_stack_that_holds_the_address(
        scene in scene(),
        addrs in proptest::collection::vec(address(), 1..40),
    ) {
        let stacks = scene.stacks();
        let mut mask = VisitMask::default();
        let mut entered = Vec::new();
        for addr in addrs {
            let looked = stacks.get_stack_info(&scene.image, addr, None);
            prop_assert_eq!(
                looked.is_ok(),
                addr != 0 && scene.all().any(|stack| stack.holds(addr))
            );
            let Ok(info) = looked else { continue };
            prop_assert!(info.begin <= addr && addr <= info.end);
            let fresh = !entered.contains(&info.kind);
            let found = stacks.get_stack_info(&scene.image, addr, Some(&mut mask));
            prop_assert_eq!(found.ok(), fresh.then_some(info));
            entered.push(info.kind);
        }
        prop_assert!(entered.iter().all(|kind| mask.contains(*kind)));
    }

    #[test]
    fn on_stack_is_exact(begin in address(), end in address(), addr in address(), len in address()) {
        let kind = StackKind::Task;
        let info = StackInfo { kind, begin, end, next_sp: None, next_sp_slot: None };
        let last = u128::from(addr) + u128::from(len);
        let inside = begin <= addr && addr < end && last <= u128::from(end);
        prop_assert_eq!(info.on_stack(addr, len), inside && last > u128::from(begin));
    }

    #[test]
    fn layouts_are_sound_or_refused(
        pointers in proptest::array::uniform4(address()),
        sizes in proptest::array::uniform3(address()),
        offset in address(),
    ) {
        let member = x86_64::ExceptionStack { kind: StackKind::Nmi, offset, size: sizes[0] };
        let layout = x86_64::Layout {
            irq_stack_size: sizes[1],
            exception_stacks: &[member],
            entry_stack_size: sizes[2],
        };
        let cpu = x86_64::CpuPointers {
            hardirq_stack_ptr: Some(pointers[0]),
            cea_exception_stacks: Some(pointers[1]),
            entry_stack: Some(pointers[2]),
        };
        let layout_32 = x86_32::Layout {
            thread_size: sizes[0],
            entry_stack_size: sizes[1],
            doublefault_stack_size: sizes[2],
        };
        let cpu_32 = x86_32::CpuPointers {
            entry_stack: Some(pointers[0]),
            hardirq_stack_ptr: Some(pointers[1]),
            softirq_stack_ptr: Some(pointers[2]),
            doublefault: Some(x86_32::DoubleFault { begin: pointers[3], tss_sp: offset }),
        };
        let made = [x86_64::percpu_stacks(&layout, &cpu), x86_32::percpu_stacks(&layout_32, &cpu_32)];
        for stack in made.iter().flatten().flatten() {
            prop_assert!(stack.begin != 0 && stack.begin < stack.end);
        }
    }
}
