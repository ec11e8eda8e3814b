//! What aya does not give: a link of a program to a perf event that was opened elsewhere, with a
//! cookie, and waiting until programs that run have ended.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `BPF_LINK_CREATE` (`include/uapi/linux/bpf.h`).
const BPF_LINK_CREATE: libc::c_long = 28;
/// `BPF_PERF_EVENT`, a kind of attachment.
const BPF_PERF_EVENT: u32 = 41;

/// `struct { … } link_create` of `union bpf_attr`, as far as it is used for perf events (5.15).
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    bpf_cookie: u64,
}

/// Makes a perf event run `program`, to which `bpf_get_attach_cookie()` then says `cookie`. It ends
/// when the link is closed.
///
/// # Errors
/// As `bpf(2)`: `EINVAL` before 5.15, or if the program is not of the event's kind.
pub fn link_perf_event(
    program: BorrowedFd<'_>,
    event: BorrowedFd<'_>,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let attr = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_fd: event.as_raw_fd().cast_unsigned(),
        attach_type: BPF_PERF_EVENT,
        flags: 0,
        bpf_cookie: cookie,
    };
    // SAFETY: `attr` is what the command reads, and as long as is said.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_CREATE,
            &raw const attr,
            size_of::<LinkCreate>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the call has just returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until every program that runs now has ended: they run as RCU readers, and this ends when
/// all of them that were there have gone (`membarrier(2)`, `kernel/sched/membarrier.c`, 6.18). Where
/// the kernel does not offer it (CPUs without a tick) nothing is waited for.
pub fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the command takes no memory.
    let _refused = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
}
