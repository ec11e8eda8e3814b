//! Recordings: files that keep the evidence of every sample, and what is made of them later.
//!
//! [`chunk`] is the frame of the file, [`head`] and [`rows`] are what it holds. [`sink`],
//! [`encode`] and [`writer`] write it while the capture runs; [`reader`] reads it back (`loader` checks what the
//! chunks hold), [`symbols`] names what has no name in it, and `timeline` brings both together.
//! [`named`] writes what was never raw.
//! [`replay`] walks the kept bytes again. `docs/format.md` describes the file.

pub mod chunk;
pub mod encode;
pub mod head;
mod loader;
pub mod named;
pub mod reader;
pub mod recorded_code;
pub mod replay;
pub mod rows;
pub mod sink;
pub mod symbols;
mod timeline;
pub mod writer;

use crate::stack_tree::Process;

/// What takes the place of a name that is damaged.
const DAMAGED: &str = "[damaged]";
/// What takes the place of a process that is damaged.
const DAMAGED_PROCESS: Process = Process {
    pid: 0,
    comm: *b"[damaged]\0\0\0\0\0\0\0",
    name: *b"[damaged]\0\0\0\0\0\0\0",
};

#[cfg(test)]
mod golden_tests;
