//! Waiting for something to become true, which a test does instead of sleeping and hoping.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::guest;

/// Longer than anything takes on a busy machine, which may emulate this one.
pub(crate) fn limit() -> Duration {
    Duration::from_secs(if guest::here() { 240 } else { 60 })
}

/// Waits until `done`, and fails the test if that does not come.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let (begin, limit) = (Instant::now(), limit());
    while !done() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the `stackwalk` with this process ID takes samples: it has mapped its ring buffer,
/// the last step before it starts, and has come by a few times since to look into it.
pub(crate) fn until_sampling(pid: u32) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    until("stackwalk maps its ring buffer", || {
        read("maps").contains("bpf-map")
    });
    let waits = || -> u64 {
        let status = read("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |number| number.trim().parse().unwrap())
    };
    let before = waits();
    until("stackwalk waits for samples", || waits() >= before + 6);
}
