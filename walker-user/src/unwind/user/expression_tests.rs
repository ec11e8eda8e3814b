//! Tests of DWARF expressions: their arithmetic, and that none is dangerous.

use super::{MAX_DEPTH, NoValue, evaluate};
use crate::unwind::{
    memory::Segment,
    user::{
        mode::Mode,
        registers::UserRegisters,
        stack::{StackReader, UserStack},
    },
};

const STACK: u64 = 0x1000;

fn run_from(code: &[u8], initial: Option<u64>) -> Result<u64, NoValue> {
    let bytes: Vec<u8> = (0x80..0xa0).collect();
    let stack = UserStack {
        segment: Segment {
            address: STACK,
            bytes: &bytes,
        },
        cut_by_budget: false,
    };
    let mut registers = UserRegisters::new(0x4_0000, STACK);
    registers.set(6, Some(0x2000));
    let mut budget = 1 << 20;
    let mut stack = StackReader::new(&stack, Mode::Bits64);
    evaluate(code, initial, &registers, &mut stack, &mut budget)
}

fn run(code: &[u8]) -> Result<u64, NoValue> {
    run_from(code, None)
}

/// `DW_OP_const8u`.
fn constant(value: u64) -> Vec<u8> {
    let mut code = vec![0x0e];
    code.extend(value.to_le_bytes());
    code
}

/// Runs one operation on two values, the topmost last.
fn on(left: u64, right: u64, operation: u8) -> Result<u64, NoValue> {
    let mut code = constant(left);
    code.extend(constant(right));
    code.push(operation);
    run(&code)
}

const MINUS_ONE: u64 = u64::MAX;
const LOWEST: u64 = 1 << 63;

#[test]
fn arithmetic_wraps_and_compares_as_signed() {
    for (left, operation, right, wanted) in [
        (6, 0x1a, 3, 2),                            // and
        (7, 0x1b, MINUS_ONE, 7_u64.wrapping_neg()), // div
        (LOWEST, 0x1b, MINUS_ONE, LOWEST),          // div that overflows
        (1, 0x1c, 2, MINUS_ONE),                    // minus
        (MINUS_ONE, 0x1d, 10, 5),                   // mod, unsigned
        (LOWEST, 0x1e, 2, 0),                       // mul
        (6, 0x21, 1, 7),                            // or
        (MINUS_ONE, 0x22, 2, 1),                    // plus
        (1, 0x24, 63, LOWEST),                      // shl
        (1, 0x24, 64, 0),                           // shl by all
        (LOWEST, 0x25, 63, 1),                      // shr
        (LOWEST, 0x25, u64::MAX, 0),                // shr by more than all
        (LOWEST, 0x26, 63, MINUS_ONE),              // shra
        (LOWEST, 0x26, 1 << 32, MINUS_ONE),         // shra by more than all
        (6, 0x27, 5, 3),                            // xor
        (3, 0x29, 3, 1),                            // eq
        (MINUS_ONE, 0x2a, 0, 0),                    // ge
        (0, 0x2b, MINUS_ONE, 1),                    // gt
        (MINUS_ONE, 0x2c, 0, 1),                    // le
        (LOWEST, 0x2d, 0, 1),                       // lt
        (3, 0x2e, 3, 0),                            // ne
    ] {
        let result = on(left, right, operation);
        assert_eq!(result, Ok(wanted), "{left:#x} {operation:#x} {right:#x}");
    }
    for (operation, wanted) in [(0x19, LOWEST), (0x1f, LOWEST), (0x20, LOWEST - 1)] {
        let mut code = constant(LOWEST);
        code.push(operation);
        assert_eq!(run(&code), Ok(wanted), "abs, neg, not: {operation:#x}");
    }
    assert_eq!(on(1, 0, 0x1b), Err(NoValue::Malformed), "division by zero");
    assert_eq!(
        on(1, 0, 0x1d),
        Err(NoValue::Malformed),
        "rest of a division by zero"
    );
}

#[test]
fn values_are_moved_on_the_stack() {
    let values = [0x31, 0x32, 0x33]; // lit1, lit2, lit3
    for (operations, wanted) in [
        (&[0x12][..], [1, 2, 3, 3].as_slice()), // dup
        (&[0x13], &[1, 2]),                     // drop
        (&[0x14], &[1, 2, 3, 2]),               // over
        (&[0x15, 2], &[1, 2, 3, 1]),            // pick
        (&[0x16], &[1, 3, 2]),                  // swap
        (&[0x17], &[3, 1, 2]),                  // rot
        (&[0x96], &[1, 2, 3]),                  // nop
    ] {
        for (from_top, &value) in wanted.iter().rev().enumerate() {
            let mut code = values.to_vec();
            code.extend(operations);
            code.extend(vec![0x13; from_top]);
            assert_eq!(run(&code), Ok(value), "{operations:x?}");
        }
    }
    for too_few in [
        &[0x12][..],
        &[0x31, 0x16],
        &[0x31, 0x32, 0x17],
        &[0x31, 0x15, 1],
        &[],
    ] {
        assert_eq!(run(too_few), Err(NoValue::Malformed), "{too_few:x?}");
    }
}

