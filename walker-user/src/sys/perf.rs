//! perf events: those that run a BPF program, as aya's own wrapper hides the attributes, the file
//! descriptor and the cookie, and those that tell what processes do with their address spaces.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use perf_event_open_sys::{bindings, ioctls, perf_event_open};

use super::{bpf::link_perf_event, perf_ring::PerfRing};

/// How often a perf event is a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// So many times a second, which the kernel aims at.
    Frequency(u64),
    /// Once in so many events.
    Period(u64),
}

/// What a watchpoint waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Address of the first byte.
    pub address: u64,
    /// How many bytes: 1, 2, 4 or 8.
    pub length: u64,
    /// `HW_BREAKPOINT_*` (`include/uapi/linux/hw_breakpoint.h`).
    pub access: u32,
}

/// What a probe is put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The function of the kernel, or the path of a binary.
    pub place: CString,
    /// Offset in the function or the file.
    pub offset: u64,
}

/// A kind of event, as `perf_event_open(2)` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// `type`.
    pub kind: u32,
    /// `config`.
    pub config: u64,
    /// A watchpoint's.
    pub watch: Option<Watch>,
    /// A probe's.
    pub probe: Option<Probe>,
    /// How often.
    pub rate: Rate,
    /// Nothing in user mode.
    pub exclude_user: bool,
    /// Nothing in the kernel.
    pub exclude_kernel: bool,
    /// How exactly the address is wanted, 0 to 3 (`precise_ip`).
    pub precise: u8,
}

impl Attributes {
    /// An event of a number, everywhere.
    #[must_use]
    pub const fn new(kind: u32, config: u64, rate: Rate) -> Self {
        Self {
            kind,
            config,
            watch: None,
            probe: None,
            rate,
            exclude_user: false,
            exclude_kernel: false,
            precise: 0,
        }
    }
}

/// An open event on one CPU. It samples while it is enabled and stops when dropped.
#[derive(Debug)]
pub struct SamplingEvent {
    // Closed first: it holds the program to the event.
    link: Option<OwnedFd>,
    fd: OwnedFd,
}

impl SamplingEvent {
    /// Opens a disabled event for every task on `cpu`.
    ///
    /// # Errors
    /// As `perf_event_open(2)`: among others `EACCES`/`EPERM` without `CAP_PERFMON`, `ENOENT` for
    /// what the CPU cannot count, `ENODEV` for a CPU that is offline, `EINVAL` for a frequency
    /// above `kernel.perf_event_max_sample_rate`.
    pub fn open(attributes: &Attributes, cpu: u32) -> io::Result<Self> {
        let mut attr = bindings::perf_event_attr {
            size: size_of::<bindings::perf_event_attr>() as u32,
            type_: attributes.kind,
            config: attributes.config,
            ..Default::default()
        };
        match attributes.rate {
            Rate::Frequency(frequency) => {
                attr.__bindgen_anon_1.sample_freq = frequency;
                attr.set_freq(1);
            }
            Rate::Period(period) => attr.__bindgen_anon_1.sample_period = period,
        }
        if let Some(watch) = attributes.watch {
            attr.bp_type = watch.access;
            attr.__bindgen_anon_3.bp_addr = watch.address;
            attr.__bindgen_anon_4.bp_len = watch.length;
        }
        if let Some(probe) = &attributes.probe {
            attr.__bindgen_anon_3.config1 = probe.place.as_ptr() as u64;
            attr.__bindgen_anon_4.config2 = probe.offset;
        }
        attr.set_disabled(1);
        attr.set_exclude_hv(1);
        attr.set_exclude_user(u64::from(attributes.exclude_user));
        attr.set_exclude_kernel(u64::from(attributes.exclude_kernel));
        attr.set_precise_ip(u64::from(attributes.precise));
        open_on_cpu(&mut attr, cpu).map(|fd| Self { link: None, fd })
    }

    /// Makes the event run a program, which is told `cookie`.
    ///
    /// # Errors
    /// As [`link_perf_event`].
    pub fn attach(&mut self, program: BorrowedFd<'_>, cookie: u64) -> io::Result<()> {
        self.link = Some(link_perf_event(program, self.fd.as_fd(), cookie)?);
        Ok(())
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
