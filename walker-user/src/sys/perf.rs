//! perf events: those that run a BPF program, as aya's own wrapper cannot set `exclude_user` or keep
//! the file descriptor, and those that tell what processes do with their address spaces.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use perf_event_open_sys::{bindings, ioctls, perf_event_open};

use super::perf_ring::PerfRing;

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
        open_on_cpu(&mut attr, cpu).map(|fd| Self { fd })
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

/// An event that counts nothing, but makes the kernel write a record for what any task on one CPU
/// does: mapping code, executing, forking, ending, and for kernel symbols that come and go.
#[derive(Debug)]
pub struct SideBandEvent {
    ring: PerfRing,
    // Kept open: the event ends with its descriptor.
    _fd: OwnedFd,
    has_build_ids: bool,
}

impl SideBandEvent {
    /// Opens it on `cpu`, enabled, with a ring buffer of `pages` pages (a power of two). Records
    /// carry the time of `CLOCK_MONOTONIC`. If the kernel does not allow that much locked memory,
    /// the ring buffer is smaller.
    ///
    /// # Errors
    /// As `perf_event_open(2)` and `mmap(2)`: among others `EACCES`/`EPERM` without
    /// `CAP_PERFMON`, `ENODEV` for a CPU that is offline.
    pub fn open(cpu: u32, pages: usize) -> io::Result<Self> {
        let (fd, has_build_ids) = match Self::open_with(cpu, true) {
            // Kernels before 5.12 cannot tell build IDs.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (Self::open_with(cpu, false)?, false)
            }
            other => (other?, true),
        };
        let mut pages = pages;
        let ring = loop {
            match PerfRing::map(fd.as_fd(), pages) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && pages > 1 => {
                    pages /= 2;
                }
                other => break other?,
            }
        };
        Ok(Self {
            ring,
            _fd: fd,
            has_build_ids,
        })
    }

    fn open_with(cpu: u32, build_id: bool) -> io::Result<OwnedFd> {
        let mut attr = bindings::perf_event_attr {
            type_: bindings::PERF_TYPE_SOFTWARE,
            size: size_of::<bindings::perf_event_attr>() as u32,
            config: bindings::PERF_COUNT_SW_DUMMY.into(),
            sample_type: u64::from(bindings::PERF_SAMPLE_TID | bindings::PERF_SAMPLE_TIME),
            clockid: libc::CLOCK_MONOTONIC,
            ..Default::default()
        };
        attr.set_mmap(1);
        attr.set_mmap2(1);
        attr.set_build_id(build_id.into());
        attr.set_comm(1);
        attr.set_comm_exec(1);
        attr.set_task(1);
        attr.set_ksymbol(1);
        attr.set_sample_id_all(1);
        attr.set_use_clockid(1);
        // Whoever wants the records comes by; nobody is to be woken.
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = u32::MAX;
        open_on_cpu(&mut attr, cpu)
    }

    /// The records.
    pub fn ring(&mut self) -> &mut PerfRing {
        &mut self.ring
    }

    /// Whether records of mappings carry build IDs where the files have them.
    #[must_use]
    pub const fn has_build_ids(&self) -> bool {
        self.has_build_ids
    }
}

fn open_on_cpu(attr: &mut bindings::perf_event_attr, cpu: u32) -> io::Result<OwnedFd> {
    let cpu = i32::try_from(cpu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: `attr` is a valid attribute whose size field is its size.
    let fd = unsafe {
        perf_event_open(
            &raw mut *attr,
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
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
