//! Reads bytes as a perf map. Of the lines that have an address the last one names it, whatever the
//! others are like.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walker_user::symbolize::perf_map::parse;

/// Bounds on a check that looks at every line for every address.
const MAX_LINES: usize = 64;
const MAX_ADDRESSES: usize = 256;

fuzz_target!(|data: &[u8]| {
    let map = parse(data);
    let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(map.skipped() <= lines.len() as u64);
    if lines.len() > MAX_LINES {
        return;
    }
    let alone: Vec<_> = lines.iter().map(|line| parse(line)).collect();

    // Where functions may begin and end.
    let words = data.split(u8::is_ascii_whitespace).filter_map(|word| {
        let digits = word.strip_prefix(b"0x").unwrap_or(word);
        u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    });
    let numbers: Vec<u64> = words.take(MAX_ADDRESSES).collect();
    let sums = numbers.windows(2).map(|pair| pair[0].wrapping_add(pair[1]));
    let edges: Vec<u64> = numbers.iter().copied().chain(sums).collect();
    for address in edges
        .into_iter()
        .flat_map(|edge| [edge.wrapping_sub(1), edge, edge.wrapping_add(1)])
    {
        let found = map.find(address);
        let last = alone.iter().rev().find_map(|line| line.find(address));
        assert_eq!(found, last, "{address:#x}");
        if let Some(function) = found {
            assert!(!function.name.is_empty());
            assert!(address - function.start < function.size);
        }
    }
});
