//! perf events that run a BPF program. aya's own wrapper cannot set `exclude_user` or keep the
//! file descriptor, so the event is opened here.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use perf_event_open_sys::{bindings, ioctls, perf_event_open};

/// What makes a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingClock {
    /// CPU cycles counted by the hardware; the sample is taken in an NMI.
    Cycles,
    /// A high-resolution timer per CPU; the sample is taken in its interrupt, so code that runs
    /// with interrupts off shows up where it turns them on again.
    CpuClock,
}

impl SamplingClock {
    /// perf's name of the event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cycles => "cycles",
            Self::CpuClock => "cpu-clock",
        }
    }
}

/// An open event on one CPU. It samples while it is enabled and stops when dropped.
#[derive(Debug)]
pub struct SamplingEvent {
    fd: OwnedFd,
}

impl SamplingEvent {
    /// Opens a disabled event for every task on `cpu`, at `frequency` samples a second.
    ///
    /// # Errors
    /// As `perf_event_open(2)`: among others `EACCES`/`EPERM` without `CAP_PERFMON`, `ENOENT` for
    /// cycles where there is no PMU, `ENODEV` for a CPU that is offline, `EINVAL` for a frequency
    /// above `kernel.perf_event_max_sample_rate`.
    pub fn open(
        clock: SamplingClock,
        cpu: u32,
        frequency: u64,
        exclude_user: bool,
    ) -> io::Result<Self> {
        let mut attr = bindings::perf_event_attr {
            size: size_of::<bindings::perf_event_attr>() as u32,
            ..Default::default()
        };
        (attr.type_, attr.config) = match clock {
            SamplingClock::Cycles => (
                bindings::PERF_TYPE_HARDWARE,
                u64::from(bindings::PERF_COUNT_HW_CPU_CYCLES),
            ),
            SamplingClock::CpuClock => (
                bindings::PERF_TYPE_SOFTWARE,
                u64::from(bindings::PERF_COUNT_SW_CPU_CLOCK),
            ),
        };
        attr.__bindgen_anon_1.sample_freq = frequency;
        attr.set_freq(1);
        attr.set_disabled(1);
        attr.set_exclude_hv(1);
        attr.set_exclude_user(u64::from(exclude_user));
        let cpu = i32::try_from(cpu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: `attr` is a valid attribute whose size field is its size.
        let fd = unsafe {
            perf_event_open(
                &raw mut attr,
                -1,
                cpu,
                -1,
                bindings::PERF_FLAG_FD_CLOEXEC.into(),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Makes the event run a perf_event program.
    ///
    /// # Errors
    /// As `ioctl(PERF_EVENT_IOC_SET_BPF)`.
    pub fn attach(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: both descriptors are open; the kernel takes its own reference to the program.
        check(unsafe { ioctls::SET_BPF(self.fd.as_raw_fd(), program.as_raw_fd() as u32) })
    }

    /// Starts sampling.
    ///
    /// # Errors
    /// As `ioctl(PERF_EVENT_IOC_ENABLE)`.
    pub fn enable(&self) -> io::Result<()> {
        // SAFETY: the descriptor is an open perf event.
        check(unsafe { ioctls::ENABLE(self.fd.as_raw_fd(), 0) })
    }

    /// Stops sampling. Once this returns no program is running for the event.
    ///
    /// # Errors
    /// As `ioctl(PERF_EVENT_IOC_DISABLE)`.
    pub fn disable(&self) -> io::Result<()> {
        // SAFETY: the descriptor is an open perf event.
        check(unsafe { ioctls::DISABLE(self.fd.as_raw_fd(), 0) })
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
