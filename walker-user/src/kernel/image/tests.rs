//! [`KernelImage`] on small kernels made here, and on damaged ones.
//!
//! Real kernels are too large to keep. What the usual compressors write is here as short strings.

use std::io::Write;

use flate2::write::GzEncoder;
use proptest::prelude::{any, prop};
use proptest::proptest;
use ruzstd::encoding::CompressionLevel;

use super::decompress::{Compression, decompress};
use super::{ImageError, KernelImage, MAX_KERNEL_LEN, Section};

const SHT_PROGBITS: u32 = 1;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 0x800;
const BUILD_ID: [u8; 20] = [0xb1; 20];

/// What the other tools compressed: text, and x86 calls for xz's filter to rewrite.
fn plain() -> Vec<u8> {
    [
        b"stackwalk ".repeat(50),
        b"\xe8\x00\x01\x00\x00\x90".repeat(4),
        b"\x90".repeat(8),
    ]
    .concat()
}

/// [`plain`] compressed by `gzip -9n`.
const GZIP: &[u8] = b"\
    \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x2b\x2e\x49\x4c\xce\x2e\x4f\xcc\xc9\x56\
    \x28\x1e\x65\x8d\x10\xd6\x0b\x06\x46\x06\x86\x09\x98\x24\x0c\x00\x00\xef\x8a\xce\
    \xbd\x14\x02\x00\x00";
/// [`plain`] compressed by `zstd -19`.
const ZSTD: &[u8] = b"\
    \x28\xb5\x2f\xfd\x64\x14\x01\x0d\x01\x00\xc0\x73\x74\x61\x63\x6b\x77\x61\x6c\x6b\
    \x20\xe8\x00\x01\x00\x00\x90\x90\x90\x90\x90\x90\x90\x90\x90\x02\x00\x29\x5e\x39\
    \xaf\x5a\x90\xb2\x90\x26\x3b";
/// [`plain`] compressed by `lz4 -l -9`.
const LZ4: &[u8] = b"\
    \x02\x21\x4c\x18\x21\x00\x00\x00\xaf\x73\x74\x61\x63\x6b\x77\x61\x6c\x6b\x20\x0a\
    \x00\xff\xd8\x6e\xe8\x00\x01\x00\x00\x90\x06\x00\x80\x90\x90\x90\x90\x90\x90\x90\
    \x90";
/// [`plain`] compressed by `xz --check=crc32 --x86 --lzma2=preset=9e,dict=4KiB`, the filters of `scripts/xz_wrap.sh`.
const XZ: &[u8] = b"\
    \xfd\x37\x7a\x58\x5a\x00\x00\x01\x69\x22\xde\x36\x02\x01\x04\x00\x21\x01\x00\x00\
    \xda\x33\xad\x03\xe0\x02\x13\x00\x24\x5d\x00\x39\x9d\x08\x45\xb8\x5d\x64\x6f\x54\
    \xc3\x71\x07\xb9\xe6\x00\xf1\x42\xa1\x62\xbb\x03\x25\xed\x78\x8a\xa4\x6a\x44\x4a\
    \xd4\x9d\x80\xea\x75\x20\x00\x00\xef\x8a\xce\xbd\x00\x01\x3c\x94\x04\x00\x00\x00\
    \x8c\x05\x09\x1b\x3e\x30\x0d\x8b\x02\x00\x00\x00\x00\x01\x59\x5a";

/// A section to put into an ELF file: name, type, flags, address, contents.
type Content<'a> = (&'a str, u32, u64, u64, &'a [u8]);

