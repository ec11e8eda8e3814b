//! Tests of whole rows: what each kind of rule means.

use super::step;
use crate::unwind::{
    FrameSource, StopReason,
    memory::Segment,
    user::{
        mode::Mode,
        registers::UserRegisters,
        stack::{StackReader, UserStack},
        tables::RowContext,
        tests::sections::{AT_ENTRY, Builder, op},
    },
};

const STACK: u64 = 0x1000;
const IP: u64 = 0x40_0000;

/// Steps by a row, from rsp = [`STACK`] with every other register known to be its own number. Each
/// word of the stack is its own address.
fn step_with(
    augmentation: &str,
    return_column: u8,
    program: &[u8],
    interrupted: bool,
) -> Result<(UserRegisters, FrameSource), StopReason> {
    let mut builder = Builder::eh_frame();
    builder.cie(augmentation, return_column, &AT_ENTRY);
    builder.fde(0x1000, 0x10, program);
    let tables = builder.tables();
    let mut context = RowContext::new_in();
    let mut budget = 1000;
    let row = tables.row(0x1000, &mut context, &mut budget).unwrap();
    let bytes: Vec<u8> = (0..32)
        .flat_map(|index| (STACK + 8 * index).to_le_bytes())
        .collect();
    let stack = UserStack {
        segment: Segment {
            address: STACK,
            bytes: &bytes,
        },
        cut_by_budget: false,
    };
    let mut registers = UserRegisters::new(IP, STACK);
    for number in (0..16).filter(|&number| number != 7) {
        registers.set(number, Some(number as u64));
    }
    let mut reader = StackReader::new(&stack, Mode::Bits64);
    let row = row.unwrap();
    let source = step(&row, &mut registers, &mut reader, &mut budget, interrupted)?;
    Ok((registers, source))
}

fn step_by(program: &[u8]) -> Result<(UserRegisters, FrameSource), StopReason> {
    step_with("", 16, program, false)
}

fn register_by(program: &[u8], number: usize) -> Option<u64> {
    step_by(program).unwrap().0.get(number)
}

#[test]
fn each_rule_finds_its_value() {
    for (program, wanted) in [
        (&[op::OFFSET | 12, 2][..], Some(STACK - 8)), // is not copied
        (
            &[op::DEF_CFA_OFFSET, 32, op::OFFSET | 12, 3],
            Some(STACK + 8),
        ),
        (&[op::OFFSET_EXTENDED_SF, 12, 0x7e], Some(STACK + 24)),
        (&[op::VAL_OFFSET, 12, 2], Some(STACK - 8)),
        (&[op::REGISTER, 12, 1], Some(1)),
        (&[op::SAME_VALUE, 12], Some(12)),
        (&[op::UNDEFINED, 12], None),
        (&[], Some(12)),
        // The CFA, 16 bytes on.
        (&[op::EXPRESSION, 12, 2, 0x23, 16], Some(STACK + 24)),
        (&[op::VAL_EXPRESSION, 12, 2, 0x23, 16], Some(STACK + 24)),
        // An address that is not copied.
        (&[op::EXPRESSION, 12, 1, 0x31], None),
    ] {
        let wanted = wanted.filter(|&value| value != STACK - 8 || program[0] == op::VAL_OFFSET);
        assert_eq!(register_by(program, 12), wanted, "{program:x?}");
    }
}

#[test]
fn only_what_is_mentioned_of_the_caller_saved_registers_is_known() {
    assert_eq!(register_by(&[], 2), None);
    assert_eq!(register_by(&[op::SAME_VALUE, 2], 2), Some(2));
    assert_eq!(register_by(&[op::REGISTER, 2, 0], 2), Some(0));
}

#[test]
fn the_cfa_is_the_stack_pointer_unless_that_is_mentioned() {
    assert_eq!(register_by(&[op::DEF_CFA_OFFSET, 24], 7), Some(STACK + 24));
    assert_eq!(
        register_by(&[op::VAL_OFFSET, 7, 0x70], 7),
        Some(STACK + 8 - 0x380)
    );
    // By an expression: rsp + 40.
    let (registers, source) = step_by(&[op::DEF_CFA_EXPRESSION, 2, 0x77, 40]).unwrap();
    assert_eq!((registers.sp(), registers.ip()), (STACK + 40, STACK + 32));
    assert_eq!(source, FrameSource::CfiExpression);
    // From another register, which is no expression.
    let (registers, source) = step_by(&[op::REGISTER, 16, 9, op::DEF_CFA, 10, 6]).unwrap();
    assert_eq!((registers.sp(), registers.ip()), (16, 9));
    assert_eq!(source, FrameSource::Cfi);
}

#[test]
fn another_return_column_works_and_one_without_a_register_does_not() {
    let (registers, _) = step_with("", 12, &[op::OFFSET_EXTENDED_SF, 12, 0x7e], false).unwrap();
    assert_eq!(registers.ip(), STACK + 24);
    let bad = StopReason::BadUnwindInfo { ip: IP };
    assert_eq!(step_with("", 30, &[], false), Err(bad));
    assert_eq!(step_with("", 12, &[], false), Err(bad), "no rule for it");
}

#[test]
fn the_end_and_what_is_missing_are_told() {
    assert_eq!(
        step_by(&[op::UNDEFINED, 16]),
        Err(StopReason::OutermostFrame)
    );
    assert_eq!(
        step_by(&[op::DEF_CFA_OFFSET, 0x90, 4]),
        Err(StopReason::MissingBytes {
            address: STACK + 0x208
        })
    );
    let missing = StopReason::MissingRegister { ip: IP };
    assert_eq!(step_by(&[op::DEF_CFA, 17, 0]), Err(missing));
    assert_eq!(step_by(&[op::REGISTER, 16, 40]), Err(missing));
    // A malformed expression, be it for a register that nobody needs.
    let bad = StopReason::BadUnwindInfo { ip: IP };
    assert_eq!(step_by(&[op::EXPRESSION, 12, 1, 0x9c]), Err(bad));
}

#[test]
fn the_augmentation_makes_the_caller_an_interrupted_frame() {
    let (_, source) = step_with("zS", 16, &[], false).unwrap();
    assert_eq!(source, FrameSource::CfiSignal);
}

#[test]
fn rbp_is_known_after_the_leave_that_gcc_does_not_mention() {
    // rbp is saved where rbp points to, but that is 6 here: not in the frame.
    let program = [op::EXPRESSION, 6, 2, 0x76, 0];
    let rbp = |augmentation, interrupted| {
        let (registers, _) = step_with(augmentation, 16, &program, interrupted).unwrap();
        registers.get(6)
    };
    assert_eq!(rbp("", true), Some(6));
    assert_eq!(rbp("", false), None, "a call is never that late");
    assert_eq!(rbp("zS", true), None, "and signal frames save it anywhere");
    // In the frame it is read: 16 bytes above rsp, with a CFA 32 bytes above.
    let inside = [op::DEF_CFA_OFFSET, 32, op::EXPRESSION, 6, 2, 0x77, 16];
    let (registers, _) = step_with("", 16, &inside, true).unwrap();
    assert_eq!(registers.get(6), Some(STACK + 16));
}
