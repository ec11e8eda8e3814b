//! The clocks: that of samples and records, and this process's own use of the CPU.

use std::{fs, sync::LazyLock, time::Duration};

/// The time now in nanoseconds of `CLOCK_MONOTONIC` as the kernel counts it, which samples and
/// side-band records carry. In a time namespace the clock that processes see is another.
#[must_use]
pub fn monotonic_ns() -> u64 {
    static OFFSET: LazyLock<i64> = LazyLock::new(|| {
        let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        monotonic_offset(&offsets).unwrap_or(0)
    });
    let time = now(libc::CLOCK_MONOTONIC);
    let seen = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    seen.saturating_add_signed(OFFSET.saturating_neg())
}

/// Nanoseconds by which a time namespace's monotonic clock is ahead; `time_namespaces(7)`.
fn monotonic_offset(offsets: &str) -> Option<i64> {
    let line = offsets
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("monotonic"))?;
    let mut numbers = line.split_ascii_whitespace();
    let seconds: i64 = numbers.next()?.parse().ok()?;
    let nanoseconds: i64 = numbers.next()?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
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

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let offsets = "monotonic      -1000  500000000\nboottime   7 0\n";
        assert_eq!(monotonic_offset(offsets), Some(-999_500_000_000));
        assert_eq!(
            monotonic_offset("monotonic           0         0\n"),
            Some(0)
        );
        assert_eq!(monotonic_offset("boottime 1 0"), None);
    }
}
