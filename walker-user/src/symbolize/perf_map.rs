//! Perf maps: the text files in which JIT compilers say what code they made, one function a line:
//! `START SIZE name`, both numbers in hexadecimal (`tools/perf/Documentation/jit-interface.txt` of
//! Linux).
//!
//! [`parse`] takes any bytes. Where functions overlap, the later line counts: memory is used again
//! when code was dropped or moved, and the map is only ever appended to. So code that moved away
//! while the map was not read is called by what is there now. [`PerfMapFile`] finds and opens the
//! map of a process, and its jitdump file.

mod file;

use std::collections::BinaryHeap;

pub use file::{Identity, OpenError, PerfMapFile};

use super::bounded;

/// Most bytes of a map that are read; of a longer one the rest is ignored.
pub const MAX_BYTES: usize = 64 << 20;
/// Most functions of a map; those after it are counted as skipped.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Longest line, in bytes.
const MAX_LINE: usize = 64 << 10;

/// The functions of a perf map.
#[derive(Debug, Default)]
pub struct PerfMap {
    functions: Vec<JitFunction>,
    /// Sorted by start; they do not overlap.
    spans: Vec<Span>,
    skipped: u64,
}

/// One function that a JIT compiler made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JitFunction {
    /// Its name, as the compiler wrote it; may hold spaces, never empty.
    pub name: String,
    /// Its first address.
    pub start: u64,
    /// Its length in bytes; never 0, and its end is an address as well.
    pub size: u64,
}

/// Addresses that belong to one function.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    end: u64,
    function: usize,
}

/// Reads a perf map. A last line without an end is still being written and is ignored.
#[must_use]
pub fn parse(bytes: &[u8]) -> PerfMap {
    let mut map = PerfMap::default();
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    for line in bytes[..whole].split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match parse_line(line) {
            Some(function) if map.functions.len() < MAX_ENTRIES => map.functions.push(function),
            _ => map.skipped += 1,
        }
    }
    PerfMap::of(map.functions, map.skipped)
}

impl PerfMap {
    /// These functions, of which the later one counts where they overlap.
    pub(super) fn of(functions: Vec<JitFunction>, skipped: u64) -> Self {
        Self {
            spans: spans(&functions),
            functions,
            skipped,
        }
    }

    /// The function at an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&JitFunction> {
        self.find_indexed(address).map(|(_, function)| function)
    }

    /// The function at an address, and which one of all it is.
    pub(super) fn find_indexed(&self, address: u64) -> Option<(usize, &JitFunction)> {
        let after = self.spans.partition_point(|span| span.start <= address);
        let span = self.spans[..after].last()?;
        (address < span.end).then(|| (span.function, &self.functions[span.function]))
    }

    /// Lines that name no function, or one too many.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }
}

fn parse_line(line: &[u8]) -> Option<JitFunction> {
    if line.len() > MAX_LINE {
        return None;
    }
    let (start, rest) = hexadecimal(line)?;
    let (size, name) = hexadecimal(rest)?;
    start.checked_add(size).filter(|&end| end > start)?;
    let name = name.trim_ascii();
    (!name.is_empty()).then(|| JitFunction {
        name: bounded(String::from_utf8_lossy(name).into_owned()),
        start,
        size,
    })
}

/// A number, with or without `0x`, and what follows the space behind it.
fn hexadecimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    let (digits, rest) = text.split_at(end);
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    Some((number, rest))
}

/// Which function has which addresses, in the order of the addresses, at most two for each
/// function. Takes n log n steps, however the functions overlap.
fn spans(functions: &[JitFunction]) -> Vec<Span> {
    let end = |function: usize| functions[function].start + functions[function].size;
    let mut by_start: Vec<usize> = (0..functions.len()).collect();
    by_start.sort_unstable_by_key(|&function| functions[function].start);
    let ends = (0..functions.len()).map(end);
    let starts = functions.iter().map(|function| function.start);
    let mut edges: Vec<u64> = starts.chain(ends).collect();
    edges.sort_unstable();
    edges.dedup();

    let mut spans: Vec<Span> = Vec::new();
    let mut begun = by_start.into_iter().peekable();
    // The functions that have begun, the latest line on top.
    let mut open = BinaryHeap::new();
    for edge in edges.windows(2) {
        let (start, next) = (edge[0], edge[1]);
        while let Some(function) = begun.next_if(|&function| functions[function].start <= start) {
            open.push(function);
        }
        while open.peek().is_some_and(|&function| end(function) <= start) {
            open.pop();
        }
        let Some(&function) = open.peek() else {
            continue;
        };
        match spans.last_mut() {
            Some(last) if last.function == function && last.end == start => last.end = next,
            _ => spans.push(Span {
                start,
                end: next,
                function,
            }),
        }
    }
    spans
}

#[cfg(test)]
#[path = "perf_map_tests.rs"]
mod tests;
