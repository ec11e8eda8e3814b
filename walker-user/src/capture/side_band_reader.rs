//! Reads what the kernel tells of processes, on all CPUs, in the order of time.

use std::io;

use thiserror::Error;

use super::{
    side_band::SideBand,
    side_band_queue::{SideBandCounters, SideBandQueue},
};
use crate::sys::{clock::monotonic_ns, perf::SideBandEvent};

/// Pages of each CPU's ring buffer, if nobody asks for another number: 256 KiB hold about two
/// thousand records of mappings.
pub const DEFAULT_PAGES: usize = 64;

/// Why there is no reader.
#[derive(Debug, Error)]
pub enum SideBandOpenError {
    /// The kernel refused an event.
    #[error("cannot follow what processes map on CPU {cpu}: {error}")]
    Event {
        /// The CPU.
        cpu: u32,
        /// The kernel's reason.
        error: io::Error,
    },
    /// Every CPU was offline.
    #[error("cannot follow what processes map: none of the CPUs is online")]
    NoCpu,
}

/// The events of all CPUs with their records.
#[derive(Debug)]
pub struct SideBandReader {
    events: Vec<SideBandEvent>,
    queue: SideBandQueue,
    record: Vec<u8>,
    /// When the last complete read of all ring buffers began.
    read_began_ns: u64,
    broken: u64,
}

impl SideBandReader {
    /// Starts. From the return of this on every record is seen. A CPU that is offline is left out.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(cpus: &[u32], pages: usize) -> Result<Self, SideBandOpenError> {
        let mut events = Vec::with_capacity(cpus.len());
        for &cpu in cpus {
            match SideBandEvent::open(cpu, pages) {
                Ok(event) => events.push(event),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(SideBandOpenError::Event { cpu, error }),
            }
        }
        if events.is_empty() {
            return Err(SideBandOpenError::NoCpu);
        }
        Ok(Self {
            events,
            queue: SideBandQueue::new(),
            record: Vec::new(),
            read_began_ns: 0,
            broken: 0,
        })
    }

    /// Whether the kernel tells build IDs of mapped files.
    #[must_use]
    pub fn has_build_ids(&self) -> bool {
        self.events.iter().all(SideBandEvent::has_build_ids)
    }

    /// Empties the ring buffers into memory. To be called at least as often as samples are read,
    /// also when there are none, so that the ring buffers do not overflow.
    pub fn read(&mut self) {
        let began = monotonic_ns();
        let mut broken = 0;
        for event in &mut self.events {
            let ring = event.ring();
            ring.drain(&mut self.record, |record| self.queue.push(record));
            broken += ring.broken();
        }
        if broken > self.broken {
            self.queue.push_loss(began, broken - self.broken);
            self.broken = broken;
        }
        self.read_began_ns = began;
    }

    /// The records up to `time_ns` in the order of time; each is given out once. If the ring
    /// buffers were last read before that time, they are read first, so that nothing that
    /// happened before a sample of that time is missing.
    ///
    /// The order holds for what depends on each other: a task's record is written before the task
    /// goes on, and before any task that it makes or wakes runs.
    pub fn read_until(&mut self, time_ns: u64) -> impl Iterator<Item = SideBand> + '_ {
        if self.read_began_ns <= time_ns {
            self.read();
        }
        std::iter::from_fn(move || self.queue.pop_until(time_ns))
    }

    /// Whether a process has executed a program since this was last asked.
    pub fn take_exec_came(&mut self) -> bool {
        self.queue.take_exec_came()
    }

    /// What came of the records.
    #[must_use]
    pub const fn counters(&self) -> SideBandCounters {
        self.queue.counters()
    }
}
