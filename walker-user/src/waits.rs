//! Waits: brings the sample of a task that begins to wait together with the end of the wait.
//!
//! The sample tells the stack, the end how long it took and who woke the task. What else there is to
//! know of the sample is of no interest here.

use rustc_hash::FxHashMap;
use walker_common::wire::{WAKER_INTERRUPT, WAKER_TASK, WaitEnd};

use crate::capture::record::name_text;

/// Most tasks that can wait at one time.
const MAX_WAITING: usize = 100_000;

/// A wait whose end has not come.
#[derive(Debug, Clone)]
pub struct Begun<T> {
    /// The thread.
    pub tid: u32,
    /// When it was switched out (`CLOCK_MONOTONIC`), in nanoseconds.
    pub since_ns: u64,
    /// Its sample.
    pub sample: T,
    /// Whether it could have gone on running.
    pub runnable: bool,
}

/// A wait that is over, or that lasted to the end of the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited<T> {
    /// Its sample.
    pub sample: T,
    /// When it began (`CLOCK_MONOTONIC`), in nanoseconds.
    pub since_ns: u64,
    /// The thread.
    pub tid: u32,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// Who ended it, in brackets; nothing if that is not known.
    pub note: Option<String>,
}

/// Which waits are of interest, by how long they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Shorter ones are not.
    pub min_ns: u64,
    /// Longer ones are not.
    pub max_ns: u64,
}

/// The tasks that wait.
#[derive(Debug)]
pub struct Waits<T> {
    bounds: Bounds,
    waiting: FxHashMap<u32, Begun<T>>,
    filtered: u64,
    lost: u64,
}

impl<T> Waits<T> {
    /// Nobody waits yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            waiting: FxHashMap::default(),
            filtered: 0,
            lost: 0,
        }
    }

    /// A task begins to wait.
    pub fn begin(&mut self, wait: Begun<T>) {
        if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(&wait.tid) {
            self.lost += 1;
            return;
        }
        // The end of the one before did not arrive.
        let before = self.waiting.insert(wait.tid, wait);
        self.lost += u64::from(before.is_some());
    }

    /// A task runs again. `None` if the wait is not of interest, or its sample did not arrive,
    /// which was counted where it was lost.
    pub fn end(&mut self, end: &WaitEnd) -> Option<Waited<T>> {
        let begun = self.waiting.get(&end.tid)?;
        if begun.since_ns != end.since_ns {
            return None;
        }
        let begun = self.waiting.remove(&end.tid)?;
        let note = match end.waker_kind {
            WAKER_INTERRUPT => Some("[woken by an interrupt]".to_owned()),
            WAKER_TASK if end.waker_tid == 0 => Some("[woken by the idle task]".to_owned()),
            WAKER_TASK => Some(format!("[woken by {}]", name_text(&end.waker_comm))),
            _ if begun.runnable => Some("[waited for a CPU]".to_owned()),
            _ => None,
        };
        self.waited(begun, end.time_ns, note)
    }

    /// The tasks that still wait when the recording ends.
    pub fn still_waiting(&mut self, now_ns: u64) -> Vec<Waited<T>> {
        let mut waiting: Vec<Begun<T>> = self.waiting.drain().map(|(_, begun)| begun).collect();
        waiting.sort_unstable_by_key(|begun| (begun.since_ns, begun.tid));
        waiting
            .into_iter()
            .filter_map(|begun| self.waited(begun, now_ns, Some("[still waits]".to_owned())))
            .collect()
    }

    fn waited(
        &mut self,
        begun: Begun<T>,
        until_ns: u64,
        note: Option<String>,
    ) -> Option<Waited<T>> {
        let duration_ns = until_ns.saturating_sub(begun.since_ns);
        if duration_ns < self.bounds.min_ns || duration_ns > self.bounds.max_ns {
            self.filtered += 1;
            return None;
        }
        Some(Waited {
            sample: begun.sample,
            since_ns: begun.since_ns,
            tid: begun.tid,
            duration_ns,
            note,
        })
    }

    /// Waits that were not of interest.
    #[must_use]
    pub const fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Waits whose end did not arrive.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn begun(tid: u32, since_ns: u64) -> Begun<()> {
        Begun {
            tid,
            since_ns,
            sample: (),
            runnable: false,
        }
    }

    fn end(tid: u32, since_ns: u64, time_ns: u64, waker_kind: u32) -> WaitEnd {
        let mut waker_comm = [0; 16];
        waker_comm[..4].copy_from_slice(b"make");
        WaitEnd {
            size: 0,
            version: 0,
            flags: 0,
            time_ns,
            since_ns,
            tid,
            waker_tid: 7,
            waker_kind,
            pad: 0,
            waker_comm,
        }
    }

    const ALL: Bounds = Bounds {
        min_ns: 0,
        max_ns: u64::MAX,
    };

    #[test]
    fn a_wait_is_told_with_its_length_and_its_waker() {
        let mut waits = Waits::new(ALL);
        waits.begin(begun(1, 100));
        waits.begin(begun(2, 110));
        let waited = waits.end(&end(1, 100, 350, WAKER_TASK)).unwrap();
        assert_eq!(waited.duration_ns, 250);
        assert_eq!(waited.note.as_deref(), Some("[woken by make]"));
        let waited = waits.end(&end(2, 110, 120, WAKER_INTERRUPT)).unwrap();
        assert_eq!(waited.note.as_deref(), Some("[woken by an interrupt]"));
        assert_eq!(waits.still_waiting(1000), []);
    }

    #[test]
    fn ends_and_beginnings_that_do_not_fit_are_not_brought_together() {
        let mut waits = Waits::new(ALL);
        assert!(waits.end(&end(1, 100, 350, WAKER_TASK)).is_none());
        waits.begin(begun(1, 400));
        assert!(waits.end(&end(1, 100, 350, WAKER_TASK)).is_none());
        // The end of this one never came.
        waits.begin(begun(1, 500));
        assert_eq!(waits.lost(), 1);
        assert!(waits.end(&end(1, 500, 600, WAKER_TASK)).is_some());
    }

    #[test]
    fn bounds_leave_out_and_count() {
        let mut waits = Waits::new(Bounds {
            min_ns: 10,
            max_ns: 20,
        });
        for (tid, length) in [(1, 9), (2, 10), (3, 20), (4, 21)] {
            waits.begin(begun(tid, 100));
            let waited = waits.end(&end(tid, 100, 100 + length, WAKER_TASK));
            assert_eq!(waited.is_some(), (10..=20).contains(&length), "{length}");
        }
        assert_eq!(waits.filtered(), 2);
    }

    #[test]
    fn who_still_waits_at_the_end_waited_until_then() {
        let mut waits = Waits::new(ALL);
        waits.begin(begun(1, 100));
        let still = waits.still_waiting(1100);
        assert_eq!(still.len(), 1);
        assert_eq!(still[0].duration_ns, 1000);
        assert_eq!(still[0].note.as_deref(), Some("[still waits]"));
    }

    #[test]
    fn there_is_a_bound() {
        let mut waits = Waits::new(ALL);
        for tid in 0..MAX_WAITING as u32 + 5 {
            waits.begin(begun(tid, 1));
        }
        assert_eq!((waits.waiting.len(), waits.lost()), (MAX_WAITING, 5));
    }
}
