use proptest::prelude::*;

use super::*;

/// Raw arrays for entries that start at `addresses`, each told apart by its sp_offset.
fn raw_table(ips_address: u64, addresses: &[u64]) -> (Vec<u8>, Vec<u8>) {
    let mut ips = Vec::new();
    let mut entries = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let slot = ips_address + 4 * index as u64;
        let displacement = address.wrapping_sub(slot) as i64;
        ips.extend(i32::try_from(displacement).unwrap().to_le_bytes());
        entries.extend((index as i16).to_le_bytes());
        entries.extend([0, 0, 0x05, 0x02]);
    }
    (ips, entries)
}

#[test]
fn the_kernels_own_frame_pointer_entry_decodes_in_each_format() {
    // The bytes of `orc_fp_entry` in kernels of each format.
    let v1 = OrcEntry::decode([0x10, 0, 0xf0, 0xff, 0x14, 0x00], OrcFormat::V1);
    let v2 = OrcEntry::decode([0x10, 0, 0xf0, 0xff, 0x14, 0x00], OrcFormat::V2);
    let v3 = OrcEntry::decode([0x10, 0, 0xf0, 0xff, 0x14, 0x02], OrcFormat::V3);
    let v4 = OrcEntry::decode([0x10, 0, 0xf0, 0xff, 0x84, 0x02], OrcFormat::V4);
    for entry in [v1, v2, v3, v4] {
        assert_eq!(entry, OrcEntry::FRAME_POINTER);
    }
}

#[test]
fn the_end_marker_and_undefined_differ_in_each_format() {
    let kind = |flags: u16, format| {
        let [low, high] = flags.to_le_bytes();
        OrcEntry::decode([0, 0, 0, 0, low, high], format).kind
    };
    assert_eq!(kind(1 << 10, OrcFormat::V1), OrcKind::EndOfStack);
    assert_eq!(kind(0, OrcFormat::V1), OrcKind::Undefined);
    assert_eq!(kind(1 << 11, OrcFormat::V2), OrcKind::EndOfStack);
    assert_eq!(kind(1 << 10, OrcFormat::V2), OrcKind::Undefined);
    assert_eq!(kind(1 << 8, OrcFormat::V3), OrcKind::EndOfStack);
    assert_eq!(kind(0, OrcFormat::V3), OrcKind::Undefined);
    assert_eq!(kind(7 << 8, OrcFormat::V3), OrcKind::Undefined);
}

#[test]
fn interrupted_callers_are_told_by_type_in_v1_and_by_a_bit_later() {
    let signal = |flags: u16, format| {
        let [low, high] = flags.to_le_bytes();
        OrcEntry::decode([0, 0, 0, 0, low, high], format).signal
    };
    assert!(signal(0x0105, OrcFormat::V1));
    assert!(!signal(0x0005, OrcFormat::V1));
    assert!(!signal(0x0105, OrcFormat::V2));
    assert!(signal(0x0505, OrcFormat::V2));
    assert!(signal(0x0b05, OrcFormat::V3));
    assert!(!signal(0x0305, OrcFormat::V3));
}

#[test]
fn sp_indirect_changed_its_meaning_inside_v1() {
    let sp_reg = |format| OrcEntry::decode([0, 0, 0, 0, 0x09, 0], format).sp_reg;
    assert_eq!(
        sp_reg(OrcFormat::V1OffsetFirst),
        OrcRegister::SpIndirectOffsetFirst
    );
    assert_eq!(sp_reg(OrcFormat::V1), OrcRegister::SpIndirect);
    assert_eq!(sp_reg(OrcFormat::V4), OrcRegister::SpIndirect);
}

#[test]
fn lookup_takes_the_rightmost_of_equal_starts() {
    let base = 0xffff_ffff_8100_0000;
    let (ips, entries) = raw_table(base + 0x10_0000, &[base, base + 16, base + 16, base + 700]);
    let table = OrcTable::from_raw(base + 0x10_0000, &ips, &entries, OrcFormat::V3).unwrap();
    let found = |offset: u64| {
        table
            .find(base.wrapping_add(offset))
            .map(|entry| entry.sp_offset)
    };
    assert_eq!(found(0), Some(0));
    assert_eq!(found(15), Some(0));
    assert_eq!(found(16), Some(2));
    assert_eq!(found(699), Some(2));
    assert_eq!(found(u64::MAX), None);
    assert_eq!(found(1 << 20), None);
}

#[test]
fn tables_that_do_not_fit_together_are_refused() {
    let base = 0xffff_ffff_8100_0000;
    let (ips, entries) = raw_table(base, &[base, base + 16]);
    let table = |ips: &[u8], entries: &[u8]| {
        OrcTable::from_raw(base, ips, entries, OrcFormat::V3).map(|table| table.len())
    };
    assert_eq!(table(&[], &[]), Err(OrcError::Empty));
    assert_eq!(
        table(&ips[..4], &entries),
        Err(OrcError::LengthMismatch { ips: 1, entries: 2 })
    );
    let (ips, entries) = raw_table(base, &[base + 16, base]);
    assert_eq!(table(&ips, &entries), Err(OrcError::Unsorted { index: 1 }));
    let (ips, entries) = raw_table(base, &[base - (1 << 30), base]);
    assert_eq!(
        table(&ips, &entries),
        Err(OrcError::SpanTooLarge { span: 1 << 30 })
    );
}

proptest! {
    /// The block index finds what a plain search over the addresses finds.
    #[test]
    fn lookup_equals_a_linear_search(
        mut offsets in prop::collection::vec(0u64..5000, 1..200),
        queries in prop::collection::vec(0u64..6000, 1..50),
    ) {
        offsets.sort_unstable();
        let base = 0xffff_ffff_8100_0000u64;
        let addresses: Vec<u64> = offsets.iter().map(|offset| base + offset).collect();
        let (ips, entries) = raw_table(base, &addresses);
        let table = OrcTable::from_raw(base, &ips, &entries, OrcFormat::V3).unwrap();
        for query in queries {
            let ip = base + query;
            let expected = addresses.iter().rposition(|start| *start <= ip);
            // Past the last start the table may answer or not, but only with the last entry.
            if let Some(found) = table.find(ip) {
                prop_assert_eq!(Some(found.sp_offset as usize), expected);
            } else {
                prop_assert!(expected.is_none() || ip >= table.end());
            }
        }
    }

    /// Whatever the bytes are: no panic, and a lookup answers or not.
    #[test]
    fn random_bytes_are_a_table_or_an_error(
        ips in prop::collection::vec(any::<u8>(), 0..400),
        entries in prop::collection::vec(any::<u8>(), 0..600),
        ip in any::<u64>(),
    ) {
        if let Ok(table) = OrcTable::from_raw(0xffff_ffff_8100_0000, &ips, &entries, OrcFormat::V4) {
            let _ = (table.find(ip), table.find(table.begin()), table.find(table.end()));
        }
    }
}
