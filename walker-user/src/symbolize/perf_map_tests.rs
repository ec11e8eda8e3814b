use proptest::prelude::*;

use super::{MAX_ENTRIES, MAX_LINE, PerfMap, parse};

/// Name and offset in the function.
fn at(map: &PerfMap, address: u64) -> Option<(&str, u64)> {
    let function = map.find(address)?;
    Some((&function.name, address - function.start))
}

#[test]
fn names_may_hold_anything_but_line_breaks() {
    let map = parse(
        b"7f00 10 JS:*fib /srv/app.js:12\n0x7f10 0x20 py::run:/srv/a b.py\n\
          7f30 8 \xff\xe2\x82\xac\n7F38 8 \tx \r\n",
    );
    assert_eq!(at(&map, 0x7f00), Some(("JS:*fib /srv/app.js:12", 0)));
    assert_eq!(at(&map, 0x7f0f), Some(("JS:*fib /srv/app.js:12", 15)));
    assert_eq!(at(&map, 0x7f2f), Some(("py::run:/srv/a b.py", 31)));
    assert_eq!(at(&map, 0x7f30), Some(("\u{fffd}€", 0)));
    assert_eq!(at(&map, 0x7f38), Some(("x", 0)));
    assert_eq!(at(&map, 0x7eff), None);
    assert_eq!(at(&map, 0x7f40), None);
    assert_eq!(map.skipped(), 0);
}

#[test]
fn the_later_line_counts() {
    let map = parse(b"100 100 old\n140 20 new\n180 10 newer\n1f0 20 end\n");
    let names: Vec<_> = [
        0x100, 0x13f, 0x140, 0x15f, 0x160, 0x185, 0x190, 0x1f0, 0x20f, 0x210,
    ]
    .iter()
    .map(|&address| at(&map, address))
    .collect();
    assert_eq!(
        names,
        [
            Some(("old", 0)),
            Some(("old", 0x3f)),
            Some(("new", 0)),
            Some(("new", 0x1f)),
            Some(("old", 0x60)),
            Some(("newer", 5)),
            Some(("old", 0x90)),
            Some(("end", 0)),
            Some(("end", 0x1f)),
            None,
        ]
    );
    let replaced = parse(b"140 20 new\n100 100 all\n");
    assert_eq!(at(&replaced, 0x145), Some(("all", 0x45)));
}

#[test]
fn a_line_that_is_still_being_written_does_not_count() {
    let map = parse(b"100 10 whole\n110 10 hal");
    assert_eq!(at(&map, 0x100), Some(("whole", 0)));
    assert_eq!(at(&map, 0x110), None);
    assert_eq!(map.skipped(), 0);
    assert!(parse(b"100 10 whole").find(0x100).is_none());
}

#[test]
fn lines_that_name_nothing_are_counted() {
    let lines = [
        "hello",
        "100",
        "100 10",
        "100 10 ",
        "100 0 empty",
        "ffffffffffffffff 1 end",
        "10000000000000000 1 long",
        "+100 10 sign",
        "-100 10 sign",
        "0x 10 nothing",
        "1_0 10 digits",
    ];
    for line in lines {
        let map = parse(format!("\n{line}\n\n").as_bytes());
        assert_eq!((map.skipped(), map.spans.len()), (1, 0), "{line}");
    }
    let long = format!("100 10 {}\n", "x".repeat(MAX_LINE));
    assert_eq!(parse(long.as_bytes()).skipped(), 1);
    let name = "é".repeat(5000);
    let cut = parse(format!("100 10 {name}\n").as_bytes());
    let function = cut.find(0x100).unwrap();
    assert!(function.name.len() <= 4096 && function.name.ends_with("é…"));
}

/// Every line covers all the lines before it, which would take a square of steps if each were laid
/// over the others.
#[test]
fn a_million_lines_that_overlap_are_soon_read() {
    let mut text = String::new();
    let half = MAX_ENTRIES as u64;
    for line in 0..MAX_ENTRIES as u64 + 3 {
        let (start, size) = (half.saturating_sub(line), 2 * line + 2);
        text.push_str(&format!("{start:x} {size:x} f\n"));
    }
    let map = parse(text.as_bytes());
    assert_eq!(map.skipped(), 3);
    assert_eq!(map.functions.len(), MAX_ENTRIES);
    assert_eq!(map.find(half).unwrap().start, 1);
}

/// What the rule says, in the simplest words: the last of the lines that cover an address.
fn model(lines: &[(u64, u64)], address: u64) -> Option<usize> {
    lines
        .iter()
        .rposition(|&(start, size)| (start..start + size).contains(&address))
}

proptest! {
    #[test]
    fn overlaps_are_as_the_rule_says(
        lines in prop::collection::vec((0..100_u64, 1..40_u64), 0..40),
    ) {
        let text = |(number, (start, size)): (usize, &(u64, u64))| {
            format!("{start:x} {size:x} {number}\n")
        };
        let text: String = lines.iter().enumerate().map(text).collect();
        let map = parse(text.as_bytes());
        for address in 0..150 {
            let found = map.find(address).map(|function| function.name.parse().unwrap());
            prop_assert_eq!(found, model(&lines, address), "at {}", address);
        }
    }

    #[test]
    fn any_bytes_are_read(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(&b"0123456789abcdefx \t\r\n"[..]),
        ], 0..400),
        address: u64,
    ) {
        let map = parse(&bytes);
        for address in [address, 0, u64::MAX] {
            if let Some(function) = map.find(address) {
                prop_assert!(address - function.start < function.size);
                prop_assert!(!function.name.is_empty());
            }
        }
        prop_assert!(map.skipped() <= bytes.len() as u64);
    }
}
