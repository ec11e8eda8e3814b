//! This process's own use of the CPU.

use std::time::Duration;

/// CPU time used by all threads of this process so far.
pub(crate) fn process_cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if result != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::process_cpu_time;

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
