use std::{fs, fs::File, process::Command};

use proptest::prelude::*;

use super::{Layout, ranges, stack_switches};
use crate::elf::{ElfFacts, SectionRange, read_cfi_sections};

/// A table with functions of 16 bytes from 0x1000 on, whose flags are given.
fn table(magic: u32, flags: &[u8]) -> Vec<u8> {
    let layout = Layout::of(magic).unwrap();
    let mut table = magic.to_le_bytes().to_vec();
    table.extend([0, 0, 1, 8]);
    let mut numbers = [0; 8];
    numbers[0] = flags.len() as u64;
    if let Some(text) = layout.text {
        numbers[text] = 0x1000;
    }
    numbers[layout.functions] = 80;
    for number in numbers {
        table.extend(number.to_le_bytes());
    }
    table.resize(80, 0);
    let first = if layout.text.is_some() { 0 } else { 0x1000 };
    let list_end = (2 * flags.len() + 1) * layout.width;
    let value = |value: usize| (value as u64).to_le_bytes()[..layout.width].to_vec();
    for index in 0..flags.len() {
        table.extend(value(first + 16 * index));
        table.extend(value(list_end + 48 * index));
    }
    table.extend(value(first + 16 * flags.len()));
    for flag in flags {
        let mut function = [0; 48];
        function[layout.flags] = *flag;
        table.extend(function);
    }
    table
}

fn switches_of(table: &[u8]) -> Vec<std::ops::Range<u64>> {
    let range = SectionRange {
        address: 0x5000,
        offset: 0,
        size: table.len() as u64,
        compressed: false,
    };
    stack_switches(table, &range, None)
}

#[test]
fn flagged_functions_are_found_in_every_version() {
    for magic in [0xffff_fffa, 0xffff_fff0, 0xffff_fff1] {
        let table = table(magic, &[0, 2, 1, 4, 3]);
        let switches = switches_of(&table);
        assert_eq!(switches, [0x1010..0x1020, 0x1040..0x1050], "{magic:#x}");
    }
}

#[test]
fn an_unknown_version_has_none() {
    let mut table = table(0xffff_fff1, &[2]);
    assert_eq!(switches_of(&table).len(), 1);
    table[0] = 0xf2;
    assert!(switches_of(&table).is_empty());
}

#[test]
fn functions_out_of_order_are_not_believed() {
    let layout = Layout::of(0xffff_fff1).unwrap();
    let mut functions = table(0xffff_fff1, &[2, 2])[80..].to_vec();
    assert_eq!(ranges(&functions, 2, 0x1000, &layout).unwrap().len(), 2);
    functions[0] = 0x40;
    assert_eq!(ranges(&functions, 2, 0x1000, &layout), None);
    assert_eq!(ranges(&functions, usize::MAX, 0x1000, &layout), None);
}

#[test]
fn a_go_program_names_its_switches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    fs::write(
        folder.path().join("main.go"),
        "package main\nfunc main() { println() }\n",
    )
    .unwrap();
    let mut go = Command::new("go");
    go.args(["build", "-o", "program", "main.go"]);
    go.env("GO111MODULE", "off")
        .env("GOCACHE", folder.path().join("cache"));
    let Ok(output) = go.current_dir(folder.path()).output() else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let file = File::open(&path).unwrap();
    let facts = ElfFacts::read(&file).unwrap();
    let switches = read_cfi_sections(&file, &facts, 1 << 30)
        .unwrap()
        .stack_switches;
    let symbols = Command::new("nm").arg(&path).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let is_switch = |name: &str| {
        let line = symbols
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let address = u64::from_str_radix(line.unwrap().split(' ').next().unwrap(), 16).unwrap();
        switches.iter().any(|range| range.start == address)
    };
    for name in ["runtime.mcall", "runtime.systemstack", "runtime.nanotime1"] {
        let name = if symbols.contains(&format!(" {name}\n")) {
            name.to_owned()
        } else {
            format!("{name}.abi0")
        };
        assert!(is_switch(&name), "{name}");
    }
    assert!(!is_switch("main.main"));
}

proptest! {
    #[test]
    fn a_spoilt_table_does_no_harm(at in 0_usize..300, byte: u8, cut in 0_usize..400) {
        let mut table = table(0xffff_fff1, &[0, 2, 0, 2]);
        let at = at % table.len();
        table[at] = byte;
        let switches = switches_of(&table);
        prop_assert!(switches.windows(2).all(|pair| pair[0].end <= pair[1].start));
        table.truncate(cut);
        let _any_answer = switches_of(&table);
    }
}
