//! From an event to a parsed sample: loading the BPF object, choosing what is sampled, reading
//! the ring buffer, and counting what became of every event.
//!
//! No stack is interpreted here.

#[cfg(feature = "bpf-log")]
mod bpf_log;
pub mod budget;
pub mod clock;
pub mod event;
mod event_error;
mod event_place;
pub mod events;
pub mod namespace;
pub mod object;
pub mod record;
pub mod session;
pub mod side_band;
pub mod side_band_queue;
pub mod side_band_reader;
pub mod sleepers;
pub mod target;
