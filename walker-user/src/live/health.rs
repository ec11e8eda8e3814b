//! How the live view itself is doing: what became of the samples, and what stackwalk costs.
//!
//! Read from `/proc/self`; shown by the page and the terminal.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::push::Pushed;

/// How the live view is doing. All counts are since the start, but for the `rate`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Health {
    /// Events that fired.
    pub taken: u64,
    /// Samples that arrived and are shown.
    pub delivered: u64,
    /// Samples that did not arrive, or could not be shown.
    pub lost: u64,
    /// Samples that nobody asked for.
    pub filtered: u64,
    /// Samples whose stack was walked to its end.
    pub complete: u64,
    /// Samples in the last second.
    pub rate: u64,
    /// What share of one CPU stackwalk used in the last second.
    pub cpu: f64,
    /// Its resident memory, in bytes.
    pub memory: u64,
    /// How many clients listen to the stream.
    pub clients: u64,
    /// Addresses that wait for a name.
    pub unnamed: u64,
    /// How many slots of time are kept at most.
    pub kept_slots: u64,
    /// Samples that were not shown because naming and sending were too slow.
    pub dropped: u64,
    /// Batches that are sent on, if any are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<Pushed>,
}

/// What this process uses.
#[derive(Debug)]
pub(super) struct Usage {
    looked: Instant,
    ticks: u64,
    cpu: f64,
    memory: u64,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self {
            looked: Instant::now(),
            ticks: cpu_ticks(),
            cpu: 0.0,
            memory: resident_bytes(),
        }
    }

    /// The share of one CPU, and the resident bytes; looked up anew once a second.
    pub(super) fn now(&mut self) -> (f64, u64) {
        let passed = self.looked.elapsed();
        if passed >= Duration::from_secs(1) {
            let ticks = cpu_ticks();
            let used = ticks.saturating_sub(self.ticks) as f64 / TICKS_PER_SECOND;
            self.cpu = used / passed.as_secs_f64();
            self.memory = resident_bytes();
            (self.looked, self.ticks) = (Instant::now(), ticks);
        }
        (self.cpu, self.memory)
    }
}

/// `USER_HZ`, which is the same on every x86 kernel.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// User and system time of this process; `proc_pid_stat(5)`, fields 14 and 15.
fn cpu_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields = fields.split_ascii_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// `proc_pid_statm(5)`, field 2.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1);
    pages
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(resident_bytes() > 1 << 20);
        let before = cpu_ticks();
        while cpu_ticks() < before + 2 {
            std::hint::black_box(resident_bytes());
        }
    }
}
