//! Tests of finding and running the entry for an address.

use gimli::{CfaRule, Register, RegisterRule};

use super::{CfiError, CfiTables, LOOKUP_COST, RowContext};
use crate::unwind::user::{
    entry::NoRow,
    sections::{CfiSections, Section},
    tests::sections::{AT_ENTRY, Builder, EH_FRAME, HEADER, op},
};

/// The offset of rsp that the row for `address` has for the CFA; `None` if there is no row.
fn cfa(tables: &CfiTables, address: u64) -> Result<Option<i64>, NoRow> {
    let mut context = RowContext::new_in();
    let row = tables.row(address, &mut context, &mut 10_000)?;
    Ok(row.map(|row| match row.rules.cfa() {
        CfaRule::RegisterAndOffset { offset, .. } => *offset,
        CfaRule::Expression(_) => panic!("an expression"),
    }))
}

/// Three functions of 0x100 bytes, whose frames have 16, 32 and 48 bytes.
fn three() -> Builder {
    let mut builder = Builder::eh_frame();
    builder.cie("", 16, &AT_ENTRY);
    // Not in the order of their addresses.
    for (code, offset) in [(0x2000, 32), (0x1000, 16), (0x3000, 48)] {
        builder.fde(code, 0x100, &[op::DEF_CFA_OFFSET, offset]);
    }
    builder
}

fn check_three(tables: &CfiTables) {
    for (address, wanted) in [
        (0xfff, None),
        (0x1000, Some(16)),
        (0x10ff, Some(16)),
        (0x1100, None),
        (0x2080, Some(32)),
        (0x30ff, Some(48)),
        (0x3100, None),
        (0, None),
        (u64::MAX, None),
    ] {
        assert_eq!(cfa(tables, address), Ok(wanted), "{address:#x}");
    }
}

#[test]
fn the_entry_that_covers_an_address_is_found() {
    let builder = three();
    check_three(&builder.tables());
    let with_header = CfiTables::new(CfiSections {
        eh_frame: Some(builder.section()),
        eh_frame_hdr: Some(builder.header()),
        ..CfiSections::default()
    })
    .unwrap();
    check_three(&with_header);
    let mut debug = Builder::debug_frame();
    debug.cie("", 16, &AT_ENTRY);
    for (code, offset) in [(0x3000, 48), (0x1000, 16), (0x2000, 32)] {
        debug.fde(code, 0x100, &[op::DEF_CFA_OFFSET, offset]);
    }
    check_three(&debug.tables());
}

/// A header that lies in any way costs what it hides, but never shows another function's row.
#[test]
fn a_wrong_header_leads_to_no_wrong_row() {
    let builder = three();
    let good = builder.header();
    for index in 12..good.bytes.len() {
        for flip in [1, 4, 0x80] {
            let mut bytes = good.bytes.to_vec();
            bytes[index] ^= flip;
            let tables = CfiTables::new(CfiSections {
                eh_frame: Some(builder.section()),
                eh_frame_hdr: Some(Section {
                    address: HEADER,
                    bytes: bytes.into(),
                }),
                ..CfiSections::default()
            })
            .unwrap();
            for (address, wanted) in [(0x1010, 16), (0x2010, 32), (0x3010, 48)] {
                match cfa(&tables, address) {
                    Ok(Some(found)) => assert_eq!(found, wanted),
                    Ok(None) | Err(NoRow::Malformed) => {}
                    Err(NoRow::Budget) => panic!("too little budget"),
                }
            }
        }
    }
}

#[test]
fn debug_frame_is_asked_where_eh_frame_has_nothing() {
    let mut debug = Builder::debug_frame();
    debug.cie("", 16, &AT_ENTRY);
    debug.fde(0x1000, 0x100, &[op::DEF_CFA_OFFSET, 80]);
    debug.fde(0x5000, 0x100, &[op::DEF_CFA_OFFSET, 96]);
    // What the linker dropped must not be taken for code at low addresses.
    debug.fde(0, 0x800, &[op::DEF_CFA_OFFSET, 112]);
    let tables = CfiTables::new(CfiSections {
        eh_frame: Some(three().section()),
        debug_frame: Some(debug.section()),
        ..CfiSections::default()
    })
    .unwrap();
    assert_eq!(cfa(&tables, 0x1000), Ok(Some(16)), "eh_frame comes first");
    assert_eq!(cfa(&tables, 0x5000), Ok(Some(96)));
    assert_eq!(cfa(&tables, 0x10), Ok(None));
}

