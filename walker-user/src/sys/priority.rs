//! The priority of the thread that takes samples out of the buffers. On a machine whose CPUs are all
//! busy it would wait its turn like any other, while the buffers run full.

use std::io;

/// As `nice -n`: with the weight of about nine other threads.
const RAISED: i32 = -10;

/// This thread's priority is raised until this is dropped. What it starts meanwhile inherits it.
#[derive(Debug)]
pub(crate) struct Raised {
    before: i32,
}

impl Raised {
    /// Raises the priority of this thread; `None` if that is not allowed, or whoever started it gave
    /// it a priority on purpose.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: on Linux, 0 stands for the calling thread; there are no other preconditions.
        let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        (before == 0 && set(RAISED).is_ok()).then_some(Self { before })
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // It is always allowed to ask for less.
        let _lowered = set(self.before);
    }
}

/// Gives this thread the usual priority, if it has inherited one that is raised.
pub(crate) fn usual() {
    // SAFETY: see above.
    if unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } == RAISED {
        // It is always allowed to ask for less.
        let _lowered = set(0);
    }
}

fn set(nice: i32) -> io::Result<()> {
    // SAFETY: see above.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        // SAFETY: see above.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn the_priority_is_as_before_afterwards() {
        let before = nice();
        let raised = Raised::new();
        if before == 0 && raised.is_some() {
            assert_eq!(nice(), RAISED);
        }
        drop(raised);
        assert_eq!(nice(), before);
    }
}
