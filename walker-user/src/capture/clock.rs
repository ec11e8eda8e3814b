//! The event that makes samples if nothing else is asked for, and why the kernel refuses one.

use std::{fs, io};

use perf_event_open_sys::bindings;
use thiserror::Error;

use super::event::EventSpec;
use crate::sys::perf::{Attributes, Rate, SamplingEvent};

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
    /// The CPU does not count it.
    #[error(
        "this machine does not count `{event}` (virtual machines often have no performance \
         counters): -e cpu-clock works everywhere"
    )]
    NotCounted {
        /// The event.
        event: String,
    },
    /// Something else.
    #[error("cannot open the perf event `{event}` on CPU {cpu}: {error}")]
    Open {
        /// The event.
        event: String,
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

/// Cycles where the CPU counts them, in NMIs; else a timer, in whose interrupt code that runs with
/// interrupts off shows up where it turns them on again (most virtual machines).
#[must_use]
pub fn choose() -> EventSpec {
    match SamplingEvent::open(&attributes(CYCLES, 1), 0) {
        Ok(_) => EventSpec::named("cycles"),
        Err(_) => EventSpec::named("cpu-clock"),
    }
}

/// Kind and number of the event that counts cycles.
pub const CYCLES: (u32, u32) = (
    bindings::PERF_TYPE_HARDWARE,
    bindings::PERF_COUNT_HW_CPU_CYCLES,
);
/// The same of the timer.
pub const CPU_CLOCK: (u32, u32) = (
    bindings::PERF_TYPE_SOFTWARE,
    bindings::PERF_COUNT_SW_CPU_CLOCK,
);

/// One of the two, `frequency` times a second.
#[must_use]
pub fn attributes((kind, config): (u32, u32), frequency: u64) -> Attributes {
    Attributes::new(kind, u64::from(config), Rate::Frequency(frequency))
}

/// Why the kernel refused to open an event.
pub(super) fn explain(
    error: io::Error,
    event: &str,
    cpu: u32,
    attributes: &Attributes,
) -> anyhow::Error {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let event = event.to_owned();
    let error = match (attributes.rate, max_frequency()) {
        _ if denied => ClockError::Denied {
            paranoid: paranoid(),
        },
        (Rate::Frequency(frequency), Some(limit))
            if error.raw_os_error() == Some(libc::EINVAL) && frequency > limit =>
        {
            ClockError::TooFast { frequency, limit }
        }
        _ if attributes.kind != bindings::PERF_TYPE_SOFTWARE
            && matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) =>
        {
            ClockError::NotCounted { event }
        }
        _ => ClockError::Open { event, cpu, error },
    };
    error.into()
}
