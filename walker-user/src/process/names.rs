//! The name of each process: that of its main thread when its program was first seen. Threads have
//! names of their own, which samples bring with them, and a thread that takes another name makes no
//! other process of it.
//!
//! A name is learned from the first sample of the main thread, from `/proc`, or from the record of
//! an exec. Not what a process had mapped: that is [`super::processes`]'s.

use std::{fs, path::PathBuf};

use rustc_hash::FxHashMap;

use crate::capture::side_band::{Event, SideBand};

/// Most processes whose names are remembered. Past that all are forgotten and learned again.
const MAX_NAMES: usize = 65_536;

/// A name as the kernel has it (`TASK_COMM_LEN`), zero padded.
pub type Comm = [u8; 16];

/// The names of processes.
#[derive(Debug)]
pub struct ProcessNames {
    proc: PathBuf,
    names: FxHashMap<u32, Comm>,
    /// Whether records of execs come: then a main thread that has another name renamed itself.
    has_execs: bool,
}

impl ProcessNames {
    /// No process is known. `has_execs` says whether [`ProcessNames::apply`] is called with all records;
    /// without them a main thread of another name is taken for another program.
    #[must_use]
    pub fn new(has_execs: bool) -> Self {
        Self {
            proc: PathBuf::from("/proc"),
            names: FxHashMap::default(),
            has_execs,
        }
    }

    /// Applies a record of what a process did.
    pub fn apply(&mut self, record: &SideBand) {
        match &record.event {
            Event::Comm {
                pid,
                exec: true,
                name,
                ..
            } => self.put(*pid, comm(name)),
            // What was known by this number was an earlier process.
            Event::Fork {
                pid, parent_pid, ..
            } if pid != parent_pid => {
                self.names.remove(pid);
            }
            // An exec may be among them.
            Event::Lost { .. } => self.names.clear(),
            _ => {}
        }
    }

    /// The name of the process of a sample of this thread, which has this name.
    pub fn of_sample(&mut self, pid: u32, tid: u32, thread: Comm) -> Comm {
        let is_main = pid == tid;
        match self.names.get(&pid) {
            Some(name) if !is_main || self.has_execs || *name == thread => *name,
            _ => {
                let name = match is_main {
                    true => thread,
                    false => self.read(pid).unwrap_or(thread),
                };
                self.put(pid, name);
                name
            }
        }
    }

    fn put(&mut self, pid: u32, name: Comm) {
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.insert(pid, name);
    }

    /// The main thread's name, unless the process is gone.
    fn read(&self, pid: u32) -> Option<Comm> {
        let text = fs::read(self.proc.join(format!("{pid}/comm"))).ok()?;
        let name = text.strip_suffix(b"\n").unwrap_or(&text);
        (!name.is_empty()).then(|| comm(name))
    }
}

/// A name cut to what the kernel keeps of it.
fn comm(name: &[u8]) -> Comm {
    let mut comm = [0; 16];
    let length = name.len().min(comm.len() - 1);
    comm[..length].copy_from_slice(&name[..length]);
    comm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event: Event) -> SideBand {
        SideBand {
            time_ns: 1,
            pid: 1,
            tid: 1,
            event,
        }
    }

    #[test]
    fn a_thread_names_itself_and_not_its_process() {
        let mut names = ProcessNames::new(true);
        assert_eq!(names.of_sample(7, 7, comm(b"server")), comm(b"server"));
        assert_eq!(names.of_sample(7, 8, comm(b"job A")), comm(b"server"));
        assert_eq!(names.of_sample(7, 8, comm(b"job B")), comm(b"server"));
        assert_eq!(names.of_sample(7, 7, comm(b"renamed")), comm(b"server"));
    }

    #[test]
    fn another_program_has_another_name() {
        let mut names = ProcessNames::new(true);
        names.of_sample(7, 7, comm(b"sh"));
        names.apply(&record(Event::Comm {
            pid: 7,
            tid: 7,
            exec: true,
            name: b"ls".to_vec(),
        }));
        assert_eq!(names.of_sample(7, 7, comm(b"ls")), comm(b"ls"));
        // The number was given to another process, whose name is not known yet.
        names.apply(&record(Event::Fork {
            pid: 7,
            parent_pid: 1,
            tid: 7,
            parent_tid: 1,
        }));
        assert_eq!(names.of_sample(7, 7, comm(b"cat")), comm(b"cat"));
        // A new thread is no new process.
        names.apply(&record(Event::Fork {
            pid: 7,
            parent_pid: 7,
            tid: 9,
            parent_tid: 7,
        }));
        assert_eq!(names.of_sample(7, 9, comm(b"worker")), comm(b"cat"));
        names.apply(&record(Event::Lost { count: 1 }));
        assert_eq!(names.of_sample(7, 7, comm(b"dog")), comm(b"dog"));
    }

    #[test]
    fn without_records_the_main_thread_says_when_the_program_is_another() {
        let mut names = ProcessNames::new(false);
        names.of_sample(7, 7, comm(b"sh"));
        assert_eq!(names.of_sample(7, 7, comm(b"ls")), comm(b"ls"));
        assert_eq!(names.of_sample(7, 8, comm(b"worker")), comm(b"ls"));
    }

    #[test]
    fn a_process_that_is_met_by_a_thread_is_read() {
        let own = std::process::id();
        let text = fs::read("/proc/self/comm").unwrap();
        let mut names = ProcessNames::new(true);
        let name = names.of_sample(own, own + 1, comm(b"worker"));
        assert_eq!(name, comm(text.trim_ascii_end()));
        // One that is gone is called as the thread that is known of it.
        assert_eq!(names.of_sample(u32::MAX, 1, comm(b"last")), comm(b"last"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut names = ProcessNames::new(true);
        for pid in 0..2 * MAX_NAMES as u32 {
            names.of_sample(pid, pid, comm(b"p"));
        }
        assert!(names.names.len() <= MAX_NAMES);
    }
}
