use std::io::Cursor;

use proptest::prelude::*;

use super::{JitDump, read};

fn header() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0x4a69_5444_u32, 1, 40, 62, 0, 7] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([0; 16]);
    bytes
}

fn record(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((body.len() as u32 + 16).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn load(name: &str, start: u64, size: u64, index: u64) -> Vec<u8> {
    let mut body = words(&[0, start, start, size, index]);
    body.extend(name.as_bytes());
    body.push(0);
    body.extend(vec![0xcc; size as usize]);
    record(0, &body)
}

fn moved(old: u64, new: u64, size: u64, index: u64) -> Vec<u8> {
    record(1, &words(&[0, new, old, new, size, index]))
}

fn lines(code: u64, lines: &[(u64, u32, &[u8])]) -> Vec<u8> {
    let mut body = words(&[code, lines.len() as u64]);
    for (address, line, path) in lines {
        body.extend(address.to_le_bytes());
        body.extend(line.to_le_bytes());
        body.extend([0; 4]);
        body.extend(*path);
        body.push(0);
    }
    record(2, &body)
}

fn dump(records: &[Vec<u8>]) -> JitDump {
    read(Cursor::new([header(), records.concat()].concat())).unwrap()
}

fn name(dump: &JitDump, address: u64) -> Option<&str> {
    dump.find(address).map(|(function, _)| &*function.name)
}

fn place(dump: &JitDump, address: u64) -> Option<(&str, Option<u32>)> {
    let (_, place) = dump.find(address)?;
    place.map(|place| (place.file, place.line))
}

#[test]
fn functions_have_names_and_the_later_one_counts() {
    let dump = dump(&[
        load("JS:~one a.js:1", 0x1000, 0x2000, 1),
        record(4, &[0; 48]),
        load("two", 0x1800, 16, 2),
        record(77, b"of a later version"),
        load("three", 0x8000, 16, 3),
        record(3, b""),
        load("after the end", 0x9000, 16, 4),
    ]);
    assert_eq!(name(&dump, 0x1000), Some("JS:~one a.js:1"));
    assert_eq!(name(&dump, 0x180f), Some("two"));
    assert_eq!(name(&dump, 0x1810), Some("JS:~one a.js:1"));
    assert_eq!(name(&dump, 0x800f), Some("three"));
    assert_eq!(name(&dump, 0x8010), None);
    assert_eq!(name(&dump, 0x9000), None);
    assert_eq!(dump.skipped(), 0);
}

#[test]
fn code_that_moved_takes_its_name_and_lines_along() {
    let dump = dump(&[
        lines(0x100, &[(0x100, 3, b"a.py"), (0x108, 4, b"\xff")]),
        load("f", 0x100, 16, 9),
        moved(0x100, 0x500, 16, 9),
        load("g", 0x100, 16, 10),
        moved(0x700, 0x800, 16, 99),
    ]);
    assert_eq!(name(&dump, 0x100), Some("g"));
    assert_eq!(place(&dump, 0x100), None);
    assert_eq!(name(&dump, 0x508), Some("f"));
    assert_eq!(place(&dump, 0x507), Some(("a.py", Some(3))));
    assert_eq!(place(&dump, 0x508), Some(("a.py", Some(4))));
    assert_eq!(dump.skipped(), 1, "nothing has the number 99");
}

#[test]
fn lines_that_may_count_from_an_elf_header_name_the_file_only() {
    let dump = dump(&[
        lines(0x100, &[(0x150, 3, b"a.js")]),
        load("f", 0x100, 0x100, 1),
    ]);
    assert_eq!(place(&dump, 0x110), Some(("a.js", None)));
}

#[test]
fn what_is_still_being_written_does_not_count() {
    let whole = [header(), load("f", 0x100, 16, 1), load("g", 0x200, 16, 2)].concat();
    let second = header().len() + load("f", 0x100, 16, 1).len();
    for len in header().len()..second + 57 {
        let dump = read(Cursor::new(&whole[..len])).unwrap();
        assert_eq!(name(&dump, 0x200), None, "{len}");
    }
}

#[test]
fn other_files_are_refused_and_malformed_records_counted() {
    for bytes in [&b""[..], b"JiTD", &[0; 64], b"10 10 a perf map\n"] {
        assert!(read(Cursor::new(bytes)).is_err());
    }
    let mut empty_record = vec![0; 8];
    empty_record.extend([0; 8]);
    let bad = dump(&[load("", 1, 1, 1), load("f", u64::MAX, 1, 1), empty_record]);
    assert_eq!(bad.skipped(), 3);
    let many = record(2, &words(&[0x100, u64::MAX]));
    assert_eq!(dump(&[many]).skipped(), 1);
}

proptest! {
    #[test]
    fn any_records_are_read(
        records in prop::collection::vec(
            (0..6_u32, prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..120)),
            0..12,
        ),
        address: u64,
    ) {
        let records: Vec<_> = records.iter().map(|(kind, body)| record(*kind, body)).collect();
        let dump = dump(&records);
        for address in [0, address, u64::MAX] {
            if let Some((function, _)) = dump.find(address) {
                prop_assert!(address - function.start < function.size);
            }
        }
    }
}

#[test]
fn what_is_no_path_is_no_place() {
    for path in [&b"\xe1\xff"[..], b"", b"a\x01b"] {
        let dump = dump(&[
            lines(0x100, &[(0x100, 3, path)]),
            load("f", 0x100, 0x100, 1),
        ]);
        assert_eq!(name(&dump, 0x110), Some("f"));
        assert_eq!(place(&dump, 0x110), None);
    }
    // Bytes behind the last line: the lines before it were not where they seemed to be.
    let mut shifted = lines(0x100, &[(0x100, 3, b"a.js")]);
    let body = shifted.split_off(16);
    let longer = record(2, &[&body[..], &[1; 8]].concat());
    let dump = dump(&[longer, load("f", 0x100, 0x100, 1)]);
    assert_eq!(place(&dump, 0x110), None);
}
