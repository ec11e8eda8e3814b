//! The signals that a sampling reacts to.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that are listened for.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    pub(super) child: Signal,
    pub(super) hangup: Option<Signal>,
}

impl Signals {
    /// Listens; for SIGHUP only if that asks for a reload.
    pub(super) fn new(reloads: bool) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            child: listen(SignalKind::child())?,
            hangup: match reloads {
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

/// Waits for a signal; forever if it is not listened for.
pub(super) async fn came(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
