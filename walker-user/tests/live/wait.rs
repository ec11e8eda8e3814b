//! Waiting for something to become true, which a test does instead of sleeping and hoping.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// Longer than anything takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `done`, and fails the test if that does not come.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
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
