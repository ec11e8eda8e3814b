//! Sends samples on, as one profile every few seconds, to a store of profiles that others run:
//! Grafana Pyroscope 1.x, or what takes the same `POST /ingest` with a gzipped pprof.
//!
//! On a thread of its own, which takes spans of time that are past out of [`Live`]; neither the
//! capture nor those who look ever wait for it. `target` is where to, `client` one request,
//! `queue` and `spool` what waits, `sender` when what is sent. How samples become pprof is the
//! business of [`crate::output::pprof`].

mod client;
mod queue;
mod sender;
mod spool;
mod target;
#[cfg(test)]
mod test_store;

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

pub use queue::Spool;
pub use target::{Asked, Mistake, Target};

use super::{SLOT_NS, hub::Live};
use crate::{output::pprof, sys::privileges};
use queue::Batch;
use sender::Sender;

/// The shortest and the longest span of one batch, in seconds. Samples are kept for five minutes,
/// and must still be there when a store that did not answer was given up.
pub const SECONDS: std::ops::RangeInclusive<u64> = 1..=240;
/// How long a store may take for one batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take when everything ends.
const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// Slots that are left to those who walk and name before a span counts as past: a second.
const LATE: u32 = 20;
/// Slots after which a span counts as past even if not everything of it was seen: half a minute.
const TOO_LATE: u32 = 600;
/// How often it is looked for new samples when everything ends.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// By how much the clock may differ from what it should be until it is asked anew.
const MAX_DRIFT: Duration = Duration::from_secs(2);
/// Orders that wait.
const ORDERS: usize = 4;

/// Tells the user something.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What to send where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to.
    pub target: Target,
    /// The span of time of one batch.
    pub every: Duration,
    /// Where batches wait; in memory if nowhere.
    pub spool: Option<Spool>,
}

/// What became of the batches; `made = sent + waiting + dropped`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Batches that were made, or found in the spool.
    pub made: u64,
    /// Those that the store has taken.
    pub sent: u64,
    /// Those that wait.
    pub waiting: u64,
    /// Those that the store refused, and those that were too many.
    pub dropped: u64,
}

enum Order {
    Change(Option<Box<Settings>>),
    End(SyncSender<()>),
}

/// Something that can be started.
pub struct Prepared {
    settings: Option<Settings>,
    sender: Option<Sender>,
    say: Say,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Sends until it is told to end.
#[derive(Debug)]
pub struct Pusher(SyncSender<Order>);

/// Opens the spool. Without settings, nothing is sent until there are some.
///
/// # Errors
/// If the spool cannot be used.
pub fn prepare(settings: Option<Settings>, say: Say) -> io::Result<Prepared> {
    let sender = settings
        .as_ref()
        .map(|settings| Sender::new(settings, Arc::clone(&say)))
        .transpose()?;
    Ok(Prepared {
        settings,
        sender,
        say,
    })
}

impl Prepared {
    /// Starts with the first sample that `live` has.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(self, live: Arc<Live>) -> io::Result<Pusher> {
        let (orders, received) = mpsc::sync_channel(ORDERS);
        let worker = Worker {
            began: live.began(),
            live,
            orders: received,
            settings: self.settings,
            sender: self.sender,
            say: self.say,
            from: 0,
            said_gap: false,
        };
        // It talks to the network, and needs no more than its descriptors and its own files.
        privileges::start("push", || privileges::keep(&[]), |_| worker.run())?;
        Ok(Pusher(orders))
    }
}

impl Pusher {
    /// Goes on with other settings, or stops sending until there are some. Returns at once; what
    /// is wrong with the spool is told, and nothing is changed then. `false` if it is still busy
    /// with changes before this one.
    #[must_use]
    pub fn change(&self, settings: Option<Settings>) -> bool {
        self.0
            .try_send(Order::Change(settings.map(Box::new)))
            .is_ok()
    }

    /// Sends what there is, or writes it to the spool, and ends: after a few seconds, whatever the
    /// store does.
    pub fn end(self) {
        let (done, ended) = mpsc::sync_channel(1);
        // A thread that has ended is what is wanted.
        if self.0.send(Order::End(done)).is_ok() {
            let _ended = ended.recv_timeout(2 * PATIENCE + 2 * LAST_PATIENCE);
        }
    }
}

struct Worker {
    live: Arc<Live>,
    orders: Receiver<Order>,
    settings: Option<Settings>,
    sender: Option<Sender>,
    say: Say,
    /// The first slot that is in no batch.
    from: u32,
    /// When slot 0 began, by the clock as it is now.
    began: SystemTime,
    said_gap: bool,
}

