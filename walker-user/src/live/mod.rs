//! Flame graphs that move while the machine runs: named samples of the last minutes and sums since
//! the start, kept in bounded memory, and streamed to a page.
//!
//! Samples come in walked ([`hub`]); names are found beside the capture (`naming`). What is kept is
//! the business of `store`, what is sent that of `wire` and `stream`, who gets it that of
//! [`server`]; [`push`] sends it on. `docs/live-protocol.md` is for those who write a client. Nothing here takes samples.

pub mod health;
pub mod hub;
mod naming;
mod page;
pub mod push;
pub mod server;
mod store;
mod stream;
pub mod tui;
mod wire;

pub use health::Health;
pub use store::{NotSingle, SLOT_NS, Store, Window};
