//! Tests of the table in `.eh_frame_hdr`.

use super::HeaderTable;
use crate::unwind::user::{
    sections::Section,
    tests::sections::{AT_ENTRY, Builder, EH_FRAME},
};

fn header() -> Section {
    let mut builder = Builder::eh_frame();
    builder.cie("", 16, &AT_ENTRY);
    for code in [0x1000, 0x2000, 0x2000, 0x9000] {
        builder.fde(code, 0x100, &[]);
    }
    builder.header()
}

fn with_bytes(bytes: Vec<u8>) -> Section {
    Section {
        bytes: bytes.into(),
        ..header()
    }
}

fn candidates(address: u64) -> usize {
    let header = header();
    let table = HeaderTable::parse(&header, EH_FRAME).unwrap();
    table.candidates(&header, address).count()
}

#[test]
fn the_last_entry_not_above_the_address_is_found() {
    assert_eq!(candidates(0xfff), 0);
    assert_eq!(candidates(0x1000), 1);
    assert_eq!(candidates(0x1fff), 1);
    assert_eq!(candidates(0x2000), 2, "both entries of the same code");
    assert_eq!(candidates(0x8fff), 2);
    assert_eq!(candidates(u64::from(u32::MAX >> 1)), 1);
    // Too far away for any entry to be of it.
    assert_eq!(candidates(u64::MAX / 2), 0);
}

#[test]
fn every_entry_leads_to_its_fde() {
    let header = header();
    let table = HeaderTable::parse(&header, EH_FRAME).unwrap();
    let first = |address| table.candidates(&header, address).next().unwrap();
    assert!(first(0x1000) > EH_FRAME);
    assert!(first(0x2000) > first(0x1000));
    assert!(first(0x9000) > first(0x2000));
}

#[test]
fn unusual_or_malformed_headers_are_not_used() {
    let good = header().bytes.to_vec();
    assert!(HeaderTable::parse(&with_bytes(good.clone()), EH_FRAME).is_some());
    assert!(
        HeaderTable::parse(&with_bytes(good.clone()), EH_FRAME + 8).is_none(),
        "of another section"
    );
    for (offset, value) in [(0, 2), (1, 0x00), (2, 0xff), (3, 0x1b), (8, 5), (11, 0xff)] {
        let mut bytes = good.clone();
        bytes[offset] = value;
        let header = with_bytes(bytes);
        assert!(HeaderTable::parse(&header, EH_FRAME).is_none(), "{offset}");
    }
    for length in 0..good.len() {
        let header = with_bytes(good[..length].to_vec());
        assert!(HeaderTable::parse(&header, EH_FRAME).is_none(), "{length}");
    }
    let mut unsorted = good.clone();
    let (first, second) = unsorted[12..].split_at_mut(8);
    first.swap_with_slice(&mut second[..8]);
    assert!(HeaderTable::parse(&with_bytes(unsorted), EH_FRAME).is_none());
    let mut empty = good;
    empty[8..12].fill(0);
    assert!(HeaderTable::parse(&with_bytes(empty), EH_FRAME).is_none());
}
