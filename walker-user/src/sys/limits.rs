//! What the kernel lets this process have, and what becomes of it in those that it starts.

use std::{io, sync::OnceLock};

/// The limit of open files that this process was started with.
static GIVEN: OnceLock<libc::rlimit> = OnceLock::new();

/// How many files this process may have open at once.
#[must_use]
pub fn open_files() -> u64 {
    get(libc::RLIMIT_NOFILE).map_or(0, |limit| limit.rlim_cur)
}

/// Lets this process open as many files as it may allow itself: many small processes need many.
/// What it starts gets back what it was given, as a program that uses `select(2)` must.
pub fn raise_open_files() {
    let Some(mut limit) = get(libc::RLIMIT_NOFILE) else {
        return;
    };
    let _given = GIVEN.set(limit);
    limit.rlim_cur = limit.rlim_max;
    // It always may, and where it may not it has the limit that it had.
    let _raised = set(libc::RLIMIT_NOFILE, &limit);
}

/// Makes writing beyond the limit of file sizes (`ulimit -f`) an error like a full disk is. Otherwise
/// the kernel ends the process.
pub fn ignore_file_size_signal() {
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Undoes both in a forked child. Only calls that are async-signal-safe are made.
///
/// # Errors
/// If the kernel refuses, which it has no reason to.
pub(crate) fn give_back() -> io::Result<()> {
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
    match GIVEN.get() {
        Some(limit) => set(libc::RLIMIT_NOFILE, limit),
        None => Ok(()),
    }
}

fn get(resource: libc::__rlimit_resource_t) -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    let result = unsafe { libc::getrlimit(resource, &raw mut limit) };
    (result == 0).then_some(limit)
}

fn set(resource: libc::__rlimit_resource_t, limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: the kernel only reads `limit`.
    match unsafe { libc::setrlimit(resource, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_the_one_that_proc_shows() {
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files"));
        let shown = line.unwrap().split_whitespace().nth(3).unwrap();
        assert_eq!(super::open_files(), shown.parse::<u64>().unwrap());
    }
}
