//! What interrupts are called.
//!
//! Numbers and names are those of x86 Linux: softirqs of `include/linux/interrupt.h`, vectors of
//! `arch/x86/include/asm/irq_vectors.h` (both 6.18, and the same since 5.4).

use walker_common::{
    maps::{IRQ_HARD, IRQ_SOFT},
    wire::SampleHeader,
};

use crate::capture::record::name_text;

/// Softirqs by their index.
const SOFTIRQS: [&str; 10] = [
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
];
/// Interrupts that CPUs send themselves and each other.
const VECTORS: [(u32, &str); 7] = [
    (0xec, "local timer"),
    (0xf6, "irq work"),
    (0xf7, "platform IPI"),
    (0xfa, "thermal"),
    (0xfb, "function call, single"),
    (0xfc, "function call"),
    (0xfd, "reschedule"),
];

/// What the interrupt of a sample is called, in brackets.
#[must_use]
pub fn name(header: &SampleHeader) -> String {
    let number = (header.subject & 0xffff_ffff) as u32;
    let of_table =
        |known: Option<&&str>| known.map_or_else(|| number.to_string(), |name| (*name).to_owned());
    match (header.subject >> 32) as u32 {
        IRQ_HARD => {
            let name = name_text(&header.subject_name);
            format!("[irq {number} {name}]")
        }
        IRQ_SOFT => format!("[softirq {}]", of_table(SOFTIRQS.get(number as usize))),
        _ => {
            let known = VECTORS.iter().find(|(vector, _)| *vector == number);
            match known {
                Some((_, name)) => format!("[{name} interrupt]"),
                None => format!("[interrupt vector {number:#x}]"),
            }
        }
    }
}
