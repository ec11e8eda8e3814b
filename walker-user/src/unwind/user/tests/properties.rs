//! Random and corrupted unwind information, registers and stacks: a walk always ends, within its
//! bounds, and says the same whether or not its rules were remembered.

use std::{fs, sync::LazyLock};

use proptest::{collection::vec, prelude::*};

use super::{
    process,
    program::Program,
    sections::{AT_ENTRY, Builder, EH_FRAME, HEADER},
};
use crate::unwind::{
    Frame,
    memory::Segment,
    user::{
        registers::UserRegisters,
        sections::{CfiSections, Section},
        stack::UserStack,
        tables::CfiTables,
        walk::{CodeAt, CodeKind, ModuleId, UserCode, UserWalk, UserWalker},
    },
};

const STACK: u64 = 0x20_0000;
const CODE: u64 = 0x1000;
const CODE_END: u64 = 0x1400;
/// Most frames a walk may have besides one for each word.
const MORE_FRAMES: usize = 8;

/// Tables for all that is not [`JIT`], and what is known of calls made up from the address.
struct Code<'t> {
    tables: Option<&'t CfiTables>,
    range: std::ops::Range<u64>,
}

const JIT: std::ops::Range<u64> = 0x10_0000..0x10_0400;

impl UserCode for Code<'_> {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        let jit = JIT.contains(&address);
        (jit || self.range.contains(&address)).then_some(CodeAt {
            module: ModuleId(1),
            address,
            cfi: self.tables.filter(|_| !jit),
            kind: if jit { CodeKind::Jit } else { CodeKind::Object },
        })
    }

    /// Bytes that are often instructions that matter, the same ones whenever they are asked for.
    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        const BYTES: &[u8] =
            b"\xe8\0\0\0\0\xc3\x48\x83\xc4\x08\xff\xd0\x5d\x74\xf4\xc9\xeb\x03\xff\xe0\x41\x5c";
        for (at, byte) in (address..).zip(buffer.iter_mut()) {
            let index = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
            *byte = BYTES[(at ^ (index / 64)) as usize % BYTES.len()];
        }
        if address.is_multiple_of(3) {
            0
        } else {
            buffer.len()
        }
    }
}

/// Words that mean something: code, the stack, small numbers, anything.
fn word(code: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => code,
        2 => JIT,
        8 => (0u64..0x80).prop_map(|word| STACK + 8 * word),
        1 => STACK..STACK + 0x400,
        1 => 0u64..0x40,
        1 => Just(0x002b_0000_0000_0033),
        1 => any::<u64>(),
    ]
}

/// The state at an event: 17 registers of which some may be unknown, and the stack.
#[derive(Debug, Clone)]
struct Event {
    registers: Vec<(u64, bool)>,
    words: Vec<u64>,
    cut: usize,
    cut_by_budget: bool,
}

fn event(code: std::ops::Range<u64>) -> impl Strategy<Value = Event> {
    (
        vec((word(code.clone()), prop::bool::weighted(0.9)), 17),
        vec(word(code), 0..96),
        0usize..8,
        any::<bool>(),
    )
        .prop_map(|(registers, words, cut, cut_by_budget)| Event {
            registers,
            words,
            cut,
            cut_by_budget,
        })
}

impl Event {
    fn walk(&self, walker: &mut UserWalker, code: &mut Code<'_>) -> (Vec<Frame>, UserWalk) {
        let mut registers = UserRegisters::new(0, 0);
        for (number, &(value, known)) in self.registers.iter().enumerate() {
            registers.set(number, known.then_some(value));
        }
        let mut bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.truncate(bytes.len().saturating_sub(self.cut));
        let stack = UserStack {
            segment: Segment {
                address: STACK,
                bytes: &bytes,
            },
            cut_by_budget: self.cut_by_budget,
        };
        let mut frames = Vec::new();
        let walk = walker.walk(code, &registers, &stack, &mut frames);
        (frames, walk)
    }
}

fn check(tables: Option<&CfiTables>, range: std::ops::Range<u64>, events: &[Event]) {
    let mut code = Code { tables, range };
    let mut warm = UserWalker::new();
    for event in events {
        let (frames, walk) = event.walk(&mut UserWalker::new(), &mut code);
        assert!(!frames.is_empty());
        assert!(frames.len() <= event.words.len() + MORE_FRAMES);
        assert!(walk.bytes_used as usize <= 8 * event.words.len());
        for _ in 0..2 {
            assert_eq!(event.walk(&mut warm, &mut code), (frames.clone(), walk));
        }
    }
}

