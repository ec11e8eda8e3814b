use std::{
    fs::{self, File},
    path::Path,
};

use super::{super::test_elf::*, *};
use crate::elf::{DebugFileError, debug_file_path, open_debug_file};

fn sections(path: &Path) -> CfiSections {
    let file = File::open(path).unwrap();
    let facts = ElfFacts::read(&file).unwrap();
    read_cfi_sections(&file, &facts, u64::MAX).unwrap()
}

/// Address and bytes of a section, by `readelf` and the file.
fn section_of(path: &Path, name: &str) -> (u64, Vec<u8>) {
    let table = output("readelf", &["-SW"], path);
    let line = table
        .lines()
        .find(|line| line.contains(&format!(" {name} ")));
    let fields: Vec<_> = line
        .unwrap()
        .split(']')
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    let number = |at: usize| usize::from_str_radix(fields[at], 16).unwrap();
    let bytes = fs::read(path).unwrap();
    (
        number(2) as u64,
        bytes[number(3)..number(3) + number(4)].to_vec(),
    )
}

fn assert_is(section: Option<&Section>, expected: &(u64, Vec<u8>)) {
    let section = section.unwrap();
    assert_eq!(
        (section.address, &*section.bytes),
        (expected.0, &*expected.1)
    );
}

#[test]
fn the_sections_are_those_that_the_headers_name() {
    let files = Compiled::new();
    for (name, flags) in [
        ("pie", &["-pie"][..]),
        ("static", &["-static", "-Wl,--eh-frame-hdr"]),
    ] {
        let path = files.gcc(name, flags);
        let sections = sections(&path);
        assert_is(sections.eh_frame.as_ref(), &section_of(&path, ".eh_frame"));
        assert_is(
            sections.eh_frame_hdr.as_ref(),
            &section_of(&path, ".eh_frame_hdr"),
        );
        assert!(sections.debug_frame.is_none());
        assert_eq!(sections.text, Some(section_of(&path, ".text").0));
        assert_eq!(sections.got, Some(section_of(&path, ".got").0));
    }
}

#[test]
fn a_program_without_eh_frame_hdr_has_its_eh_frame_by_section_only() {
    let files = Compiled::new();
    let path = files.gcc("static", &["-static"]);
    let whole = sections(&path);
    assert!(whole.eh_frame_hdr.is_none());
    assert_is(whole.eh_frame.as_ref(), &section_of(&path, ".eh_frame"));
    let bare = sections(&files.without_sections(&path, "bare"));
    assert_eq!(bare.bytes(), 0);
}

#[test]
fn without_section_headers_eh_frame_is_found_by_its_header() {
    let files = Compiled::new();
    for (name, flags) in [
        ("pie", &["-pie"][..]),
        ("static", &["-static", "-Wl,--eh-frame-hdr"]),
    ] {
        let whole = files.gcc(name, flags);
        let bare = sections(&files.without_sections(&whole, "bare"));
        let (address, bytes) = section_of(&whole, ".eh_frame");
        assert_is(
            bare.eh_frame_hdr.as_ref(),
            &section_of(&whole, ".eh_frame_hdr"),
        );
        // Up to the terminator; the section may have one more, from another object.
        let eh_frame = bare.eh_frame.unwrap();
        assert_eq!(eh_frame.address, address);
        assert!(bytes.starts_with(&eh_frame.bytes));
        assert!(eh_frame.bytes.ends_with(&[0; 4]));
        assert!(bytes.len() - eh_frame.bytes.len() < 8, "{name}");
    }
}

const DEBUG_FRAME: [&str; 4] = [
    "-g",
    "-fno-asynchronous-unwind-tables",
    "-no-pie",
    "-Wl,--build-id",
];

