use std::fs::{self, File};

use proptest::prelude::*;

use super::{super::test_elf::*, *};
use crate::unwind::user::call::{CALL_BYTES, can_be_call};

fn facts(path: &std::path::Path) -> ElfFacts {
    ElfFacts::read(&File::open(path).unwrap()).unwrap()
}

/// The file offset of the code at a link-time address, by the loads.
fn offset_of(facts: &ElfFacts, address: u64) -> u64 {
    let load = facts
        .loads
        .iter()
        .find(|load| {
            load.executable && (load.address..load.address + load.file_size).contains(&address)
        })
        .unwrap();
    address - load.address + load.offset
}

#[test]
fn programs_of_every_kind_are_described_as_readelf_does() {
    let files = Compiled::new();
    for (name, flags, kind) in [
        (
            "pie",
            &["-pie", "-fPIE", "-Wl,--build-id"][..],
            ElfKind::Relocatable,
        ),
        ("fixed", &["-no-pie", "-Wl,--build-id"], ElfKind::Fixed),
        ("static", &["-static", "-Wl,--build-id"], ElfKind::Fixed),
        (
            "library",
            &["-shared", "-fPIC", "-Wl,--build-id"],
            ElfKind::Relocatable,
        ),
    ] {
        let path = files.gcc(name, flags);
        let facts = facts(&path);
        assert_eq!(facts.kind, kind, "{name}");
        let notes = output("readelf", &["-n"], &path);
        let id = facts.build_id.unwrap().to_string();
        assert!(notes.contains(&format!("Build ID: {id}")), "{notes}");
        let headers = output("readelf", &["-lW"], &path);
        let loads = headers
            .lines()
            .filter(|line| line.starts_with("  LOAD"))
            .count();
        assert_eq!(facts.loads.len(), loads, "{name}");
        assert_eq!(facts.loads.iter().filter(|load| load.executable).count(), 1);
        assert_eq!(
            facts.eh_frame_hdr.is_some(),
            headers.contains("GNU_EH_FRAME")
        );

        let main = symbol(&path, "main");
        let offset = offset_of(&facts, main);
        assert_eq!(facts.file_offset_to_address(offset), Some(main), "{name}");
    }
}

#[test]
fn offsets_that_are_not_loaded_have_no_address() {
    let files = Compiled::new();
    let path = files.gcc("fixed", &["-no-pie"]);
    let facts = facts(&path);
    let length = fs::metadata(&path).unwrap().len();
    // The section headers are at the end and belong to no segment.
    assert_eq!(facts.file_offset_to_address(length - 1), None);
    assert_eq!(facts.file_offset_to_address(u64::MAX), None);
}

#[test]
fn without_section_headers_all_but_the_debug_link_is_known() {
    let files = Compiled::new();
    let whole = files.gcc("whole", &["-g", "-Wl,--build-id"]);
    let debug = files.objcopy(&whole, "whole.debug", &["--only-keep-debug"]);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    let stripped = files.objcopy(&whole, "stripped", &["--strip-all", &link]);
    let bare = files.without_sections(&stripped, "bare");
    let [whole, stripped, bare] = [&*whole, &*stripped, &*bare].map(facts);
    assert_eq!(whole.debug_link, None);
    let link = stripped.debug_link.unwrap();
    assert_eq!(link.name, b"whole.debug");
    let mut crc = flate2::Crc::new();
    crc.update(&fs::read(debug).unwrap());
    assert_eq!(link.crc, crc.sum());
    assert_eq!(bare.debug_link, None);
    assert_eq!(bare.loads, stripped.loads);
    assert_eq!(bare.build_id, whole.build_id);
    assert!(bare.build_id.is_some() && bare.eh_frame_hdr.is_some());
}

#[test]
fn what_is_no_program_of_this_machine_has_a_reason() {
    let files = Compiled::new();
    let path = files.gcc("program", &[]);
    let good = fs::read(&path).unwrap();
    let object = files.gcc("program.o", &["-c"]);
    assert!(matches!(
        ElfFacts::read(&File::open(object).unwrap()),
        Err(ElfError::Type(1))
    ));
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        ElfFacts::read(&*changed).unwrap_err().to_string()
    };
    assert_eq!(
        with(4, &[1]),
        "x32 program (64-bit code with 32-bit pointers), which stackwalk does not read"
    );
    assert_eq!(with(0, b"\x7fELG"), "not an ELF file");
    assert_eq!(
        with(18, &[183, 0]),
        "built for another machine (ELF machine number 183)"
    );
    assert_eq!(
        with(5, &[2, 1]),
        "built for another machine (ELF machine number 15872)"
    );
    // A program header table that is too long, is of another format, or is not there.
    assert!(with(56, &[0xff, 0x0f]).contains("too large"));
    assert!(with(54, &[32, 0]).contains("malformed"));
    assert!(with(32, &[0xff; 8]).contains("cannot read the program headers"));
    for short in [&b""[..], b"\x7fELF", &good[..40]] {
        assert!(ElfFacts::read(short).is_err());
    }
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let files = Compiled::new();
    let path = files.gcc("program", &[]);
    let file = File::open(&path).unwrap();
    let known = facts(&path);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100)
        .unwrap();
    assert!(matches!(ElfFacts::read(&file), Err(ElfError::Read { .. })));
    let sections = crate::elf::read_cfi_sections(&file, &known, u64::MAX);
    assert!(matches!(sections, Err(ElfError::Read { .. })));
}

