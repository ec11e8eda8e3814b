//! The functions of a Go program that switch stacks, by the table that Go programs carry for their
//! own unwinder.
//!
//! Go's `.debug_frame` describes these functions as if they stayed on their stack; Go itself stops
//! at them, and knows them by a flag (`_func.flag` in `runtime/runtime2.go`, the table's layout in
//! `runtime/symtab.go` and `debug/gosym`). Only where they are is read here.

use std::ops::Range;

use super::{
    SectionRange,
    source::{Source, read},
};

/// Most bytes of the table that are read. Go's own tools have a few MiB.
const MAX_BYTES: u64 = 64 << 20;
/// Most functions that can have the flag; a hundred have it.
const MAX_SWITCHES: usize = 4096;
/// The flag: "writes the stack pointer".
const SP_WRITE: u8 = 2;
/// Bytes of the header with eight numbers, which is the longest.
const HEADER: u64 = 8 + 8 * 8;

/// How a version of the table is laid out.
struct Layout {
    /// The number of the address that functions count from, if they do.
    text: Option<usize>,
    /// The number of the offset of the list of functions.
    functions: usize,
    /// Bytes of one of the two values of an entry in that list.
    width: usize,
    /// Where a function has its flags.
    flags: usize,
}

impl Layout {
    /// By the first word of the table.
    fn of(magic: u32) -> Option<Self> {
        Some(match magic {
            // Go 1.16 and 1.17. The former has no flags, but zeros there.
            0xffff_fffa => Self {
                text: None,
                functions: 6,
                width: 8,
                flags: 41,
            },
            // 1.18 and 1.19.
            0xffff_fff0 => Self {
                text: Some(2),
                functions: 7,
                width: 4,
                flags: 37,
            },
            // From 1.20 on.
            0xffff_fff1 => Self {
                text: Some(2),
                functions: 7,
                width: 4,
                flags: 41,
            },
            _ => return None,
        })
    }
}

/// The link-time ranges of the functions that switch stacks, sorted and not overlapping. There are
/// none if the table is not understood. `text` is where the code begins, for a table that leaves
/// that to the dynamic linker.
pub(super) fn stack_switches(
    source: &(impl Source + ?Sized),
    table: &SectionRange,
    text: Option<u64>,
) -> Vec<Range<u64>> {
    find(source, table, text).unwrap_or_default()
}

fn find(
    source: &(impl Source + ?Sized),
    table: &SectionRange,
    text: Option<u64>,
) -> Option<Vec<Range<u64>>> {
    if table.compressed {
        return None;
    }
    let header = read(source, ".gopclntab", table.offset, HEADER, HEADER).ok()?;
    let (magic, rest) = header.split_first_chunk()?;
    let layout = Layout::of(u32::from_le_bytes(*magic))?;
    let [0, 0, 1, 8, numbers @ ..] = rest else {
        return None;
    };
    let number = |index: usize| {
        Some(u64::from_le_bytes(
            *numbers.get(8 * index..)?.first_chunk()?,
        ))
    };
    let count = usize::try_from(number(0)?).ok()?;
    let base = match layout.text {
        Some(index) => number(index).filter(|text| *text != 0).or(text)?,
        None => 0,
    };
    let skipped = number(layout.functions)?;
    let len = table.size.checked_sub(skipped)?.min(MAX_BYTES);
    let offset = table.offset.checked_add(skipped)?;
    let functions = read(source, ".gopclntab", offset, len, MAX_BYTES).ok()?;
    ranges(&functions, count, base, &layout)
}

/// The functions with the flag, in the list of `count` functions that `functions` begins with.
fn ranges(functions: &[u8], count: usize, base: u64, layout: &Layout) -> Option<Vec<Range<u64>>> {
    let entry = 2 * layout.width;
    let list = functions.get(..count.checked_mul(entry)?.checked_add(layout.width)?)?;
    let value = |bytes: &[u8]| match layout.width {
        4 => Some(u64::from(u32::from_le_bytes(*bytes.first_chunk()?))),
        _ => Some(u64::from_le_bytes(*bytes.first_chunk()?)),
    };
    let mut switches: Vec<Range<u64>> = Vec::new();
    for index in 0..count {
        let this = list.get(index * entry..)?;
        let function = usize::try_from(value(this.get(layout.width..)?)?).ok()?;
        let flags = function.checked_add(layout.flags)?;
        if functions.get(flags)? & SP_WRITE == 0 {
            continue;
        }
        let start = base.checked_add(value(this)?)?;
        let end = base.checked_add(value(this.get(entry..)?)?)?;
        let sorted = switches.last().is_none_or(|last| last.end <= start);
        if start >= end || !sorted || switches.len() >= MAX_SWITCHES {
            return None;
        }
        switches.push(start..end);
    }
    Some(switches)
}

#[cfg(test)]
#[path = "go_functions_tests.rs"]
mod tests;
