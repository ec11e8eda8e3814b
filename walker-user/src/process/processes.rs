//! The address spaces of processes over time.

use std::{collections::VecDeque, fs, io, path::PathBuf, sync::Arc};

use thiserror::Error;

use super::{
    address_space::{AddressSpace, Mapping},
    mapped_file::{Backing, MappedFiles},
    proc_maps::{self, ProcMaps},
    table::{Process, Table},
};
use crate::{
    capture::side_band::{Event, Mmap, SideBand},
    sys::{clock::monotonic_ns, threads::living_thread},
};

/// The most processes that are remembered.
const MAX_PROCESSES: usize = 32_768;
/// The most mappings of all processes together; those that a fork shares count for each.
const MAX_MAPPINGS: usize = 1 << 20;
/// How long a process is remembered after its main thread ended, in nanoseconds of the records'
/// time: its other threads may run a little longer, or for good.
const LINGER_NS: u64 = 1_000_000_000;
/// How long a process is not read again because of lost records: reading takes longest for the
/// processes that can make records be lost.
const READ_AGAIN_NS: u64 = 1_000_000_000;

/// Which processes are of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// Every process.
    All,
    /// These, a command that waits to be executed among them, and what they fork.
    Only(Vec<u32>),
}

/// Why there is no address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoSpace {
    /// It ended before its mappings were read.
    #[error("process ended before its mappings were read")]
    Gone,
    /// `/proc` does not let this user read them.
    #[error("the mappings of the process cannot be read")]
    Denied,
}

/// What happened on the way; all of it makes answers less certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessCounters {
    /// Address spaces read from `/proc`.
    pub read: u64,
    /// Samples of processes that were gone before they could be read.
    pub gone: u64,
    /// Processes forgotten for lack of room.
    pub evicted: u64,
    /// Samples of processes that may have changed while records were lost, and that could not be
    /// read again, or not so soon.
    pub kept_stale: u64,
    /// Processes that executed another program between their first sample and the reading of
    /// `/proc`: until then the wrong program was read.
    pub exec_raced: u64,
    /// Mappings that were too many for one process.
    pub refused_mappings: u64,
    /// Lines of `/proc/PID/maps` that were malformed or too many.
    pub unread_lines: u64,
}

/// The processes.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    follow_all: bool,
    table: Table,
    files: MappedFiles,
    /// Processes whose main thread ended, in the order of time.
    ended: VecDeque<(u64, u32)>,
    /// The time of the last loss of records; 0 if there was none.
    lost_ns: u64,
    counters: ProcessCounters,
}

impl Processes {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(follow: &Follow) -> Self {
        Self::with_limits(follow, PathBuf::from("/proc"), MAX_PROCESSES, MAX_MAPPINGS)
    }

    fn with_limits(
        follow: &Follow,
        proc: PathBuf,
        max_processes: usize,
        max_mappings: usize,
    ) -> Self {
        let mut processes = Self {
            proc,
            follow_all: *follow == Follow::All,
            table: Table::new(max_processes, max_mappings),
            files: MappedFiles::default(),
            ended: VecDeque::new(),
            lost_ns: 0,
            counters: ProcessCounters::default(),
        };
        if let Follow::Only(pids) = follow {
            for pid in pids {
                let unread = processes.unread();
                processes.table.put(*pid, unread);
            }
        }
        processes
    }

    /// Reads the processes of interest that run now, so that what they fork later is known from
    /// its first instruction on. To be called after the side-band reader was opened. Those that
    /// cannot be read are tried again at their first sample.
    pub fn read_running(&mut self) {
        let pids: Vec<u32> = if self.follow_all {
            self.running().unwrap_or_default()
        } else {
            self.table.pids().collect()
        };
        for pid in pids.into_iter().take(self.table.max_processes()) {
            // Tried again when it is needed.
            let _may_be_gone = self.read(pid, u64::MAX);
        }
    }

