//! Batches that wait to be sent, oldest first: in memory, or in a folder if there is one.
//!
//! Bounded: when they get too many the oldest are dropped. A batch is written to the folder only
//! when it has to wait.

use std::{collections::VecDeque, io, path::PathBuf};

use super::spool::{Entry, Folder, MAX_BATCH};

/// Most batches in memory.
pub(super) const MAX_IN_MEMORY: usize = 16;
/// Most bytes of them.
const MAX_BYTES: u64 = 64 << 20;

/// The folder for what has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Where it is.
    pub folder: PathBuf,
    /// Most bytes of all batches in it.
    pub limit: u64,
}

/// The samples of a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// Milliseconds since 1970.
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
    /// Gzipped pprof.
    pub(super) body: Vec<u8>,
}

/// A batch that waits; its bytes are in the folder if they are not here.
#[derive(Debug)]
struct Waiting {
    entry: Entry,
    body: Option<Vec<u8>>,
}

/// What waits.
#[derive(Debug)]
pub(super) struct Queue {
    spool: Option<(Spool, Folder)>,
    waiting: VecDeque<Waiting>,
    number: u64,
    /// Batches that were dropped as they were too many, or could not be read.
    dropped: u64,
}

impl Queue {
    /// With what waits in the folder.
    pub(super) fn open(spool: Option<&Spool>) -> io::Result<Self> {
        let mut queue = Self {
            spool: None,
            waiting: VecDeque::new(),
            number: 0,
            dropped: 0,
        };
        let Some(spool) = spool else {
            return Ok(queue);
        };
        let folder = Folder::open(&spool.folder)?;
        let (entries, too_many) = folder.entries()?;
        for entry in &too_many {
            folder.remove(entry);
            queue.dropped += 1;
        }
        queue.number = entries.last().map_or(0, |entry| entry.number + 1);
        queue.waiting = entries
            .into_iter()
            .map(|entry| Waiting { entry, body: None })
            .collect();
        queue.spool = Some((spool.clone(), folder));
        queue.trim();
        Ok(queue)
    }

    pub(super) fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref().map(|(spool, _)| spool)
    }

    /// Changes how much may be in the folder.
    pub(super) fn limit(&mut self, limit: u64) {
        if let Some((spool, _)) = &mut self.spool {
            spool.limit = limit;
        }
        self.trim();
    }

    pub(super) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn add(&mut self, batch: Batch) {
        let entry = Entry {
            number: self.number,
            from_ms: batch.from_ms,
            until_ms: batch.until_ms,
            size: batch.body.len() as u64,
        };
        self.number += 1;
        self.waiting.push_back(Waiting {
            entry,
            body: Some(batch.body),
        });
        self.trim();
    }

    /// The oldest batch; what cannot be read is dropped.
    pub(super) fn oldest(&mut self) -> Option<Batch> {
        loop {
            let Waiting { entry, body } = self.waiting.front()?;
            let body = match (body, &self.spool) {
                (Some(body), _) => Some(body.clone()),
                (None, Some((_, folder))) => folder.read(entry).ok(),
                (None, None) => None,
            };
            if let Some(body) = body {
                return Some(Batch {
                    from_ms: entry.from_ms,
                    until_ms: entry.until_ms,
                    body,
                });
            }
            self.remove_oldest();
            self.dropped += 1;
        }
    }

    /// The oldest batch has found its end.
    pub(super) fn remove_oldest(&mut self) {
        self.remove(0);
    }

    fn remove(&mut self, index: usize) {
        if let Some(Waiting { entry, body: None }) = self.waiting.remove(index)
            && let Some((_, folder)) = &self.spool
        {
            folder.remove(&entry);
        }
    }

    /// Writes what is in memory to the folder, if there is one. What cannot be written stays.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        if let Some((_, folder)) = &self.spool {
            for Waiting { entry, body } in &mut self.waiting {
                if let Some(bytes) = body {
                    folder.write(entry, bytes)?;
                    *body = None;
                }
            }
        }
        self.trim();
        Ok(())
    }

    /// Drops the oldest until there are not too many.
    fn trim(&mut self) {
        let limit = self.spool.as_ref().map_or(0, |(spool, _)| spool.limit);
        self.drop_oldest(false, usize::MAX, limit);
        self.drop_oldest(true, MAX_IN_MEMORY, MAX_BYTES);
    }

    /// Drops what is not in the folder.
    pub(super) fn drop_memory(&mut self) {
        self.drop_oldest(true, 0, 0);
    }

    /// Drops the oldest of those in memory, or of those in the folder.
    fn drop_oldest(&mut self, in_memory: bool, most: usize, most_bytes: u64) {
        let is_meant = |waiting: &Waiting| waiting.body.is_some() == in_memory;
        let meant = || self.waiting.iter().filter(|waiting| is_meant(waiting));
        let mut count = meant().count();
        let mut bytes: u64 = meant().map(|waiting| waiting.entry.size).sum();
        while (count > most || bytes > most_bytes)
            && let Some(index) = self.waiting.iter().position(is_meant)
        {
            bytes = bytes.saturating_sub(self.waiting[index].entry.size);
            count -= 1;
            self.remove(index);
            self.dropped += 1;
        }
    }

    /// Takes over what waits in another queue, after what waits here.
    pub(super) fn take_over(&mut self, mut other: Self) {
        while let Some(batch) = other.oldest() {
            self.add(batch);
            // One of the two has it, whatever happens to the machine.
            if self.keep().is_err() {
                self.trim();
            }
            other.remove_oldest();
        }
        self.dropped += other.dropped;
    }
}

/// Whether so many bytes can be a batch.
pub(super) const fn fits(bytes: usize) -> bool {
    bytes as u64 <= MAX_BATCH
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
