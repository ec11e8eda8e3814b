use proptest::prelude::*;

use super::*;

/// Code with these addresses as 32-bit operands between bytes that make none.
fn code_with(addresses: &[u64]) -> Vec<u8> {
    let mut code = vec![0x90, 0, 0, 0];
    for address in addresses {
        code.extend((*address as u32).to_le_bytes());
        code.extend([0, 0, 0, 0]);
    }
    code
}

const IPS: u64 = 0xffff_ffff_8329_dbdc;
const COUNT: u64 = 483_663;
const ENTRIES: u64 = IPS + 4 * COUNT;
const END: u64 = ENTRIES + 6 * COUNT;

#[test]
fn the_tables_are_found_between_other_addresses() {
    let code = code_with(&[
        0xffff_ffff_8100_0000,
        END,
        IPS,
        0xffff_ffff_8286_edf0,
        ENTRIES,
    ]);
    let expected = OrcLocation {
        ips: IPS,
        entries: ENTRIES,
        count: COUNT,
    };
    assert_eq!(find_in_code(&code), [expected]);
}

/// Addresses of another kernel's code, two of which fitted each other by chance.
#[test]
fn what_fits_by_chance_is_no_table() {
    let chance = [
        0xffff_ffff_8b65_3d80,
        0xffff_ffff_8bbd_3d80,
        0xffff_ffff_8c41_3d80,
    ];
    let code = code_with(&[&chance[..], &[IPS, ENTRIES, END]].concat());
    let found = find_in_code(&code);
    assert_eq!(found.len(), 2);
    let table = |step: i32| {
        let offsets = (0..64).map(|index: i32| (index * step - 0x200_0000).to_le_bytes());
        ModuleMemory {
            at: IPS,
            bytes: offsets.flatten().collect(),
        }
    };
    assert!(begins_like_a_table(&mut table(8), &found[0]));
    assert!(!begins_like_a_table(&mut table(-8), &found[0]));
    assert!(!begins_like_a_table(&mut table(8), &found[1]));
    assert_eq!(find_in_code(&code_with(&[IPS, ENTRIES])), []);
}

/// Displacements that stood near the unwinder of a 6.18 kernel and fitted each other as its table
/// addresses do.
#[test]
fn displacements_of_calls_are_no_addresses() {
    let calls = [
        0xffff_ffff_fb68_850f,
        0xffff_ffff_fc20_850f,
        0xffff_ffff_fd34_850f,
    ];
    let code = code_with(&[&calls[..], &[IPS, ENTRIES, END]].concat());
    assert_eq!(find_in_code(&code)[0].ips, IPS);
}

fn raw(sp_reg: u8) -> RawOrc {
    RawOrc {
        ips_address: 0,
        ips: vec![0; 8],
        entries: [0, 0, 0, 0, sp_reg, 2].repeat(2),
    }
}

#[test]
fn the_format_is_told_from_the_fields_and_the_registers() {
    let format = |kind, signal, link, sp_reg| raw(sp_reg).format(OrcBits { kind, signal }, link);
    assert_eq!(
        format(2, false, false, 5).unwrap(),
        OrcFormat::V1OffsetFirst
    );
    assert_eq!(format(2, false, true, 5).unwrap(), OrcFormat::V1);
    assert_eq!(format(2, true, true, 5).unwrap(), OrcFormat::V2);
    assert_eq!(format(3, true, true, 5).unwrap(), OrcFormat::V3);
    assert_eq!(format(3, true, true, 3).unwrap(), OrcFormat::V4);
    assert!(format(3, true, true, 7).is_err());
    assert!(format(4, true, true, 5).is_err());
}

/// Memory that holds one struct module with a table, and nothing else.
struct ModuleMemory {
    at: u64,
    bytes: Vec<u8>,
}

impl KernelMemory for ModuleMemory {
    fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let error = || ReadError {
            address,
            length,
            reason: "not there".to_owned(),
        };
        let begin = address.checked_sub(self.at).ok_or_else(error)? as usize;
        self.bytes
            .get(begin..begin + length)
            .map(<[u8]>::to_vec)
            .ok_or_else(error)
    }
}

#[test]
fn a_modules_table_is_found_through_its_struct_module() {
    let at: u64 = 0xffff_ffff_c000_0000;
    let (ips, entries) = (at + 64, at + 72);
    let mut bytes = Vec::new();
    bytes.extend(2u32.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(ips.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.resize(64, 0);
    bytes.extend(0x100i32.to_le_bytes());
    bytes.extend(0x200i32.to_le_bytes());
    bytes.extend([8, 0, 0, 0, 0x05, 0x02].repeat(2));
    let mut memory = ModuleMemory { at, bytes };
    let offsets = ModuleOrc {
        num_orcs: 0,
        orc_unwind_ip: 8,
        orc_unwind: 16,
    };

    let sysfs = tempfile::tempdir().unwrap();
    let sections = sysfs.path().join("loaded/sections");
    fs::create_dir_all(&sections).unwrap();
    fs::write(
        sections.join(".gnu.linkonce.this_module"),
        format!("{at:#x}\n"),
    )
    .unwrap();
    let gone = sysfs.path().join("gone/sections");
    fs::create_dir_all(&gone).unwrap();
    fs::write(
        gone.join(".gnu.linkonce.this_module"),
        "0xffffffffd0000000\n",
    )
    .unwrap();
    fs::create_dir_all(sysfs.path().join("builtin/parameters")).unwrap();

    let (tables, unreadable) = of_modules(&mut memory, offsets, OrcFormat::V3, sysfs.path());
    assert_eq!(unreadable, 1);
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].begin(), ips + 0x100);
    assert_eq!(
        tables[0].find(ips + 0x180).map(|entry| entry.sp_offset),
        Some(8)
    );
}

proptest! {
    /// Any code gives a location or an error, in bounded time.
    #[test]
    fn random_code_does_not_panic(code in prop::collection::vec(any::<u8>(), 0..0x1800)) {
        let _ = find_in_code(&code);
    }
}