/// An ELF file for x86-64 with these sections and, if `notes` is not empty, a note segment.
fn elf(sections: &[Content<'_>], notes: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 64;
    const PROGRAM_HEADER_LEN: usize = 56;
    let segments = usize::from(!notes.is_empty());
    let mut names = vec![0];
    let mut contents = notes.to_vec();
    let contents_start = HEADER_LEN + segments * PROGRAM_HEADER_LEN;
    let mut table = vec![[0; 64]];
    let names_section: Content<'_> = (".shstrtab", 3, 0, 0, &[]);
    for &(name, kind, flags, address, data) in sections.iter().chain([&names_section]) {
        let name_offset = names.len();
        names.extend(name.as_bytes());
        names.push(0);
        let data = if name == ".shstrtab" { &names } else { data };
        let offset = contents_start + contents.len();
        let mut entry = [0; 64];
        entry[0..4].copy_from_slice(&(name_offset as u32).to_le_bytes());
        entry[4..8].copy_from_slice(&kind.to_le_bytes());
        entry[8..16].copy_from_slice(&flags.to_le_bytes());
        entry[16..24].copy_from_slice(&address.to_le_bytes());
        entry[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
        entry[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
        entry[48] = 4;
        table.push(entry);
        contents.extend(data);
    }
    let padded = (contents_start + contents.len()).next_multiple_of(8);
    contents.resize(padded - contents_start, 0);

    let mut file = vec![0; HEADER_LEN];
    file[0..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    file[16] = 2;
    file[18] = 62;
    file[20] = 1;
    if segments != 0 {
        file[32] = HEADER_LEN as u8;
    }
    let table_start = (contents_start + contents.len()) as u64;
    file[40..48].copy_from_slice(&table_start.to_le_bytes());
    file[52] = HEADER_LEN as u8;
    file[54] = PROGRAM_HEADER_LEN as u8;
    file[56] = segments as u8;
    file[58] = 64;
    file[60] = table.len() as u8;
    file[62] = (table.len() - 1) as u8;
    if segments != 0 {
        let mut segment = [0; PROGRAM_HEADER_LEN];
        segment[0] = 4;
        segment[8..16].copy_from_slice(&(contents_start as u64).to_le_bytes());
        segment[32..40].copy_from_slice(&(notes.len() as u64).to_le_bytes());
        segment[48] = 4;
        file.extend(segment);
    }
    file.extend(contents);
    file.extend(table.as_flattened());
    file
}

fn note(name: &[u8; 4], kind: u32, description: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4, description.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    note.extend(name);
    note.extend(description);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// The notes of a kernel: its build ID behind two others.
fn notes() -> Vec<u8> {
    [
        note(b"Xen\0", 3, b"not this"),
        note(b"GNU\0", 1, b"nor this"),
        note(b"GNU\0", 3, &BUILD_ID),
    ]
    .concat()
}

fn small_kernel() -> Vec<u8> {
    elf(
        &[
            (".text", SHT_PROGBITS, 6, 0xffff_ffff_8100_0000, &[0x90; 64]),
            (".BTF_ids", SHT_PROGBITS, 2, 0xffff_ffff_8200_0100, b"ids"),
            (".BTF", SHT_PROGBITS, 2, 0xffff_ffff_8200_0000, b"types"),
            (".bss", SHT_NOBITS, 3, 0xffff_ffff_8300_0000, &[0; 16]),
            (".debug_info", SHT_PROGBITS, SHF_COMPRESSED, 0, b"packed"),
        ],
        &notes(),
    )
}

/// A bzImage around a payload, with this many setup sectors.
fn bzimage_with(setup_sects: u8, payload: &[u8]) -> Vec<u8> {
    let sectors = if setup_sects == 0 { 4 } else { setup_sects };
    let gap = 100_usize;
    let mut file = vec![0; (usize::from(sectors) + 1) * 512 + gap];
    file[0x1f1] = setup_sects;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    file[0x248..0x24c].copy_from_slice(&(gap as u32).to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file
}

fn bzimage(payload: &[u8]) -> Vec<u8> {
    bzimage_with(2, payload)
}

/// Compressed data with the uncompressed size behind it, as the kernel build makes it.
fn with_size(data: &[u8], size: usize) -> Vec<u8> {
    [data, &(size as u32).to_le_bytes()].concat()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("writing to a vector");
    encoder.finish().expect("writing to a vector")
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let packed = ruzstd::encoding::compress_to_vec(data, CompressionLevel::Fastest);
    with_size(&packed, data.len())
}

/// An LZ4 legacy frame of blocks of 200 bytes, which only hold literals.
fn lz4(data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0x21, 0x4c, 0x18];
    for chunk in data.chunks(200) {
        let mut block = match u8::try_from(chunk.len()) {
            Ok(len @ 0..15) => vec![len << 4],
            Ok(len) => vec![0xf0, len - 15],
            Err(_) => unreachable!("chunks have at most 200 bytes"),
        };
        block.extend(chunk);
        frame.extend((block.len() as u32).to_le_bytes());
        frame.extend(block);
    }
    with_size(&frame, data.len())
}

fn check_small_kernel(image: &KernelImage) {
    assert_eq!(
        image.section(".BTF"),
        Some(Section {
            address: 0xffff_ffff_8200_0000,
            data: b"types",
        })
    );
    assert_eq!(image.section(".text").map(|text| text.data.len()), Some(64));
    assert_eq!(image.build_id().as_deref(), Some(&BUILD_ID[..]));
    assert!(image.is_x86_64());
}

#[test]
fn a_vmlinux_has_its_sections() {
    let image = KernelImage::from_bytes(small_kernel()).expect("a valid ELF file");
    check_small_kernel(&image);
    for absent in [".bss", ".debug_info", ".orc_unwind", ".BT", "", "BTF"] {
        assert_eq!(image.section(absent), None, "{absent}");
    }
}

#[test]
fn a_vmlinuz_of_each_compression_is_opened() {
    let kernel = small_kernel();
    for payload in [gzip(&kernel), zstd(&kernel), lz4(&kernel)] {
        for setup_sects in [0, 1, 39] {
            let file = bzimage_with(setup_sects, &payload);
            let image = KernelImage::from_bytes(file).expect("a valid bzImage");
            check_small_kernel(&image);
        }
    }
}

#[test]
fn what_the_usual_tools_write_is_read() {
    let size = plain().len();
    for (compression, payload) in [
        (Compression::Gzip, GZIP.to_vec()),
        (Compression::Zstd, with_size(ZSTD, size)),
        (Compression::Lz4, with_size(LZ4, size)),
        (
            Compression::Lz4,
            with_size(&[LZ4, &LZ4[..4]].concat(), size),
        ),
        (Compression::Xz, with_size(XZ, size)),
    ] {
        let found = decompress(&payload);
        assert_eq!(found.expect("valid data"), plain(), "{compression}");
    }
}

#[test]
fn a_wrong_size_is_noticed() {
    let size = plain().len();
    for packed in [&GZIP[..GZIP.len() - 4], ZSTD, LZ4, XZ] {
        for wrong in [0, 1, size - 1, size + 1, size * 2] {
            let error = decompress(&with_size(packed, wrong)).expect_err("a wrong size");
            assert!(
                matches!(
                    error,
                    // LZ4's decoder and gzip's own check see it first.
                    ImageError::SizeMismatch { .. } | ImageError::Decompress { .. }
                ),
                "{error}"
            );
        }
        let error = decompress(&with_size(packed, MAX_KERNEL_LEN + 1)).expect_err("too large");
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn truncated_data_is_an_error() {
    let size = plain().len();
    for len in 0..GZIP.len() {
        assert!(decompress(&GZIP[..len]).is_err(), "{len}");
    }
    for packed in [ZSTD, LZ4, XZ] {
        for len in 0..packed.len() {
            let payload = with_size(&packed[..len], size);
            assert!(decompress(&payload).is_err(), "{len}");
        }
    }
}

#[test]
fn other_compressions_are_named() {
    let open = |start: &[u8]| {
        let payload = [start, &[0; 16]].concat();
        let error = KernelImage::from_bytes(bzimage(&payload)).expect_err("unsupported");
        error.to_string()
    };
    for (start, name) in [
        (&b"BZh91AY"[..], "bzip2"),
        (b"\x5d\0\0\0\x04", "LZMA"),
        (b"\x89LZO\0\r\n", "LZO"),
        (b"\x7fELF", "7f, 45, 4c, 46"),
    ] {
        let message = open(start);
        assert!(message.contains(name), "{message}");
        assert!(message.contains("scripts/extract-vmlinux"), "{message}");
    }
}

#[test]
fn other_files_are_refused() {
    let open = |bytes: &[u8]| KernelImage::from_bytes(bytes.to_vec()).expect_err("no kernel");
    for bytes in [&b""[..], b"MZ", &[0; 4096], b"\x1f\x8b\x08\0"] {
        assert!(matches!(open(bytes), ImageError::NotAKernel));
    }
    let mut bits32 = small_kernel();
    bits32[4] = 1;
    let mut big_endian = small_kernel();
    big_endian[5] = 2;
    for bytes in [&bits32[..], &big_endian, b"\x7fELF"] {
        assert!(matches!(open(bytes), ImageError::BadElf { .. }));
    }
    let mut old = bzimage(&gzip(&small_kernel()));
    old[0x206] = 7;
    let error = open(&old);
    assert!(error.to_string().contains("2.07"), "{error}");

    let missing = KernelImage::open("/nonexistent/vmlinux".as_ref()).expect_err("no file");
    assert!(missing.to_string().contains("/nonexistent/vmlinux"));
}

#[test]
fn another_machine_is_reported() {
    let mut kernel = small_kernel();
    kernel[18] = 183;
    let image = KernelImage::from_bytes(kernel).expect("a valid ELF file");
    assert!(!image.is_x86_64());
}

#[test]
fn the_build_id_is_found_in_a_section_too() {
    let with_notes = |notes: &[u8]| {
        let file = elf(&[(".notes", SHT_NOTE, 2, 0, notes)], &[]);
        KernelImage::from_bytes(file).expect("a valid ELF file")
    };
    assert_eq!(with_notes(&notes()).build_id(), Some(BUILD_ID.to_vec()));
    assert_eq!(with_notes(&note(b"Go\0\0", 3, &BUILD_ID)).build_id(), None);
    assert_eq!(with_notes(&note(b"GNU\0", 3, &[])).build_id(), None);
    assert_eq!(with_notes(&note(b"GNU\0", 3, &[1; 65])).build_id(), None);
    assert_eq!(with_notes(&notes()[..30]).build_id(), None);
}

#[test]
fn every_truncation_of_a_bzimage_is_an_error() {
    let file = bzimage(&gzip(&small_kernel()));
    for len in 0..file.len() {
        assert!(
            KernelImage::from_bytes(file[..len].to_vec()).is_err(),
            "{len}"
        );
    }
}

/// Asks everything of a file that may be forged. Only that this ends without a panic matters.
fn ask_everything(bytes: Vec<u8>) {
    let Ok(image) = KernelImage::from_bytes(bytes) else {
        return;
    };
    for name in [".BTF", ".bss", ".nope", ""] {
        let _ = image.section(name);
    }
    let _ = image.build_id();
    let _ = image.is_x86_64();
}

#[test]
fn every_truncation_of_a_vmlinux_does_no_harm() {
    let file = small_kernel();
    for len in 0..file.len() {
        ask_everything(file[..len].to_vec());
    }
}

type Damage = Vec<(prop::sample::Index, u8)>;

fn damaged(mut bytes: Vec<u8>, damage: Damage) -> Vec<u8> {
    for (index, value) in damage {
        let at = index.index(bytes.len());
        bytes[at] = value;
    }
    bytes
}

proptest! {
    #[test]
    fn damaged_vmlinux_files_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        ask_everything(damaged(small_kernel(), damage));
    }

    #[test]
    fn damaged_headers_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = bzimage_with(1, &gzip(&small_kernel()));
        let payload = file.split_off(0x260);
        let mut file = damaged(file, damage);
        file.extend(payload);
        ask_everything(file);
    }

    #[test]
    fn damaged_payloads_do_no_harm(
        which in 0..7_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let kernel = small_kernel();
        let size = plain().len();
        let payload = match which {
            0 => gzip(&kernel),
            1 => zstd(&kernel),
            2 => lz4(&kernel),
            3 => GZIP.to_vec(),
            4 => with_size(ZSTD, size),
            5 => with_size(LZ4, size),
            _ => with_size(XZ, size),
        };
        ask_everything(bzimage(&damaged(payload, damage)));
    }
}
