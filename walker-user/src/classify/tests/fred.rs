//! The chain of stacks of a CPU that delivers events by FRED: the stack pointer it pushes is two
//! words further down, below the event's data and a reserved word (`fred.c`, 6.18). The kernel's
//! own lookup (`in_exception_stack()`) does not know of them; here the place is data.

use walker_common::StackKind;

use super::image::{TEXT, dump, machine_64};
use crate::classify::{
    KnownStack, NextSp,
    dump::{DumpEnd, Mode, Start},
};

const TASK_SP: u64 = machine_64::TASK + 0x3e00;
/// What the CPU pushes above `ss`.
const EVENT_DATA: u64 = 0xdead_beef;

#[test]
fn the_link_is_where_the_table_says() {
    let end = machine_64::exception_end(StackKind::Nmi);
    let mut image = machine_64::image();
    image.put(TASK_SP + 0x10, TEXT + 0x11);
    for (below, value) in [
        (16, EVENT_DATA),
        (24, 0x18),
        (32, TASK_SP),
        (40, 0x46),
        (48, 0x10),
        (56, TEXT + 0x32),
    ] {
        image.put(end - below, value);
    }
    let start = Start {
        ip: TEXT + 0x30,
        sp: end - 0x200,
        bp: 0,
    };
    let fred: Vec<KnownStack> = machine_64::percpu()
        .into_iter()
        .map(|stack| match stack.kind.is_exception() {
            true => KnownStack {
                next_sp: NextSp::BelowEnd(32),
                ..stack
            },
            false => stack,
        })
        .collect();
    let (seen, ended) = dump(&machine_64::stacks(&fred), &image, start, Mode::Scan);
    assert_eq!(ended, DumpEnd::EndOfStacks);
    assert_eq!(seen.kinds(), [StackKind::Nmi, StackKind::Task]);
    assert_eq!(seen.addresses(), [TEXT + 0x30, TEXT + 0x32, TEXT + 0x11]);

    // By the rule of older CPUs the walk ends at the event's data: nothing is made up of it.
    let percpu = machine_64::percpu();
    let (seen, ended) = dump(&machine_64::stacks(&percpu), &image, start, Mode::Scan);
    assert_eq!(ended, DumpEnd::UnknownStack { addr: EVENT_DATA });
    assert_eq!(seen.kinds(), [StackKind::Nmi]);
}
