//! Sends samples on, as one profile every few seconds, to a store of profiles that others run:
//! Grafana Pyroscope 1.x, or what takes the same `POST /ingest` with a gzipped pprof.
//!
//! On a thread of its own, which takes spans of time that are past out of [`Live`]; neither the
//! capture nor those who look ever wait for it. `target` is where to, `client` one request,
//! `queue` and `spool` what waits, `sender` when what is sent, `worker` the thread. How samples become pprof is the
//! business of [`crate::output::pprof`].

mod client;
mod queue;
mod sender;
mod spool;
mod target;
#[cfg(test)]
mod test_store;
mod worker;

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    time::Duration,
};

use serde::Serialize;

pub use queue::Spool;
pub use target::{Asked, Mistake, Target};

use super::hub::Live;
use crate::sys::privileges;
use sender::Sender;
use worker::{LAST_PATIENCE, PATIENCE, Worker};

/// The shortest and the longest span of one batch, in seconds. Samples are kept for five minutes,
/// and must still be there when a store that did not answer was given up.
pub const SECONDS: std::ops::RangeInclusive<u64> = 1..=240;
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
        let worker = Worker::new(self, live, received);
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
