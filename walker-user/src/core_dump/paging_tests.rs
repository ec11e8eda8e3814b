use std::collections::HashMap;

use super::*;

/// Entries of page tables at physical addresses.
type Entries = HashMap<u64, u64>;

fn translate(tables: PageTables, entries: &Entries, address: u64) -> Result<Mapping, Fault> {
    tables.translate(address, |at, size| {
        let mask = if size == 4 { 0xffff_ffff } else { u64::MAX };
        Some(entries.get(&at).copied().unwrap_or(0) & mask)
    })
}

const ROOT: u64 = 0x1000;

#[test]
fn four_levels_with_pages_of_three_sizes() {
    let tables = PageTables::at_cr3(ROOT | 0x8000_0000_0000_0018, PagingMode::FourLevel);
    assert_eq!(tables.root, ROOT);
    let address = 0xffff_c900_0012_3456u64;
    let index = |shift: u32| 8 * ((address >> shift) & 0x1ff);
    let mut entries = Entries::new();
    entries.insert(ROOT + index(39), 0x2000 | PRESENT);
    entries.insert(0x2000 + index(30), 0x3000 | PRESENT);
    entries.insert(0x3000 + index(21), 0x4000 | PRESENT);
    entries.insert(
        0x4000 + index(12),
        0x7777_7000 | PRESENT | NO_EXECUTE | LARGE,
    );
    assert_eq!(
        translate(tables, &entries, address),
        Ok(Mapping {
            physical: 0x7777_7456,
            left: 0x1000 - 0x456,
            executable: false
        })
    );
    // 2 MiB: the bits below the page's size are not part of its address.
    entries.insert(0x3000 + index(21), 0x4020_1000 | PRESENT | LARGE);
    assert_eq!(
        translate(tables, &entries, address),
        Ok(Mapping {
            physical: 0x4020_0000 + (address & 0x1f_ffff),
            left: 0x20_0000 - (address & 0x1f_ffff),
            executable: true
        })
    );
    // 1 GiB.
    entries.insert(0x2000 + index(30), 0x1_4000_0000 | PRESENT | LARGE);
    let mapping = translate(tables, &entries, address).unwrap();
    assert_eq!(mapping.physical, 0x1_4000_0000 + (address & 0x3fff_ffff));
    // Not code at any level is not code.
    entries.insert(ROOT + index(39), 0x2000 | PRESENT | NO_EXECUTE);
    assert!(!translate(tables, &entries, address).unwrap().executable);
}

#[test]
fn five_levels_begin_one_higher() {
    let tables = PageTables::at_cr3(ROOT, PagingMode::from_cr4(true, CR4_LA57 | CR4_PAE));
    assert_eq!(tables.mode, PagingMode::FiveLevel);
    let address = 0xff11_0000_0000_0123u64;
    let mut entries = Entries::new();
    entries.insert(ROOT + 8 * ((address >> 48) & 0x1ff), 0x2000 | PRESENT);
    entries.insert(0x2000, 0x3000 | PRESENT);
    entries.insert(0x3000, PRESENT | LARGE | 0x8000_0000);
    let mapping = translate(tables, &entries, address).unwrap();
    assert_eq!(mapping.physical, 0x8000_0123);
}

#[test]
fn pae_has_four_entries_in_a_root_that_need_not_be_a_page() {
    let tables = PageTables::at_cr3(0x1_0000_5a20, PagingMode::from_cr4(false, CR4_PAE));
    assert_eq!(tables.root, 0x5a20);
    let address = 0xc123_4567u64;
    let mut entries = Entries::new();
    entries.insert(0x5a20 + 3 * 8, 0x2000 | PRESENT);
    entries.insert(0x2000 + 8 * 9, 0x3000 | PRESENT);
    entries.insert(0x3000 + 8 * 0x34, 0x5_0000_6000 | PRESENT);
    let mapping = translate(tables, &entries, address).unwrap();
    assert_eq!(mapping.physical, 0x5_0000_6567);
    entries.insert(0x2000 + 8 * 9, 0x60_0000 | PRESENT | LARGE);
    let mapping = translate(tables, &entries, address).unwrap();
    assert_eq!(mapping.physical, 0x60_0000 + 0x3_4567);
}

#[test]
fn two_levels_have_entries_of_four_bytes_and_large_pages_above_4_gib() {
    let tables = PageTables::at_cr3(ROOT | 0x18, PagingMode::from_cr4(false, 0));
    let address = 0xc123_4567u64;
    let mut entries = Entries::new();
    let root_entry = ROOT + 4 * (address >> 22);
    entries.insert(root_entry, 0x2000 | PRESENT);
    entries.insert(0x2000 + 4 * 0x234, 0xffff_ffff_0000_9000 | PRESENT);
    let mapping = translate(tables, &entries, address).unwrap();
    assert_eq!(mapping.physical, 0x9567);
    assert!(mapping.executable);
    // Bit 13 is bit 32 of the address.
    entries.insert(root_entry, 0x0040_2000 | PRESENT | LARGE);
    let mapping = translate(tables, &entries, address).unwrap();
    assert_eq!(mapping.physical, 0x1_0040_0000 + (address & 0x3f_ffff));
}

#[test]
fn what_is_not_there_says_how_much_is_not() {
    let tables = PageTables::at_cr3(ROOT, PagingMode::FourLevel);
    let mut entries = Entries::new();
    assert_eq!(
        translate(tables, &entries, 0x1000),
        Err(Fault::NotPresent {
            left: (1 << 39) - 0x1000
        })
    );
    entries.insert(ROOT, 0x2000 | PRESENT);
    let unreadable = tables.translate(0x1000, |at, _| (at < 0x2000).then_some(0x2000 | PRESENT));
    assert_eq!(
        unreadable,
        Err(Fault::Unreadable {
            entry: 0x2000,
            left: (1 << 30) - 0x1000
        })
    );
}

#[test]
fn tables_that_lead_to_themselves_end_at_the_last_level() {
    for mode in [
        PagingMode::TwoLevel,
        PagingMode::Pae,
        PagingMode::FourLevel,
        PagingMode::FiveLevel,
    ] {
        let mut reads = 0;
        let tables = PageTables::at_cr3(ROOT, mode);
        let mapping = tables.translate(0xffff_ffff, |_, _| {
            reads += 1;
            Some(ROOT | PRESENT)
        });
        assert_eq!(reads, mode.shifts().len());
        assert_eq!(mapping.unwrap().physical, ROOT + 0xfff);
    }
}