impl Worker {
    fn run(mut self) {
        loop {
            self.tell();
            match self.orders.recv_timeout(self.wait()) {
                Ok(Order::Change(settings)) => self.change(settings.map(|settings| *settings)),
                Ok(Order::End(done)) => {
                    self.end();
                    self.tell();
                    // Nobody may wait any more.
                    let _told = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let past = self.past();
            self.make_until(past, false);
            if self.settings.is_some()
                && let Some(sender) = &mut self.sender
                && sender.due_in(Instant::now()) == Some(Duration::ZERO)
            {
                self.live.tell_pushed(sender.pushed());
                sender.attempt(PATIENCE);
            }
        }
    }

    fn tell(&self) {
        if let Some(sender) = &self.sender {
            self.live.tell_pushed(sender.pushed());
        }
    }

    /// The first slot that may still get samples.
    fn past(&self) -> u32 {
        let settled = self.live.settled().saturating_sub(LATE);
        settled.max(self.live.slot().saturating_sub(TOO_LATE))
    }

    /// How many slots one batch has.
    fn span(&self) -> Option<u32> {
        let every = self.settings.as_ref()?.every;
        u32::try_from(every.as_nanos() / u128::from(SLOT_NS)).ok()
    }

    /// How long nothing is to do.
    fn wait(&self) -> Duration {
        let Some(span) = self.span() else {
            return Duration::from_secs(3600);
        };
        let due = self.from.saturating_add(span);
        let slots = due.saturating_sub(self.past());
        let made = time_of(slots).max(LOOK_EVERY);
        let sender = self.sender.as_ref();
        match sender.and_then(|sender| sender.due_in(Instant::now())) {
            Some(due) => made.min(due),
            None => made,
        }
    }

    fn change(&mut self, settings: Option<Settings>) {
        if self.settings.is_none() {
            self.from = self.live.slot();
        }
        let changed = match (&mut self.sender, &settings) {
            (Some(sender), Some(settings)) => sender.change(settings),
            (sender, Some(settings)) => {
                Sender::new(settings, Arc::clone(&self.say)).map(|new| *sender = Some(new))
            }
            (Some(sender), None) => {
                sender.keep();
                Ok(())
            }
            (None, None) => Ok(()),
        };
        match changed {
            Ok(()) => self.settings = settings,
            Err(error) => (self.say)(&format!(
                "push     the spool cannot be used, so that nothing was changed: {error}"
            )),
        }
    }

    /// Makes batches of the slots before this one; all of them if that is the `last` time.
    fn make_until(&mut self, past: u32, last: bool) {
        let Some(span) = self.span() else {
            return;
        };
        while past.saturating_sub(self.from) >= span || last && past > self.from {
            let to = past.min(self.from.saturating_add(span));
            self.make(to);
        }
    }

    /// Makes a batch of the slots up to this one, if anything was sampled.
    fn make(&mut self, to: u32) {
        let from = std::mem::replace(&mut self.from, to);
        let Some(sender) = &mut self.sender else {
            return;
        };
        let mut timeline = self.live.take(from, to);
        if self.live.first_slot() > from && !std::mem::replace(&mut self.said_gap, true) {
            (self.say)(
                "push     samples were sent too late to be whole: there were more of them than are \
                 kept for the time of a batch. `--push-every` takes a shorter time",
            );
        }
        if timeline.profile.meta.totals.delivered == 0 {
            return;
        }
        let slot = self.live.slot();
        self.began = corrected(self.began, slot, SystemTime::now());
        let (from, until) = (self.began + time_of(from), self.began + time_of(to));
        timeline.began = Some(from);
        let mut body = Vec::new();
        // Writing to memory does not fail.
        let _written = pprof::write(&timeline, &pprof::Options::default(), &mut body);
        if !queue::fits(body.len()) {
            sender.drop_one("it has more than 16 MiB. `--push-every` takes a shorter time");
            return;
        }
        sender.add(Batch {
            from_ms: milliseconds(from),
            until_ms: milliseconds(until),
            body,
        });
    }

    /// Sends what is left, or keeps it.
    fn end(&mut self) {
        // What was sampled last is still on its way to the store.
        let last = self.live.slot().saturating_add(LATE);
        let patience = Instant::now() + LAST_PATIENCE;
        while self.live.settled() < last && Instant::now() < patience {
            thread::sleep(LOOK_EVERY);
        }
        self.make_until(self.live.slot().saturating_add(1), true);
        let Some(sender) = &mut self.sender else {
            return;
        };
        if self.settings.is_some() {
            let until = Instant::now() + PATIENCE;
            while sender.attempt(LAST_PATIENCE) && Instant::now() < until {}
        }
        sender.finish();
    }
}

fn time_of(slots: u32) -> Duration {
    Duration::from_nanos(u64::from(slots) * SLOT_NS)
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Names of files have room for thirteen digits.
    (since.as_millis() as u64).min(9_999_999_999_999)
}

/// When slot 0 began by the clock of `now`, which is in `slot`: what was thought so far unless the
/// clock was set, or the machine slept.
fn corrected(began: SystemTime, slot: u32, now: SystemTime) -> SystemTime {
    let expected = began + time_of(slot);
    let drift = match now.duration_since(expected) {
        Ok(later) => later,
        Err(earlier) => earlier.duration(),
    };
    match drift > MAX_DRIFT {
        true => now.checked_sub(time_of(slot)).unwrap_or(began),
        false => began,
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
