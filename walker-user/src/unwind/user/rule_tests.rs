//! Tests of the short form of rows.

use super::{CallRule, Rule};
use crate::unwind::{
    StopReason,
    memory::Segment,
    user::{
        mode::Mode,
        registers::UserRegisters,
        sections::{CfiSections, Section},
        stack::{StackReader, UserStack},
        tables::{CfiTables, RowContext},
        tests::sections::{AT_ENTRY, Builder, op},
    },
};

fn rule_with(augmentation: &str, return_column: u8, program: &[u8]) -> Rule {
    let mut builder = Builder::eh_frame();
    builder.cie(augmentation, return_column, &AT_ENTRY);
    builder.fde(0x1000, 0x10, program);
    let tables = builder.tables();
    let mut context = RowContext::new_in();
    let row = tables.row(0x1000, &mut context, &mut 1000).unwrap();
    Rule::of(&row.unwrap())
}

fn rule(program: &[u8]) -> Rule {
    rule_with("", 16, program)
}

const fn call(cfa_offset: i32, frame_pointer: bool, slots: [i8; 6]) -> Rule {
    Rule::Call(CallRule {
        cfa_offset,
        frame_pointer,
        slots,
        popped: 0,
    })
}

#[test]
fn a_rule_is_small() {
    assert!(size_of::<Rule>() <= 16);
}

#[test]
fn ordinary_rows_have_a_short_form() {
    assert_eq!(rule(&[]), call(8, false, [0; 6]));
    assert_eq!(
        rule(&[op::DEF_CFA, 6, 16, op::OFFSET | 6, 2]),
        call(16, true, [-2, 0, 0, 0, 0, 0])
    );
    let all_saved = [
        op::DEF_CFA_OFFSET,
        64,
        op::OFFSET | 15,
        2,
        op::OFFSET | 14,
        3,
        op::OFFSET | 13,
        4,
        op::OFFSET | 12,
        5,
        op::OFFSET | 6,
        6,
        op::OFFSET | 3,
        7,
    ];
    assert_eq!(rule(&all_saved), call(64, false, [-6, -7, -5, -4, -3, -2]));
    // Those that change nothing, or registers that are not carried along.
    assert_eq!(rule(&[op::SAME_VALUE, 3]), call(8, false, [0; 6]));
    assert_eq!(rule(&[op::VAL_OFFSET, 7, 0]), call(8, false, [0; 6]));
    assert_eq!(rule(&[op::OFFSET | 17, 3]), call(8, false, [0; 6]));
    assert_eq!(rule(&[op::GNU_ARGS_SIZE, 32]), call(8, false, [0; 6]));
}

#[test]
fn an_undefined_return_address_is_the_end() {
    assert_eq!(rule(&[op::UNDEFINED, 16]), Rule::Outermost);
}