#[test]
fn compressed_sections_are_what_they_were() {
    let files = Compiled::new();
    let plain = files.gcc("plain", &DEBUG_FRAME);
    let plain = files.objcopy(&plain, "plain2", &["--decompress-debug-sections"]);
    let expected = section_of(&plain, ".debug_frame");
    assert!(expected.1.len() > 30);
    assert_is(sections(&plain).debug_frame.as_ref(), &expected);
    for kind in ["zlib", "zstd"] {
        let flag = format!("--compress-debug-sections={kind}");
        let packed = files.objcopy(&plain, kind, &[&flag]);
        // The tools leave a section alone that does not get smaller.
        let has_packed = output("readelf", &["-SW"], &packed)
            .lines()
            .any(|line| line.contains(".debug_frame") && line.contains(" C "));
        assert!(has_packed, "{kind}");
        assert_is(sections(&packed).debug_frame.as_ref(), &expected);
    }
}

/// A compressed section as a file of its own.
fn packed(kind: u32, size: u64, data: &[u8]) -> Result<Arc<[u8]>, ElfError> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(size.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(data);
    let range = SectionRange {
        address: 0,
        offset: 0,
        size: bytes.len() as u64,
        compressed: true,
    };
    decompress(&*bytes, ".debug_frame", &range, Mode::Bits64, 1000)
}

#[test]
fn what_does_not_decompress_to_its_promise_is_an_error() {
    let mut encoder = flate2::read::ZlibEncoder::new(&[7; 900][..], flate2::Compression::fast());
    let mut zlib = Vec::new();
    encoder.read_to_end(&mut zlib).unwrap();
    assert_eq!(*packed(1, 900, &zlib).unwrap(), [7; 900]);
    for (kind, size, data) in [
        (1, 899, &*zlib),
        (1, 901, &zlib),
        (1, 900, &zlib[..zlib.len() / 2]),
        (2, 900, &zlib),
        (3, 900, &zlib),
        (2, 0, &[]),
    ] {
        let error = packed(kind, size, data);
        assert!(
            matches!(error, Err(ElfError::Compression { .. })),
            "{kind} {size} {error:?}"
        );
    }
    assert!(matches!(
        packed(1, 1001, &zlib),
        Err(ElfError::TooLarge { .. })
    ));
}

#[test]
fn the_budget_is_for_all_sections_together() {
    let files = Compiled::new();
    let path = files.gcc("program", &["-static", "-Wl,--eh-frame-hdr"]);
    let file = File::open(&path).unwrap();
    let facts = ElfFacts::read(&file).unwrap();
    let needed = sections(&path).bytes() as u64;
    assert!(read_cfi_sections(&file, &facts, needed).is_ok());
    for budget in [0, 100, needed - 1] {
        let error = read_cfi_sections(&file, &facts, budget);
        assert!(matches!(error, Err(ElfError::TooLarge { .. })), "{budget}");
    }
    let bare = files.without_sections(&path, "bare");
    let error = read_cfi_sections(
        &File::open(bare).unwrap(),
        &ElfFacts {
            sections: Default::default(),
            ..facts
        },
        needed / 2,
    );
    assert!(matches!(error, Err(ElfError::TooLarge { .. })));
}

#[test]
fn a_section_outside_the_file_is_an_error_and_takes_no_memory() {
    let bytes = [0; 64];
    for (offset, size) in [(0, 65), (u64::MAX, 2), (64, 1 << 27)] {
        let range = SectionRange {
            address: 0,
            offset,
            size,
            compressed: false,
        };
        let error = section(
            &bytes[..],
            ".eh_frame",
            &range,
            Mode::Bits64,
            &mut u64::MAX.clone(),
        );
        assert!(matches!(error, Err(ElfError::Read { .. })));
    }
}

