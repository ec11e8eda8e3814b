//! The clocks: that of samples and records, and this process's own use of the CPU.

use std::time::Duration;

/// The time now in nanoseconds of `CLOCK_MONOTONIC`, which samples and side-band records carry.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let time = now(libc::CLOCK_MONOTONIC);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time used by all threads of this process so far.
pub(crate) fn process_cpu_time() -> Duration {
    now(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time used by this thread so far.
pub(crate) fn thread_cpu_time() -> Duration {
    now(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time in nanoseconds of the children that this process has waited for, and of those that they
/// have waited for.
pub(crate) fn children_cpu_ns() -> u64 {
    // SAFETY: all zeroes is a valid value of this struct of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    if result != 0 {
        return 0;
    }
    let ns = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_usec).unwrap_or(0) * 1000
    };
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

fn now(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_is_that_of_instants() {
        // Both read the same clock; only one of them says its value.
        let (instant, before) = (std::time::Instant::now(), monotonic_ns());
        let after = monotonic_ns();
        let elapsed = instant.elapsed().as_nanos();
        assert!(before > 0 && before <= after);
        assert!(u128::from(after - before) <= elapsed);
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = process_cpu_time();
        let mut sum = 0u64;
        while process_cpu_time() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_cpu_time() > before);
    }
}
