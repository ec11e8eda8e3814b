//! Limits that a process sets to itself.

use std::io;

/// Bounds this process: it gets no more than `memory` bytes of memory of its own (files it maps
/// are not counted), leaves no core dump, and ends with the thread that started it.
///
/// # Errors
/// As `setrlimit(2)` and `prctl(2)`.
pub(crate) fn confine(memory: u64) -> io::Result<()> {
    limit(libc::RLIMIT_DATA, memory)?;
    limit(libc::RLIMIT_CORE, 0)?;
    // SAFETY: this option takes one number and touches no memory of this process.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn limit(resource: libc::__rlimit_resource_t, bytes: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_max = limit.rlim_max.min(bytes);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid for the duration of the call, which only reads it.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
