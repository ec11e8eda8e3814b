//! Where standard error goes: into a file, and back.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Sends standard error into a file; returns where it went before.
pub(crate) fn replace(file: &File) -> io::Result<OwnedFd> {
    // SAFETY: no preconditions; what is returned is a new descriptor, or an error.
    let before = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    if before < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made above, and nobody else has it.
    let before = unsafe { OwnedFd::from_raw_fd(before) };
    point(file.as_raw_fd())?;
    Ok(before)
}

/// Sends standard error to where it went before.
pub(crate) fn restore(before: &OwnedFd) -> io::Result<()> {
    point(before.as_raw_fd())
}

fn point(to: i32) -> io::Result<()> {
    // SAFETY: both descriptors are open, as their owners are borrowed or are standard error.
    match unsafe { libc::dup2(to, libc::STDERR_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
