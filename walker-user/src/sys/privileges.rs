//! Giving up capabilities, which belong to threads: each gives up its own, for good.
//!
//! Which of them what needs is the business of those who call this.

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use caps::{CapSet, CapsHashSet};

use super::priority;

pub use caps::Capability;

/// Whether this process acts as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: it has no arguments and always succeeds.
    unsafe { libc::geteuid() == 0 }
}

/// Gives up all capabilities of this thread, and of threads and processes that it starts from now
/// on, but for these. Returns those of them that it has.
///
/// # Errors
/// If the kernel does not let it.
pub fn keep(kept: &[Capability]) -> io::Result<Vec<Capability>> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept: Vec<Capability> = { kept.iter().copied() }
        .filter(|capability| permitted.contains(capability))
        .collect();
    let left: CapsHashSet = kept.iter().copied().collect();
    // What is executed gets none of the others either. Without the right to say so, what comes
    // next says the same.
    if has(Capability::CAP_SETPCAP) {
        for capability in caps::runtime::thread_all_supported() {
            if !left.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
            }
        }
    }
    no_new_privileges()?;
    for (set, capabilities) in [
        (CapSet::Inheritable, &CapsHashSet::new()),
        (CapSet::Effective, &left),
        (CapSet::Permitted, &left),
    ] {
        caps::set(None, set, capabilities).map_err(io::Error::other)?;
    }
    Ok(kept)
}

/// Whether this thread can use a capability.
#[must_use]
pub fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Whether something works without a capability that this thread has; it has it again afterwards.
///
/// # Errors
/// If the kernel does not let it go or come back.
pub fn works_without(capability: Capability, something: impl FnOnce() -> bool) -> io::Result<bool> {
    let had = has(capability);
    if had {
        caps::drop(None, CapSet::Effective, capability).map_err(io::Error::other)?;
    }
    let works = something();
    if had {
        caps::raise(None, CapSet::Effective, capability).map_err(io::Error::other)?;
    }
    Ok(works)
}

/// Starts a thread of the usual priority that does something and then runs; returns when that has
/// been done.
///
/// # Errors
/// If there can be no thread, or with what went wrong in its beginning.
pub fn start<S>(
    name: &str,
    begin: impl FnOnce() -> io::Result<S> + Send + 'static,
    run: impl FnOnce(S) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (sender, begun) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            priority::usual();
            let (state, told) = match begin() {
                Ok(state) => (Some(state), Ok(())),
                Err(error) => (None, Err(error)),
            };
            if sender.send(told).is_ok()
                && let Some(state) = state
            {
                run(state);
            }
        })?;
    begun
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended in its beginning")))?;
    Ok(thread)
}

/// The user as whom this process does things.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: it takes nothing, touches no memory, and cannot fail.
    unsafe { libc::geteuid() }
}

/// What this thread executes gets nothing that it does not have.
fn no_new_privileges() -> io::Result<()> {
    // SAFETY: this option takes numbers and touches no memory of this process.
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// A line of this thread's status, as a number.
    fn status(name: &str, text: &str) -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    }

    fn own() -> String {
        fs::read_to_string("/proc/thread-self/status").unwrap()
    }

    /// What a thread says that kept some of its capabilities, and what it executed.
    fn after_keeping(kept: &'static [Capability]) -> [String; 2] {
        let kept = move || {
            keep(kept).unwrap();
            let child = Command::new("cat").arg("/proc/self/status").output();
            [own(), String::from_utf8(child.unwrap().stdout).unwrap()]
        };
        thread::spawn(kept).join().unwrap()
    }

    #[test]
    fn a_thread_and_what_it_executes_keep_only_what_is_kept() {
        let before = own();
        for text in after_keeping(&[]) {
            for set in ["CapInh:", "CapPrm:", "CapEff:"] {
                assert_eq!(status(set, &text), 0, "{text}");
            }
            assert_eq!(status("NoNewPrivs:", &text), 1);
        }
        let bit = 1 << Capability::CAP_DAC_READ_SEARCH.index();
        let had = status("CapPrm:", &before);
        for text in after_keeping(&[Capability::CAP_DAC_READ_SEARCH]) {
            assert_eq!(status("CapPrm:", &text), had & bit, "{text}");
            assert_eq!(status("CapEff:", &text), had & bit, "{text}");
        }
        // Other threads are as they were.
        for set in ["CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:"] {
            assert_eq!(status(set, &own()), status(set, &before));
        }
    }

    #[test]
    fn what_is_tried_without_a_capability_does_not_have_it() {
        let before = status("CapEff:", &own());
        let bit = 1 << Capability::CAP_BPF.index();
        let mut without = 0;
        let works = works_without(Capability::CAP_BPF, || {
            without = status("CapEff:", &own());
            false
        });
        assert!(!works.unwrap());
        assert_eq!(without, before & !bit);
        assert_eq!(status("CapEff:", &own()), before);
    }

    #[test]
    fn a_thread_that_does_not_begin_well_does_not_run() {
        let begin = || Err::<(), _>(io::Error::other("a reason"));
        let error = start("test", begin, |()| unreachable!()).unwrap_err();
        assert_eq!(error.to_string(), "a reason");
        let (sender, ran) = mpsc::channel();
        start("test", || Ok(7), move |seven| sender.send(seven).unwrap()).unwrap();
        assert_eq!(ran.recv().unwrap(), 7);
    }
}