#[test]
fn the_code_before_a_return_address_is_a_call() {
    let files = Compiled::new();
    let path = files.gcc("program", &["-O1"]);
    let facts = facts(&path);
    let code = output("objdump", &["-d", "--no-show-raw-insn"], &path);
    let address_of = |line: &str| {
        let address = line.trim_start().split(':').next()?;
        u64::from_str_radix(address, 16).ok()
    };
    let lines: Vec<&str> = code.lines().collect();
    let file = File::open(&path).unwrap();
    let mut calls = 0;
    for pair in lines.windows(2) {
        let (Some(_), Some(next)) = (address_of(pair[0]), address_of(pair[1])) else {
            continue;
        };
        let mut buffer = [0; CALL_BYTES];
        let before = next - CALL_BYTES as u64;
        if pair[0].contains("call ") {
            assert_eq!(facts.read_code(&file, before, &mut buffer).unwrap(), 7);
            assert!(can_be_call(&buffer), "{}", pair[0]);
            calls += 1;
        }
    }
    assert!(calls >= 3, "{calls} calls in {code}");
}

#[test]
fn code_ends_where_its_segment_does() {
    let files = Compiled::new();
    let path = files.gcc("program", &["-O1"]);
    let facts = facts(&path);
    let file = File::open(&path).unwrap();
    let code = facts.loads.iter().find(|load| load.executable).unwrap();
    let end = code.address + code.file_size;
    let mut buffer = [0; 16];
    assert_eq!(facts.read_code(&file, end - 3, &mut buffer).unwrap(), 3);
    assert_eq!(
        facts.read_code(&file, code.address, &mut buffer).unwrap(),
        16
    );
    for address in [end, 1 << 60] {
        let error = facts.read_code(&file, address, &mut buffer);
        assert!(matches!(error, Err(ElfError::NoCode(_))), "{address:#x}");
    }
}

#[test]
fn segments_that_share_bytes_of_the_file_are_told_apart_by_their_use() {
    let load = |address, executable| LoadSegment {
        offset: 0x1000,
        file_size: 0x1000,
        address,
        memory_size: 0x1000,
        executable,
    };
    let files = Compiled::new();
    let mut facts = facts(&files.gcc("program", &[]));
    facts.loads = vec![
        load(0x5000, false),
        load(0x9000, true),
        load(u64::MAX - 2, true),
    ];
    assert_eq!(facts.file_offset_to_address(0x1234), Some(0x9234));
    facts.loads.remove(1);
    // The address of the other would be beyond the end.
    assert_eq!(facts.file_offset_to_address(0x1234), Some(0x5234));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flipped_bits_never_make_it_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..30)) {
        static GOOD: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let files = Compiled::new();
            let path = files.gcc("program", &["-g", "-gz", "-Wl,--build-id"]);
            fs::read(path).unwrap()
        });
        let mut bytes = GOOD.clone();
        let tables = {
            let offset = u64::from_le_bytes(*bytes[40..].first_chunk().unwrap()) as usize;
            [0..64 + 13 * 56, offset..bytes.len()]
        };
        for (number, (index, bit)) in flips.iter().enumerate() {
            let table = &tables[number % 2];
            bytes[table.start + index.index(table.len())] ^= 1 << bit;
        }
        if let Ok(facts) = ElfFacts::read(&*bytes) {
            let _any_answer = crate::elf::read_cfi_sections(&*bytes, &facts, 1 << 24);
            for load in &facts.loads {
                let _any_answer = facts.file_offset_to_address(load.offset);
                let mut buffer = [0; CALL_BYTES];
                let _any_answer = facts.read_code(&*bytes, load.address, &mut buffer);
            }
        }
    }

    #[test]
    fn random_headers_never_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 64..600)) {
        bytes[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0");
        bytes[54] = 56;
        bytes[55] = 0;
        let _any_answer = ElfFacts::read(&*bytes);
    }
}

#[test]
fn a_32_bit_program_is_read_like_others() {
    let files = Compiled::new();
    for (name, options, kind) in [
        ("fixed", &["-m32", "-no-pie"][..], ElfKind::Fixed),
        ("pie", &["-m32", "-pie", "-fPIE"], ElfKind::Relocatable),
    ] {
        let path = files.gcc(name, options);
        let facts = facts(&path);
        assert_eq!((facts.mode, facts.kind), (Mode::Bits32, kind));
        let id = facts.build_id.unwrap();
        assert!(output("readelf", &["-n"], &path).contains(&id.to_string()));
        assert!(facts.eh_frame_hdr.is_some() && facts.sections.eh_frame.is_some());
        let twice = symbol(&path, "twice");
        let load = facts.loads.iter().find(|load| load.executable).unwrap();
        let offset = twice - load.address + load.offset;
        assert_eq!(facts.file_offset_to_address(offset), Some(twice));
        let mut code = [0; 16];
        let file = File::open(&path).unwrap();
        assert_eq!(facts.read_code(&file, twice, &mut code).unwrap(), 16);
        let whole = fs::read(&path).unwrap();
        for len in 0..100 {
            assert!(ElfFacts::read(&whole[..len]).is_err());
        }
    }
}
