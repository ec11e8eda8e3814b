//! Threads that waited when the sampling of waits began. As long as they do not wake they are in no
//! stack, since a wait is seen from its beginning; how many those are is said here.
//!
//! What they wait for is not looked at.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustc_hash::FxHashMap;

/// Most threads that are remembered.
const MAX_THREADS: usize = 65_536;

/// The threads that waited, and how often each had been switched to another.
#[derive(Debug)]
pub struct Sleepers {
    proc: PathBuf,
    switches: FxHashMap<(u32, u32), u64>,
}

impl Sleepers {
    /// Those that wait now: of these processes and single threads, or of all but this process.
    #[must_use]
    pub fn now(targets: Option<(&[u32], &[u32])>) -> Self {
        Self::in_proc(Path::new("/proc"), targets)
    }

    fn in_proc(proc: &Path, targets: Option<(&[u32], &[u32])>) -> Self {
        let mut sleepers = Self {
            proc: proc.to_owned(),
            switches: FxHashMap::default(),
        };
        match targets {
            None => {
                let own = std::process::id();
                for pid in numbers(proc).filter(|pid| *pid != own) {
                    sleepers.add_process(pid);
                }
            }
            Some((processes, threads)) => {
                for pid in processes {
                    sleepers.add_process(*pid);
                }
                // A thread has a folder in /proc, too, though that does not list it.
                for tid in threads {
                    sleepers.add(*tid, *tid);
                }
            }
        }
        sleepers
    }

    fn add_process(&mut self, pid: u32) {
        for tid in numbers(&self.proc.join(format!("{pid}/task"))) {
            self.add(pid, tid);
        }
    }

    fn add(&mut self, pid: u32, tid: u32) {
        if self.switches.len() < MAX_THREADS
            && let Some(switches) = self.switches_asleep(pid, tid)
        {
            self.switches.insert((pid, tid), switches);
        }
    }

    /// How many have not woken since.
    #[must_use]
    pub fn still(&self) -> usize {
        let same = |((pid, tid), switches): (&(u32, u32), &u64)| {
            self.switches_asleep(*pid, *tid) == Some(*switches)
        };
        self.switches.iter().filter(|thread| same(*thread)).count()
    }

    /// How often a thread was switched to another, if it waits (`proc_pid_status(5)`).
    fn switches_asleep(&self, pid: u32, tid: u32) -> Option<u64> {
        let status = fs::read_to_string(self.proc.join(format!("{pid}/task/{tid}/status"))).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim())
        };
        let waits = field("State:")?.starts_with(['S', 'D']);
        let count = |name: &str| field(name)?.parse::<u64>().ok();
        let switches = count("voluntary_ctxt_switches:")?
            .saturating_add(count("nonvoluntary_ctxt_switches:")?);
        waits.then_some(switches)
    }
}

/// The names of a folder that are numbers.
fn numbers(folder: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(proc: &Path, pid: u32, tid: u32, state: &str, switches: u64) {
        let folder = proc.join(format!("{pid}/task/{tid}"));
        fs::create_dir_all(&folder).unwrap();
        let status = format!(
            "Name:\tx\nState:\t{state}\nvoluntary_ctxt_switches:\t{switches}\n\
             nonvoluntary_ctxt_switches:\t1\n"
        );
        fs::write(folder.join("status"), status).unwrap();
    }

    #[test]
    fn only_threads_that_never_woke_count() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        for (tid, state) in [
            (1, "S (sleeping)"),
            (2, "D (disk sleep)"),
            (3, "R (running)"),
        ] {
            thread(proc, 1, tid, state, 5);
        }
        thread(proc, 9, 9, "S (sleeping)", 5);
        let of_one = Sleepers::in_proc(proc, Some((&[1], &[])));
        assert_eq!(of_one.still(), 2);
        assert_eq!(Sleepers::in_proc(proc, None).still(), 3);
        assert_eq!(Sleepers::in_proc(proc, Some((&[], &[9]))).still(), 1);
        thread(proc, 1, 1, "S (sleeping)", 6);
        thread(proc, 1, 2, "R (running)", 5);
        assert_eq!(of_one.still(), 0);
    }
}
