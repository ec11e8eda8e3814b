//! The signals that a sampling reacts to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::sys::process::is_ignored;

/// Those that are listened for.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    pub(super) child: Signal,
    /// `None` where it is ignored (`nohup`).
    pub(super) hangup: Option<Signal>,
}

impl Signals {
    /// Listens; for SIGHUP if that asks for a reload or is not ignored.
    pub(super) fn new(reloads: bool) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            child: listen(SignalKind::child())?,
            hangup: match reloads || !is_ignored(libc::SIGHUP) {
                true => Some(listen(SignalKind::hangup())?),
                false => None,
            },
        })
    }

    /// Whether one that ends the sampling has come while it was set up.
    pub(super) async fn came_already(&mut self) -> bool {
        let stop = async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        };
        // Signals are noticed only while the event loop waits, so it has to wait a little.
        tokio::time::timeout(Duration::from_millis(1), stop)
            .await
            .is_ok()
    }
}

/// What signals mean when the sampling is over: the first says to hurry, the next ends the process.
pub(super) struct Hurry(Arc<AtomicBool>);

impl Hurry {
    /// Listens from now on.
    pub(super) fn new() -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            if is_ignored(signal) {
                continue;
            }
            // In this order, so that the signal that asks does not end it as well.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .context("cannot listen for signals")?;
        }
        Ok(Self(asked))
    }

    /// Whether there is no time for what can be left out.
    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits for a signal; forever if it is not listened for.
pub(super) async fn came(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
