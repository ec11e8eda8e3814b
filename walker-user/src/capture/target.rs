//! What is to be sampled: everything, some processes, some threads, or a command.

use std::{fs, path::Path};

use thiserror::Error;

use crate::sys::threads::{has_ended, living_thread, state_and_start};

const PROC: &str = "/proc";
const PROCESS: &str = "process";

/// What to sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every task on every CPU.
    System,
    /// These processes, all their threads, and what they fork from now on.
    Processes(Vec<RunningTask>),
    /// These threads, and what they create from now on.
    Threads(Vec<RunningTask>),
}

/// A task that was there when it was looked up. Its start time tells it from a later task with
/// the same ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningTask {
    /// The process.
    pub pid: u32,
    /// The thread; for a process its main thread.
    pub tid: u32,
    /// Whether all threads of the process are meant.
    whole_process: bool,
    started: u64,
}

/// Why something cannot be a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// There is none with this ID.
    #[error("there is no {what} {id}: `ps -eLf` lists those that are")]
    NotFound {
        /// `process` or `thread`.
        what: &'static str,
        /// The ID.
        id: u32,
    },
    /// It has ended but its parent has not collected it.
    #[error("{what} {id} has already ended")]
    Ended {
        /// `process` or `thread`.
        what: &'static str,
        /// The ID.
        id: u32,
    },
    /// The ID of a thread was given as that of a process.
    #[error("{id} is a thread of process {pid}: use `-p {pid}` for all of it, or `-t {id}`")]
    IsThread {
        /// The ID.
        id: u32,
        /// The process it belongs to.
        pid: u32,
    },
}

impl RunningTask {
    /// Looks up a process.
    ///
    /// # Errors
    /// If there is none with this ID, or it has ended.
    pub fn process(pid: u32) -> Result<Self, TargetError> {
        let task = Self::look_up(PROCESS, pid)?;
        if task.pid == pid {
            Ok(task)
        } else {
            Err(TargetError::IsThread {
                id: pid,
                pid: task.pid,
            })
        }
    }

    /// Looks up a thread.
    ///
    /// # Errors
    /// If there is none with this ID, or it has ended.
    pub fn thread(tid: u32) -> Result<Self, TargetError> {
        Self::look_up("thread", tid)
    }

    fn look_up(what: &'static str, id: u32) -> Result<Self, TargetError> {
        let not_found = TargetError::NotFound { what, id };
        // /proc/ID exists for every thread, though only processes are listed there.
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok();
        let status = status.ok_or(not_found.clone())?;
        let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        let pid = pid
            .and_then(|pid| pid.trim().parse().ok())
            .ok_or(not_found.clone())?;
        let proc = Path::new(PROC);
        let (_, started) = state_and_start(proc, pid, id).ok_or(not_found)?;
        let whole_process = what == PROCESS && pid == id;
        let task = Self {
            pid,
            tid: id,
            whole_process,
            started,
        };
        if task.is_alive() {
            Ok(task)
        } else {
            Err(TargetError::Ended { what, id })
        }
    }

    /// Whether it still runs: neither gone, nor a zombie, nor replaced by another task with its
    /// ID. A process runs as long as any of its threads, though its main thread may have ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let proc = Path::new(PROC);
        state_and_start(proc, self.pid, self.tid).is_some_and(|(state, started)| {
            started == self.started
                && (!has_ended(state)
                    || (self.whole_process && living_thread(proc, self.pid).is_some()))
        })
    }
}

impl Target {
    /// Whether any of the tasks named at the start still runs. The whole system always does.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self {
            Self::System => true,
            Self::Processes(tasks) | Self::Threads(tasks) => {
                tasks.iter().any(RunningTask::is_alive)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_is_alive_and_its_threads_are_threads() {
        let pid = std::process::id();
        let process = RunningTask::process(pid).unwrap();
        assert!(process.is_alive());
        std::thread::spawn(move || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let tid = status
                .lines()
                .find_map(|line| line.strip_prefix("Pid:"))
                .unwrap();
            let tid = tid.trim().parse().unwrap();
            assert_eq!(RunningTask::thread(tid).unwrap().pid, pid);
            assert_eq!(
                RunningTask::process(tid),
                Err(TargetError::IsThread { id: tid, pid })
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_id_that_nobody_has_is_not_found() {
        // Above the largest pid_max there can be.
        let error = RunningTask::process(1 << 23).unwrap_err();
        assert_eq!(
            error,
            TargetError::NotFound {
                what: "process",
                id: 1 << 23
            }
        );
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let task = RunningTask::process(child.id()).unwrap();
        drop(child.stdin.take());
        while task.is_alive() {
            std::thread::yield_now();
        }
        let error = RunningTask::process(child.id()).unwrap_err();
        assert_eq!(
            error,
            TargetError::Ended {
                what: "process",
                id: child.id()
            }
        );
        child.wait().unwrap();
    }
}
