//! The thread that makes batches of what is past, and lets them be sent until it is told to end.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Order, Prepared, Say, Settings,
    queue::{self, Batch},
    sender::Sender,
};
use crate::{
    live::{SLOT_NS, hub::Live},
    output::pprof,
};

/// How long a store may take for one batch.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take when everything ends.
pub(super) const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// Slots that are left to those who walk and name before a span counts as past: a second.
const LATE: u32 = 20;
/// Slots after which a span counts as past even if not everything of it was seen: half a minute.
const TOO_LATE: u32 = 600;
/// How often it is looked for new samples when everything ends.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// By how much the clock may differ from what it should be until it is asked anew.
const MAX_DRIFT: Duration = Duration::from_secs(2);

/// What the thread has.
pub(super) struct Worker {
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
    pub(super) fn new(prepared: Prepared, live: Arc<Live>, orders: Receiver<Order>) -> Self {
        Self {
            began: live.began(),
            live,
            orders,
            settings: prepared.settings,
            sender: prepared.sender,
            say: prepared.say,
            from: 0,
            said_gap: false,
        }
    }

    pub(super) fn run(mut self) {
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
#[path = "worker_tests.rs"]
mod tests;