    fn running(&self) -> io::Result<Vec<u32>> {
        let entries = fs::read_dir(&self.proc)?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.collect())
    }

    /// Applies a record. Records have to come in the order of time.
    pub fn apply(&mut self, record: &SideBand) {
        self.forget_ended(record.time_ns);
        let time = record.time_ns;
        match &record.event {
            Event::Mmap(mmap) => self.map(time, mmap),
            Event::Comm {
                pid, exec: true, ..
            } => self.exec(time, *pid),
            Event::Fork {
                pid, parent_pid, ..
            } if pid != parent_pid => self.fork(time, *pid, *parent_pid),
            Event::Fork { pid, .. } => {
                if let Some(process) = self.table.touch(*pid) {
                    process.threads = true;
                }
            }
            Event::Exit { pid, tid } if pid == tid => self.end(time, *pid),
            Event::Lost { .. } => self.lost_ns = self.lost_ns.max(time),
            Event::Comm { .. } | Event::Exit { .. } | Event::Ksymbol { .. } => {}
        }
    }

    /// The address space of a process at the time of a sample. All records up to that time have to
    /// be applied, and none of later ones.
    ///
    /// # Errors
    /// If the process ran before its records were followed, and is gone or may not be read.
    pub fn space(&mut self, pid: u32, time_ns: u64) -> Result<&AddressSpace, NoSpace> {
        self.forget_ended(time_ns);
        let process = self.table.get(pid);
        let sure = process.is_some_and(|p| p.sure_ns > self.lost_ns);
        match process.map(|p| (p.known_until_ns, p.ended_ns)) {
            None | Some((None, None)) => {
                let read = self.read(pid, time_ns);
                self.counters.gone += u64::from(read == Err(NoSpace::Gone));
                read?;
            }
            Some((None, Some(_))) => {
                self.counters.gone += 1;
                return Err(NoSpace::Gone);
            }
            Some((Some(_), _)) if sure => {}
            Some((Some(read_ns), ended)) => {
                let again = time_ns.saturating_sub(read_ns) >= READ_AGAIN_NS;
                // What has its number after it ended may be another process.
                if ended.is_some() || !again || self.read(pid, time_ns).is_err() {
                    self.counters.kept_stale += 1;
                }
            }
        }
        let process = self.table.touch(pid).ok_or(NoSpace::Gone)?;
        Ok(&process.space)
    }

    /// What happened on the way.
    #[must_use]
    pub fn counters(&self) -> ProcessCounters {
        ProcessCounters {
            evicted: self.table.evicted(),
            ..self.counters
        }
    }

    /// How many processes are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    fn unread(&self) -> Process {
        Process {
            space: Arc::default(),
            known_until_ns: None,
            asked_ns: u64::MAX,
            sure_ns: 0,
            ended_ns: None,
            threads: true,
        }
    }

    /// Reads `/proc/PID/maps` because of a sample of time `asked_ns`.
    fn read(&mut self, pid: u32, asked_ns: u64) -> Result<(), NoSpace> {
        // Before the reading, so that what happens meanwhile is applied once more, which does no
        // harm, and not left out.
        let now = monotonic_ns();
        let mut maps = self.read_maps(pid);
        // That of a main thread that has ended is empty while other threads go on.
        if maps.as_ref().is_ok_and(|maps| maps.space.is_empty())
            && let Some(tid) = living_thread(&self.proc, pid)
            && tid != pid
        {
            maps = self.read_maps(tid);
        }
        let maps = match maps {
            // A process that is about to end has none.
            Ok(maps) if !maps.space.is_empty() => maps,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(NoSpace::Denied);
            }
            Ok(_) | Err(_) => return Err(NoSpace::Gone),
        };
        self.counters.read += 1;
        self.counters.unread_lines += maps.malformed + u64::from(maps.truncated);
        let process = Process {
            space: Arc::new(maps.space),
            known_until_ns: Some(now),
            sure_ns: now,
            asked_ns,
            ..self.unread()
        };
        self.table.put(pid, process);
        Ok(())
    }

    fn read_maps(&mut self, task: u32) -> io::Result<ProcMaps> {
        let maps = fs::File::open(self.proc.join(format!("{task}/maps")))?;
        proc_maps::read(io::BufReader::new(maps), &mut self.files)
    }

    fn map(&mut self, time: u64, mmap: &Mmap) {
        let known = self.table.get(mmap.pid).and_then(|p| p.known_until_ns);
        if known.is_none_or(|known| time <= known) {
            // Contained already, or to be read from /proc when it is needed.
            return;
        }
        let end = mmap.start.saturating_add(mmap.len);
        let mut refused = false;
        let (files, refused_here) = (&mut self.files, &mut refused);
        self.table.change(mmap.pid, |space| {
            if !mmap.executable {
                space.remove(mmap.start, end);
                return;
            }
            let backing = match files.backing_of(mmap) {
                Backing::Anonymous => in_place_of(space, mmap.start, end),
                backing => backing,
            };
            *refused_here = !space.insert(Mapping {
                start: mmap.start,
                end,
                file_offset: mmap.file_offset,
                backing,
            });
        });
        self.counters.refused_mappings += u64::from(refused);
    }

    fn exec(&mut self, time: u64, pid: u32) {
        if let Some(process) = self.table.get(pid) {
            if let Some(known) = process.known_until_ns
                && time <= known
            {
                self.counters.exec_raced += u64::from(process.asked_ns < time);
                return;
            }
        } else if !self.follow_all {
            return;
        }
        let process = Process {
            // Its mappings follow, all of them, however close in time.
            known_until_ns: Some(0),
            sure_ns: time,
            threads: false,
            ..self.unread()
        };
        self.table.put(pid, process);
    }

    fn fork(&mut self, time: u64, pid: u32, parent_pid: u32) {
        let existing = self.table.get(pid);
        if existing.is_some_and(|p| p.known_until_ns.is_some_and(|known| time <= known)) {
            return;
        }
        // What is known of this number was an earlier process; what is not known is one that was
        // asked for, and whose start is seen here.
        let is_earlier = existing.is_some_and(|p| p.known_until_ns.or(p.ended_ns).is_some());
        let unread = self.unread();
        let Some(parent) = self.table.touch(parent_pid) else {
            if is_earlier {
                self.table.remove(pid);
            }
            return;
        };
        // What was read of the parent later than this need not be what the child has.
        let child = if parent.known_until_ns.is_some_and(|known| known < time) {
            Process {
                space: Arc::clone(&parent.space),
                known_until_ns: parent.known_until_ns,
                sure_ns: parent.sure_ns,
                threads: false,
                ..unread
            }
        } else {
            unread
        };
        self.table.put(pid, child);
    }

    fn end(&mut self, time: u64, pid: u32) {
        if let Some(process) = self.table.touch(pid)
            // What was alive when it was read is a later process with this number.
            && process.known_until_ns.is_none_or(|known| known < time)
        {
            process.ended_ns = Some(time);
            self.ended.push_back((time, pid));
        }
    }

    /// Forgets processes that ended long enough before `now_ns`.
    fn forget_ended(&mut self, now_ns: u64) {
        while let Some(&(time, pid)) = self.ended.front()
            && now_ns.saturating_sub(time) >= LINGER_NS
        {
            self.ended.pop_front();
            // Its number may belong to another process by now.
            let Some(process) = self.table.get(pid).filter(|p| p.ended_ns == Some(time)) else {
                continue;
            };
            if process.threads && self.has_other_threads(pid) {
                self.ended.push_back((now_ns, pid));
                if let Some(process) = self.table.touch(pid) {
                    process.ended_ns = Some(now_ns);
                }
            } else {
                self.table.remove(pid);
            }
        }
    }

    /// Whether a process whose main thread ended lives on in others.
    fn has_other_threads(&self, pid: u32) -> bool {
        let main = pid.to_string();
        fs::read_dir(self.proc.join(&main).join("task")).is_ok_and(|tasks| {
            tasks
                .filter_map(Result::ok)
                .any(|task| task.file_name() != *main)
        })
    }
}

/// What memory without a file shows that was mapped over this range: perhaps the code that was
/// there before, which a program has moved.
fn in_place_of(space: &AddressSpace, start: u64, end: u64) -> Backing {
    match space.get(start) {
        Some(before) if end <= before.end => match &before.backing {
            Backing::File(_) => Backing::InPlaceOf(Arc::new(before.clone())),
            Backing::InPlaceOf(file) => Backing::InPlaceOf(Arc::clone(file)),
            _ => Backing::Anonymous,
        },
        _ => Backing::Anonymous,
    }
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