#[test]
fn whatever_does_not_fit_exactly_is_slow() {
    let far = [op::OFFSET | 3, 0x81, 1]; // 129 words
    let unaligned = [op::OFFSET_EXTENDED_SF, 3, 0x7f]; // at CFA + 8: fits
    assert_eq!(rule(&unaligned), call(8, false, [0, 1, 0, 0, 0, 0]));
    for program in [
        &[op::DEF_CFA, 10, 0][..],                       // CFA from r10
        &[op::DEF_CFA_EXPRESSION, 2, 0x77, 8],           // CFA by an expression
        &far,                                            // a slot too far away
        &[op::OFFSET | 3, 0],                            // a slot at the CFA
        &[op::OFFSET | 16, 2],                           // the return address elsewhere
        &[op::REGISTER, 16, 2],                          // or in a register
        &[op::SAME_VALUE, 16],                           // or nowhere
        &[op::OFFSET | 2, 2],                            // a caller-saved register
        &[op::SAME_VALUE, 2],                            // that is kept
        &[op::UNDEFINED, 6],                             // a callee-saved one that is lost
        &[op::OFFSET | 7, 2],                            // the stack pointer
        &[op::VAL_OFFSET, 7, 1],                         // or what it is not
        &[op::EXPRESSION, 6, 2, 0x76, 0],                // an expression
        &[op::VAL_EXPRESSION, 6, 1, 0x30],               // or for a value
        &[op::DEF_CFA, 7, 0x80, 0x80, 0x80, 0x80, 0x10], // a frame of 4 GiB
    ] {
        assert_eq!(rule(program), Rule::Slow, "{program:x?}");
    }
    assert_eq!(rule_with("zS", 16, &[]), Rule::Slow, "a signal frame");
    assert_eq!(rule_with("", 12, &[]), Rule::Slow, "another return column");
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_step_restores_what_the_rule_says() {
    let Rule::Call(rule) = call(32, false, [-2, -3, 0, 0, 0, 0]) else {
        unreachable!("it is one");
    };
    let bytes = words(&[1, 0xbb, 0xbf, 0x40_1234]);
    let stack = UserStack {
        segment: Segment {
            address: 0x1000,
            bytes: &bytes,
        },
        cut_by_budget: true,
    };
    let mut registers = UserRegisters::new(0x40_0000, 0x1000);
    registers.set(12, Some(12));
    registers.set(0, Some(0));
    let mut reader = StackReader::new(&stack, Mode::Bits64);
    assert_eq!(rule.step(&mut registers, &mut reader), Ok(()));
    let mut wanted = UserRegisters::new(0x40_1234, 0x1020);
    wanted.set(6, Some(0xbf));
    wanted.set(3, Some(0xbb));
    wanted.set(12, Some(12));
    for number in 0..17 {
        assert_eq!(registers.get(number), wanted.get(number), "{number}");
    }
    assert_eq!(reader.bytes_used(), 32);
    // The next one would be past the copy.
    assert_eq!(
        rule.step(&mut registers, &mut reader),
        Err(StopReason::Truncated { bytes: 32 })
    );
}

#[test]
fn a_register_whose_slot_was_not_copied_is_not_known() {
    let Rule::Call(rule) = call(8, false, [-2, 0, 0, 0, 0, 0]) else {
        unreachable!("it is one");
    };
    let bytes = words(&[0x40_1234]);
    let stack = UserStack {
        segment: Segment {
            address: 0x1000,
            bytes: &bytes,
        },
        cut_by_budget: false,
    };
    let mut registers = UserRegisters::new(0x40_0000, 0x1000);
    registers.set(6, Some(6));
    let mut reader = StackReader::new(&stack, Mode::Bits64);
    assert_eq!(rule.step(&mut registers, &mut reader), Ok(()));
    assert_eq!(registers.ip(), 0x40_1234);
    assert_eq!(registers.get(6), None);
    let Rule::Call(by_frame_pointer) = call(16, true, [0; 6]) else {
        unreachable!("it is one");
    };
    assert_eq!(
        by_frame_pointer.step(&mut registers, &mut reader),
        Err(StopReason::MissingRegister { ip: 0x40_1234 })
    );
}

/// An i386 function that has pushed ebp, edi and esi, and saved ebx below.
fn tables_of_32_bits() -> CfiTables {
    let program = [
        op::DEF_CFA,
        5,
        8,
        op::OFFSET | 5,
        2,
        op::OFFSET | 7,
        3,
        op::OFFSET | 6,
        4,
        op::OFFSET | 3,
        5,
    ];
    let mut bytes = Vec::new();
    let mut entry = |id: u32, content: &[u8]| {
        let mut content = content.to_vec();
        content.resize(content.len().next_multiple_of(4), 0);
        bytes.extend((content.len() as u32 + 4).to_le_bytes());
        bytes.extend(id.to_le_bytes());
        bytes.extend(content);
    };
    // Version 1, no augmentation, units of 1 and -4, column 8; CFA = esp + 4.
    let at_entry = [1, 0, 1, 0x7c, 8, op::DEF_CFA, 4, 4, op::OFFSET | 8, 1];
    entry(u32::MAX, &at_entry);
    let mut fde = Vec::from([0x1000u32, 0x10].map(u32::to_le_bytes).as_flattened());
    fde.extend(program);
    entry(0, &fde);
    CfiTables::new(CfiSections {
        debug_frame: Some(Section {
            address: 0,
            bytes: bytes.into(),
        }),
        mode: Mode::Bits32,
        ..CfiSections::default()
    })
    .unwrap()
}

#[test]
fn a_step_in_32_bits_takes_words_of_four_bytes() {
    let tables = tables_of_32_bits();
    let mut context = RowContext::new_in();
    let row = tables.row(0x1004, &mut context, &mut 1000).unwrap();
    let Rule::Call(rule) = Rule::of(&row.unwrap()) else {
        panic!("not an ordinary function");
    };
    let words = [0xeb_u32, 0xe5, 0xed, 0xfffe_0000, 0x8048_1234, 9];
    let bytes = words.map(u32::to_le_bytes);
    let stack = UserStack {
        segment: Segment {
            address: 0xffff_0000,
            bytes: bytes.as_flattened(),
        },
        cut_by_budget: false,
    };
    let mut registers = UserRegisters::new(0x1004, 0xffff_0000).in_mode(Mode::Bits32);
    // With what a 64-bit kernel may have left above the lower half.
    registers.set(6, Some(0xdead_0000_ffff_000c));
    registers.set(0, Some(1));
    let mut reader = StackReader::new(&stack, Mode::Bits32);
    assert_eq!(rule.step(&mut registers, &mut reader), Ok(()));
    assert_eq!(registers.ip(), 0x8048_1234);
    assert_eq!(registers.sp(), 0xffff_0014);
    // ebp, ebx, esi and edi of the caller; eax is lost.
    let kept = [6, 3, 4, 5, 0].map(|number| registers.get(number));
    let wanted = [Some(0xfffe_0000), Some(0xeb), Some(0xe5), Some(0xed), None];
    assert_eq!(kept, wanted);
}