#[test]
fn the_row_is_that_of_the_address() {
    let mut builder = Builder::eh_frame();
    builder.cie("", 16, &AT_ENTRY);
    let program = [
        op::ADVANCE | 1,
        op::DEF_CFA_OFFSET,
        16,
        op::OFFSET | 6,
        2,
        op::ADVANCE | 3,
        op::GNU_ARGS_SIZE,
        64,
        op::DEF_CFA_OFFSET,
        24,
    ];
    builder.fde(0x1000, 0x10, &program);
    let tables = builder.tables();
    for (address, wanted) in [(0x1000, 8), (0x1001, 16), (0x1003, 16), (0x1004, 24)] {
        assert_eq!(cfa(&tables, address), Ok(Some(wanted)), "{address:#x}");
    }
    let mut context = RowContext::new_in();
    let row = tables
        .row(0x1004, &mut context, &mut 1000)
        .unwrap()
        .unwrap();
    assert_eq!(
        row.rules.register(Register(6)),
        Some(RegisterRule::Offset(-16))
    );
    assert_eq!(row.return_column, Register(16));
    assert!(!row.signal);
}

#[test]
fn the_augmentation_tells_signal_frames() {
    for (augmentation, signal) in [("zS", true), ("S", true), ("z", false), ("", false)] {
        let mut builder = Builder::eh_frame();
        builder.cie(augmentation, 16, &AT_ENTRY);
        builder.fde(0x1000, 0x10, &[]);
        let tables = builder.tables();
        let mut context = RowContext::new_in();
        let row = tables
            .row(0x1000, &mut context, &mut 1000)
            .unwrap()
            .unwrap();
        assert_eq!(row.signal, signal, "{augmentation}");
    }
}

/// Two parts with a terminator between them are what careless linking leaves.
#[test]
fn an_entry_without_length_does_not_hide_what_follows() {
    let mut builder = three();
    builder
        .raw(&[0; 4])
        .fde(0x4000, 0x100, &[op::DEF_CFA_OFFSET, 64]);
    assert_eq!(cfa(&builder.tables(), 0x4000), Ok(Some(64)));
}

#[test]
fn a_long_augmentation_is_refused_without_reading_it() {
    let mut builder = Builder::eh_frame();
    builder.cie(&"S".repeat(100), 16, &AT_ENTRY);
    builder.fde(0x1000, 0x10, &[]);
    assert_eq!(cfa(&builder.tables(), 0x1000), Ok(None));
}

#[test]
fn a_program_that_asks_for_too_much_is_malformed() {
    let many_rules: Vec<u8> = (0..60)
        .flat_map(|register| [op::SAME_VALUE, register])
        .collect();
    let deep = [op::REMEMBER; 8];
    let unknown = [0x3f];
    for program in [many_rules.as_slice(), &deep, &unknown] {
        let mut builder = Builder::eh_frame();
        builder.cie("", 16, &AT_ENTRY);
        builder.fde(0x1000, 0x10, program);
        assert_eq!(cfa(&builder.tables(), 0x1000), Err(NoRow::Malformed));
    }
}

#[test]
fn long_programs_use_up_the_budget() {
    let mut builder = Builder::eh_frame();
    builder.cie("", 16, &AT_ENTRY);
    builder.fde(0x1000, 0x10, &[0; 4000]);
    let tables = builder.tables();
    let mut context = RowContext::new_in();
    let mut budget = 4000 + 2 * LOOKUP_COST;
    assert!(tables.row(0x1000, &mut context, &mut budget).is_ok());
    let rest = budget;
    assert!(rest < 2 * LOOKUP_COST);
    let result = tables.row(0x1000, &mut context, &mut budget);
    assert_eq!(result.unwrap_err(), NoRow::Budget);
    assert_eq!(budget, rest);
}

#[test]
fn the_index_is_bounded_by_its_section() {
    let mut builder = Builder::eh_frame();
    builder.cie("", 16, &[]);
    for index in 0..1000 {
        builder.fde(0x1000 + index, 1, &[]);
    }
    let section = builder.section().bytes.len();
    let bytes = builder.tables().bytes();
    assert!(
        bytes > section && bytes <= section * 7 / 3,
        "{bytes} {section}"
    );
}

#[test]
fn an_object_without_sections_has_no_tables() {
    assert!(matches!(
        CfiTables::new(CfiSections::default()),
        Err(CfiError::NoSection)
    ));
    let empty = CfiTables::new(CfiSections {
        eh_frame: Some(Section {
            address: EH_FRAME,
            bytes: [0; 4].as_slice().into(),
        }),
        ..CfiSections::default()
    });
    assert_eq!(cfa(&empty.unwrap(), 0x1000), Ok(None));
}
