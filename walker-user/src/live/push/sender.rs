//! When which batch is sent: oldest first, again after longer and longer pauses while the store
//! cannot take it, and never again if the store says that it is wrong.
//!
//! Every batch is counted: made = sent + waiting + dropped.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    Pushed, Say, Settings,
    client::{Client, Outcome},
    queue::{Batch, Queue, Spool},
    target::Target,
};

/// The pause after the first failure, and the longest that doubling leads to.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Sends batches.
pub(super) struct Sender {
    target: Target,
    client: Client,
    queue: Queue,
    sent: u64,
    /// Dropped for other reasons than the queue's.
    dropped: u64,
    /// How long the pause was, and when it ends.
    pause: Option<(Duration, Instant)>,
    say: Say,
    said: Said,
}

/// What was said since it was last well.
#[derive(Debug, Default)]
struct Said {
    failed: bool,
    refused: bool,
    unkept: bool,
    dropped: bool,
}

impl Sender {
    pub(super) fn new(settings: &Settings, say: Say) -> io::Result<Self> {
        Ok(Self {
            target: settings.target.clone(),
            client: Client::new(),
            queue: Queue::open(settings.spool.as_ref())?,
            sent: 0,
            dropped: 0,
            pause: None,
            say,
            said: Said::default(),
        })
    }

    /// Sends to another target, or keeps what waits in another folder. What waits goes with it.
    pub(super) fn change(&mut self, settings: &Settings) -> io::Result<()> {
        let folder = |spool: Option<&Spool>| spool.map(|spool| spool.folder.clone());
        match &settings.spool {
            Some(spool) if folder(self.queue.spool()) == Some(spool.folder.clone()) => {
                self.queue.limit(spool.limit);
            }
            None if self.queue.spool().is_none() => {}
            spool => {
                let next = Queue::open(spool.as_ref())?;
                let before = std::mem::replace(&mut self.queue, next);
                self.queue.take_over(before);
            }
        }
        self.target = settings.target.clone();
        self.pause = None;
        self.said = Said::default();
        Ok(())
    }

    pub(super) fn pushed(&self) -> Pushed {
        let (sent, waiting) = (self.sent, self.queue.len());
        let dropped = self.dropped + self.queue.dropped();
        Pushed {
            made: sent + waiting + dropped,
            sent,
            waiting,
            dropped,
        }
    }

    pub(super) fn add(&mut self, batch: Batch) {
        let before = self.queue.dropped();
        self.queue.add(batch);
        self.say_dropped(before);
    }

    /// Counts a batch that cannot be sent.
    pub(super) fn drop_one(&mut self, why: &str) {
        self.dropped += 1;
        (self.say)(&format!("push     a batch was dropped: {why}"));
    }

    /// How long it is until something should be sent; `None` if nothing waits.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        let at = self.pause.map_or(now, |(_, at)| at);
        (self.queue.len() > 0).then(|| at.saturating_duration_since(now))
    }

    /// Sends the oldest batch, which takes no longer than `limit`. Returns whether another can be
    /// sent at once.
    pub(super) fn attempt(&mut self, limit: Duration) -> bool {
        let before = self.queue.dropped();
        let Some(batch) = self.queue.oldest() else {
            self.say_dropped(before);
            return false;
        };
        match self.client.send(&self.target, &batch, limit) {
            Outcome::Sent => {
                self.queue.remove_oldest();
                self.sent += 1;
                self.pause = None;
                if std::mem::take(&mut self.said.failed) {
                    (self.say)(&format!("push     {} takes batches again", self.target));
                }
                self.said.dropped = false;
            }
            Outcome::Refused(why) => {
                self.queue.remove_oldest();
                self.dropped += 1;
                self.pause = None;
                if !std::mem::replace(&mut self.said.refused, true) {
                    (self.say)(&format!(
                        "push     {} does not take what is sent, which is dropped: {why}",
                        self.target
                    ));
                }
            }
            Outcome::Later(why, after) => self.wait(&why, after),
        }
        self.say_dropped(before);
        self.pause.is_none() && self.queue.len() > 0
    }

    fn wait(&mut self, why: &str, after: Option<Duration>) {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |(pause, _)| (pause * 2).min(MAX_PAUSE));
        let at = Instant::now() + pause.max(after.unwrap_or_default());
        self.pause = Some((pause, at));
        if !std::mem::replace(&mut self.said.failed, true) {
            (self.say)(&format!(
                "push     {} takes no batches now; they wait, and it is tried again: {why}",
                self.target
            ));
        }
        self.keep();
    }

    /// Writes what waits to where it outlives this process.
    pub(super) fn keep(&mut self) {
        if let Err(error) = self.queue.keep()
            && !std::mem::replace(&mut self.said.unkept, true)
        {
            (self.say)(&format!(
                "push     batches that wait cannot be written to the spool, and stay in memory: \
                 {error}"
            ));
        }
    }

    /// Leaves to the next process what it can find; the rest is dropped.
    pub(super) fn finish(&mut self) {
        self.keep();
        self.queue.drop_memory();
    }

    fn say_dropped(&mut self, before: u64) {
        if self.queue.dropped() > before && !std::mem::replace(&mut self.said.dropped, true) {
            (self.say)(
                "push     batches are dropped, the oldest first: too many wait, or they cannot be \
                 read any more",
            );
        }
    }
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
