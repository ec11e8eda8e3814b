//! A computation that is always the same: how long it takes says how fast the machine is right now.

use std::hint::black_box;

use crate::{ci::stats::Random, sys::clock::thread_cpu_time};

/// About 10 ms of a present CPU.
const STEPS: usize = 10_000_000;
/// The fastest of so many counts: the others were disturbed.
const TRIES: usize = 3;

/// How long it takes, in nanoseconds of CPU time.
pub(super) fn calibrate() -> u64 {
    let once = || {
        let before = thread_cpu_time();
        let mut random = Random::new(1);
        for _ in 0..STEPS {
            black_box(random.next());
        }
        let took = thread_cpu_time().saturating_sub(before);
        u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
    };
    (0..TRIES).map(|_| once()).min().unwrap_or(0)
}