/// CFI programs of instructions that are mostly valid, and short expressions in them.
fn program() -> impl Strategy<Value = Vec<u8>> {
    let operation = prop_oneof![
        (0x70u8..0x80, 0u8..0x80).prop_map(|(register, offset)| vec![register, offset]),
        prop::sample::select(vec![
            0x06u8, 0x12, 0x13, 0x16, 0x1c, 0x22, 0x23, 0x24, 0x2a, 0x96
        ])
        .prop_map(|operation| vec![operation]),
        (0x30u8..0x50).prop_map(|literal| vec![literal]),
        vec(any::<u8>(), 1..4),
        (0x28u8..0x30, any::<i8>()).prop_map(|(branch, to)| vec![
            branch,
            to.cast_unsigned(),
            (to >> 7).cast_unsigned()
        ]),
    ];
    let expression = vec(operation, 0..6).prop_map(|operations| operations.concat());
    let instruction = prop_oneof![
        (0u8..0x40).prop_map(|delta| vec![0x40 | delta]),
        (0u8..18, 0u8..8).prop_map(|(register, offset)| vec![0x80 | register, offset]),
        (0u8..18, 0u8..64).prop_map(|(register, offset)| vec![0x0c, register, offset]),
        (0u8..64).prop_map(|offset| vec![0x0e, offset]),
        (prop::sample::select(vec![0x07u8, 0x08]), 0u8..18)
            .prop_map(|(rule, register)| vec![rule, register]),
        (0u8..18, 0u8..18).prop_map(|(to, from)| vec![0x09, to, from]),
        prop::sample::select(vec![0x0au8, 0x0b]).prop_map(|stack| vec![stack]),
        expression.clone().prop_map(|code| {
            let mut bytes = vec![0x0f, code.len() as u8];
            bytes.extend(code);
            bytes
        }),
        (
            prop::sample::select(vec![0x10u8, 0x16]),
            0u8..18,
            expression
        )
            .prop_map(|(rule, register, code)| {
                let mut bytes = vec![rule, register, code.len() as u8];
                bytes.extend(code);
                bytes
            }),
        vec(any::<u8>(), 1..3),
    ];
    vec(instruction, 0..8).prop_map(|instructions| instructions.concat())
}

/// A section of functions with such programs, signal frames among them.
fn functions() -> impl Strategy<Value = Builder> {
    let function = (0u64..0x400, 1u64..0x100, any::<bool>(), program());
    vec(function, 1..12).prop_map(|functions| {
        let mut builder = Builder::eh_frame();
        for (code, length, signal, program) in functions {
            let augmentation = if signal { "zS" } else { "z" };
            builder.cie(augmentation, 16, &AT_ENTRY);
            builder.fde(CODE + code, length, &program);
        }
        builder
    })
}

struct Real {
    sections: CfiSections,
    range: std::ops::Range<u64>,
}

/// The unwind information of a real program.
static REAL: LazyLock<Real> = LazyLock::new(|| {
    let program = Program::build("gcc", "chain.c", &["-O2", "-DDEPTH=1", "-g"]);
    let bytes = fs::read(program.path()).unwrap();
    Real {
        sections: process::sections(&bytes),
        range: 0x1000..0x2000,
    }
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn made_up_programs(
        builder in functions(),
        with_header in any::<bool>(),
        events in vec(event(CODE..CODE_END), 1..8),
    ) {
        let tables = CfiTables::new(CfiSections {
            eh_frame: Some(builder.section()),
            eh_frame_hdr: with_header.then(|| builder.header()),
            ..CfiSections::default()
        })
        .unwrap();
        check(Some(&tables), CODE..CODE_END, &events);
    }

    #[test]
    fn random_sections(
        eh_frame in vec(prop_oneof![Just(0u8), 0u8..0x20, any::<u8>()], 0..256),
        header in vec(any::<u8>(), 0..64),
        debug_frame in vec(prop_oneof![Just(0xffu8), 0u8..0x20, any::<u8>()], 0..256),
        events in vec(event(CODE..CODE_END), 1..3),
    ) {
        let section = |address, bytes: Vec<u8>| {
            Some(Section { address, bytes: bytes.into() })
        };
        let tables = CfiTables::new(CfiSections {
            eh_frame: section(EH_FRAME, eh_frame),
            eh_frame_hdr: section(HEADER, header),
            debug_frame: section(0, debug_frame),
            text: Some(CODE),
            got: Some(u64::MAX),
            ..CfiSections::default()
        })
        .unwrap();
        check(Some(&tables), CODE..CODE_END, &events);
    }

    #[test]
    fn corrupted_sections_of_a_real_program(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        in_header in any::<bool>(),
        events in vec(event(REAL.range.clone()), 1..8),
    ) {
        let mut sections = REAL.sections.clone();
        let section = if in_header { &mut sections.eh_frame_hdr } else { &mut sections.eh_frame };
        let section = section.as_mut().unwrap();
        let mut bytes = section.bytes.to_vec();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        section.bytes = bytes.into();
        let tables = CfiTables::new(sections).unwrap();
        check(Some(&tables), REAL.range.clone(), &events);
    }

    #[test]
    fn no_unwind_information_at_all(events in vec(event(CODE..CODE_END), 1..8)) {
        check(None, CODE..CODE_END, &events);
    }
}