#[test]
fn registers_and_the_stack_are_read() {
    assert_eq!(run(&[0x77, 0x08]), Ok(STACK + 8), "breg7 8");
    assert_eq!(run(&[0x92, 16, 0x7f]), Ok(0x3_ffff), "bregx 16 -1");
    assert_eq!(run(&[0x77, 0, 0x06]), Ok(0x8786_8584_8382_8180), "deref");
    assert_eq!(run(&[0x77, 1, 0x94, 2]), Ok(0x8281), "deref_size 2");
    assert_eq!(run(&[0x70, 0]), Err(NoValue::Register), "rax is not known");
    assert_eq!(
        run(&[0x92, 17, 0]),
        Err(NoValue::Register),
        "no such register"
    );
    assert_eq!(run(&[0x76, 0, 0x06]), Err(NoValue::Bytes(0x2000)));
    assert_eq!(
        run(&[0x77, 0, 0x94, 3]),
        Err(NoValue::Malformed),
        "deref_size 3"
    );
    assert_eq!(
        run_from(&[0x23, 0x10], Some(0x500)),
        Ok(0x510),
        "plus_uconst on the CFA"
    );
}

/// What linkers write for the PLT: the CFA is 8 bytes further from the 11th byte of an entry on.
#[test]
fn the_expression_of_a_plt() {
    let code = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    assert_eq!(run(&code), Ok(STACK + 8), "ip ends in 0");
}

#[test]
fn branches_go_where_they_say() {
    // lit0, bra +1, lit5 (not skipped)
    assert_eq!(run(&[0x30, 0x28, 1, 0, 0x35]), Ok(5));
    // lit7, lit1, bra +1, lit5 (skipped)
    assert_eq!(run(&[0x37, 0x31, 0x28, 1, 0, 0x35]), Ok(7));
    // A jump to the very end is one.
    assert_eq!(run(&[0x37, 0x2f, 1, 0, 0x35]), Ok(7));
    for target in [2_i16, -5, i16::MAX, i16::MIN] {
        let [low, high] = target.to_le_bytes();
        assert_eq!(run(&[0x37, 0x2f, low, high, 0x35]), Err(NoValue::Malformed));
    }
}

#[test]
fn loops_and_overflows_end() {
    // lit0, skip -3: for ever
    assert_eq!(run(&[0x2f, 0xfd, 0xff]), Err(NoValue::Malformed));
    assert_eq!(run(&[0x31; MAX_DEPTH + 1]), Err(NoValue::Malformed));
    assert_eq!(run(&[0x31; MAX_DEPTH]), Ok(1));
}

#[test]
fn operations_without_a_meaning_here_are_refused() {
    for code in [
        &[0x03, 0, 0, 0, 0, 0, 0, 0, 0][..], // addr
        &[0x31, 0x18],                       // xderef
        &[0x57],                             // reg7
        &[0x91, 0],                          // fbreg
        &[0x31, 0x93, 8],                    // piece
        &[0x97],                             // push_object_address
        &[0x98, 0, 0],                       // call2
        &[0x9c],                             // call_frame_cfa
        &[0x31, 0x9f],                       // stack_value
        &[0xa3, 1, 0x57],                    // entry_value
        &[0x31, 0xa8, 1],                    // convert
        &[0xff],
        &[0x0e, 1, 2], // cut off
    ] {
        assert_eq!(run(code), Err(NoValue::Malformed), "{code:x?}");
    }
}

#[test]
fn the_budget_is_used_up() {
    let stack = UserStack {
        segment: Segment::default(),
        cut_by_budget: false,
    };
    let registers = UserRegisters::new(0, 0);
    let mut reader = StackReader::new(&stack, Mode::Bits64);
    let mut budget = 3;
    let code = [0x31, 0x31];
    assert_eq!(
        evaluate(&code, None, &registers, &mut reader, &mut budget),
        Ok(1)
    );
    assert_eq!(budget, 1);
    let result = evaluate(&code, None, &registers, &mut reader, &mut budget);
    assert_eq!(result, Err(NoValue::Malformed));
}