#[test]
fn the_pointer_of_eh_frame_hdr_is_read_in_every_encoding() {
    let hdr_in = |mode: Mode, encoding: u8, pointer: &[u8]| {
        let mut bytes = vec![1, encoding, 3, 0x3b];
        bytes.extend(pointer);
        let section = Section {
            address: 0x2000,
            bytes: bytes.into(),
        };
        eh_frame_address(&section, mode)
    };
    let hdr = |encoding: u8, pointer: &[u8]| hdr_in(Mode::Bits64, encoding, pointer);
    let hdr_32 = |encoding: u8, pointer: &[u8]| hdr_in(Mode::Bits32, encoding, pointer);
    assert_eq!(hdr_32(0x00, &0x1234u32.to_le_bytes()), Some(0x1234));
    assert_eq!(hdr_32(0x1b, &(-0x3004i32).to_le_bytes()), Some(0xffff_f000));
    let back = (-0x104i32).to_le_bytes();
    assert_eq!(hdr(0x1b, &back), Some(0x1f00));
    assert_eq!(hdr(0x3b, &back), Some(0x1efc));
    assert_eq!(hdr(0x03, &0x1234u32.to_le_bytes()), Some(0x1234));
    assert_eq!(hdr(0x00, &0x12345u64.to_le_bytes()), Some(0x12345));
    assert_eq!(hdr(0x1c, &(-0x104i64).to_le_bytes()), Some(0x1f00));
    for (encoding, pointer) in [
        (0xff, &[0; 8][..]),
        (0x9b, &[0; 8]),
        (0x01, &[0; 8]),
        (0x1b, &[0; 3]),
    ] {
        assert_eq!(hdr(encoding, pointer), None, "{encoding:#x}");
    }
}

#[test]
fn entries_end_at_the_terminator_or_before_what_does_not_fit() {
    let mut entries = vec![8, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
    entries.extend([0xff; 4]);
    entries.extend(4u64.to_le_bytes());
    entries.extend([2; 4]);
    let without_end = entries.len();
    assert_eq!(entries_end(&entries), (without_end, false));
    entries.extend([0; 4]);
    entries.extend([0xaa; 40]);
    assert_eq!(entries_end(&entries), (without_end + 4, true));
    for length in [0xaaaa_aaaa_aaaa_aaaau64, u64::MAX, 41] {
        let mut cut = entries[..12].to_vec();
        cut.extend([0xff; 4]);
        cut.extend(length.to_le_bytes());
        cut.extend([0; 20]);
        assert_eq!(entries_end(&cut), (12, false));
    }
    assert_eq!(entries_end(&[]), (0, false));
}

#[test]
fn a_debug_file_is_found_by_build_id_and_checked() {
    let files = Compiled::new();
    let whole = files.gcc("whole", &DEBUG_FRAME);
    let expected = sections(&whole).debug_frame.unwrap().bytes;
    let debug = files.objcopy(&whole, "debug", &["--only-keep-debug"]);
    let id = ElfFacts::read(&File::open(&whole).unwrap())
        .unwrap()
        .build_id
        .unwrap();
    let folder = files.path("debug folder");
    assert!(matches!(
        open_debug_file(&folder, &id),
        Err(DebugFileError::Open { .. })
    ));

    let place = debug_file_path(&folder, &id).unwrap();
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::rename(&debug, &place).unwrap();
    let (file, facts) = open_debug_file(&folder, &id).unwrap();
    let separate = read_cfi_sections(&file, &facts, u64::MAX).unwrap();
    assert_eq!(separate.debug_frame.unwrap().bytes, expected);

    fs::copy(files.gcc("other", &["-static", "-Wl,--build-id"]), &place).unwrap();
    assert!(matches!(
        open_debug_file(&folder, &id),
        Err(DebugFileError::OtherBuild { .. })
    ));
    fs::write(&place, "no ELF file").unwrap();
    assert!(matches!(
        open_debug_file(&folder, &id),
        Err(DebugFileError::Elf { .. })
    ));
}

#[test]
fn the_sections_of_32_bit_files() {
    let files = Compiled::new();
    let options = ["-m32", "-g", "-fno-asynchronous-unwind-tables"];
    let program = files.gcc("program", &options);
    for kind in ["zlib", "none"] {
        let flag = format!("--compress-debug-sections={kind}");
        let path = files.objcopy(&program, kind, &[&flag]);
        let sections = sections(&path);
        assert_eq!(sections.mode, Mode::Bits32);
        let plain = section_of(&program, ".debug_frame");
        let section = sections.debug_frame.unwrap();
        assert_eq!((section.address, &*section.bytes), (plain.0, &*plain.1));
    }
    let bare = files.without_sections_32(&program, "bare");
    let found = sections(&bare).eh_frame.unwrap();
    let (address, bytes) = section_of(&program, ".eh_frame");
    assert_eq!((found.address, &*found.bytes), (address, &*bytes));
}
