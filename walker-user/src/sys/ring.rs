//! Waiting for a ring buffer in tokio's event loop.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};

/// Registers a ring buffer with the event loop of the current runtime.
///
/// # Errors
/// If the kernel refuses to watch it.
pub(crate) fn watch(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: a ring buffer owns its descriptor and keeps the same one open until it is dropped,
    // and the `AsyncFd` owns the ring buffer.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(io::Error::from)
}
