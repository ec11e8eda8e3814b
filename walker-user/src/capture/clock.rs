//! Which event makes the samples, and the events of all CPUs.

use std::{fs, io};

use thiserror::Error;

use crate::sys::perf::{SamplingClock, SamplingEvent};

/// Why there are no events.
#[derive(Debug, Error)]
pub enum ClockError {
    /// The user may not.
    #[error(
        "the kernel does not let this user open perf events (kernel.perf_event_paranoid is \
         {paranoid}): run with sudo, or give the binary its capabilities with `sudo setcap \
         cap_bpf,cap_perfmon,cap_syslog,cap_sys_ptrace+ep PATH-OF-STACKWALK`"
    )]
    Denied {
        /// The kernel's setting.
        paranoid: String,
    },
    /// More often than the kernel allows.
    #[error(
        "{frequency} Hz is more than the kernel allows: lower -F to at most {limit}, or raise \
         `sysctl kernel.perf_event_max_sample_rate`"
    )]
    TooFast {
        /// What was asked for.
        frequency: u64,
        /// The kernel's limit.
        limit: u64,
    },
    /// Something else.
    #[error("cannot open the perf event {event} on CPU {cpu}: {error}")]
    Open {
        /// perf's name of it.
        event: &'static str,
        /// The CPU.
        cpu: u32,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// The most samples a second that the kernel allows.
#[must_use]
pub fn max_frequency() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").ok()?;
    text.trim().parse().ok()
}

/// The kernel's setting that keeps users from perf events.
#[must_use]
pub fn paranoid() -> String {
    fs::read_to_string("/proc/sys/kernel/perf_event_paranoid")
        .map_or_else(|_| "not readable".to_owned(), |text| text.trim().to_owned())
}

/// Cycles where the CPU counts them, the timer elsewhere (most virtual machines).
#[must_use]
pub fn choose() -> SamplingClock {
    match SamplingEvent::open(SamplingClock::Cycles, 0, 1, false) {
        Ok(_) => SamplingClock::Cycles,
        Err(_) => SamplingClock::CpuClock,
    }
}

/// Opens one disabled event on each of `cpus`. A CPU that went offline meanwhile is left out.
///
/// # Errors
/// If the kernel refuses.
pub fn open_all(
    clock: SamplingClock,
    cpus: &[u32],
    frequency: u64,
    exclude_user: bool,
) -> Result<Vec<SamplingEvent>, ClockError> {
    let mut events = Vec::with_capacity(cpus.len());
    for &cpu in cpus {
        match SamplingEvent::open(clock, cpu, frequency, exclude_user) {
            Ok(event) => events.push(event),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => return Err(explain(error, clock, cpu, frequency)),
        }
    }
    Ok(events)
}

fn explain(error: io::Error, clock: SamplingClock, cpu: u32, frequency: u64) -> ClockError {
    match max_frequency() {
        _ if error.kind() == io::ErrorKind::PermissionDenied => ClockError::Denied {
            paranoid: paranoid(),
        },
        Some(limit) if error.raw_os_error() == Some(libc::EINVAL) && frequency > limit => {
            ClockError::TooFast { frequency, limit }
        }
        _ => ClockError::Open {
            event: clock.name(),
            cpu,
            error,
        },
    }
}
