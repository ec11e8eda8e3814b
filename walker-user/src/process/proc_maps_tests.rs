use std::{
    io::{Cursor, Read as _, Write as _},
    process::{Command, Stdio},
};

use proptest::prelude::*;

use super::*;
use crate::process::mapped_file::Backing;

fn line(text: &str) -> MapsLine<'_> {
    MapsLine::parse(text.as_bytes()).unwrap()
}

fn read_text(text: &[u8]) -> ProcMaps {
    read(Cursor::new(text), &mut MappedFiles::default()).unwrap()
}

#[test]
fn a_line_has_a_range_a_file_and_a_path() {
    let path = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    let text = format!(
        "7f1c2a028000-7f1c2a1bd000 r-xp 00028000 fe:00 247030 {:15}{path}",
        ""
    );
    assert_eq!(
        line(&text),
        MapsLine {
            start: 0x7f1c_2a02_8000,
            end: 0x7f1c_2a1b_d000,
            executable: true,
            file_offset: 0x28000,
            inode: Some(Inode {
                major: 0xfe,
                minor: 0,
                number: 247_030
            }),
            raw_path: path.as_bytes(),
        }
    );
}

#[test]
fn names_and_their_absence_are_told() {
    let anonymous = line("00400000-00500000 rw-p 00000000 00:00 0 ");
    assert_eq!((anonymous.inode, anonymous.raw_path), (None, &b""[..]));
    let vsyscall = line("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0    [vsyscall]");
    assert!(vsyscall.executable);
    assert_eq!(vsyscall.raw_path, b"[vsyscall]");
}

#[test]
fn paths_may_have_spaces_and_newlines() {
    let odd = line(r"1000-2000 r-xp 0 8:1 9   /tmp/a b\012c\\013 (deleted)");
    assert_eq!(odd.path(), b"/tmp/a b\nc\\\\013 (deleted)");
}

#[test]
fn what_the_kernel_does_not_write_is_counted() {
    let text = b"\
        1000-2000 r-xp 0 8:1 9 /a\n\
        2000-1000 r-xp 0 8:1 9 /backward\n\
        +1000-2000 r-xp 0 8:1 9 /sign\n\
        3000-4000 r-xp 0 8:1\n\
        gggg-hhhh r-xp 0 8:1 9 /letters\n\
        5000-6000 r--p 0 8:1 9 /data\n\
        7000-8000 r-xp 0 8:1 9 /b";
    let maps = read_text(text);
    assert_eq!(maps.malformed, 4);
    assert!(!maps.truncated);
    let starts: Vec<_> = maps.space.iter().map(|mapping| mapping.start).collect();
    assert_eq!(starts, [0x1000, 0x7000]);
}

#[test]
fn memory_beside_a_part_of_a_file_may_show_its_code() {
    let maps = "1000-2000 r--p 00000000 08:01 7 /bin/moved\n\
                2000-4000 r-xp 00000000 00:00 0 \n\
                4000-5000 r--p 00003000 08:01 7 /bin/moved\n\
                8000-9000 r-xp 00000000 00:00 0 \n\
                9000-a000 r--p 00001000 08:01 8 /bin/first\n\
                b000-c000 r-xp 00000000 00:00 0 \n\
                d000-e000 r--p 00000000 08:01 9 /bin/apart\n";
    let space = read_text(maps.as_bytes()).space;
    let beside = |address| match &space.get(address).unwrap().backing {
        Backing::InPlaceOf(file) => Some((file.start, file.file_offset)),
        Backing::Anonymous => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(beside(0x2000), Some((0x1000, 0)));
    assert_eq!(beside(0x8000), Some((0x9000, 0x1000)));
    assert_eq!(beside(0xb000), None);
    assert_eq!(space.len(), 3);
}

#[test]
fn lines_and_their_lengths_are_bounded() {
    let mut text = b"1000-2000 r-xp 0 8:1 9 /".to_vec();
    text.resize(MAX_LINE + 1, b'a');
    text.extend(b"\n3000-4000 r-xp 0 8:1 9 /b\n");
    let maps = read_text(&text);
    assert_eq!((maps.malformed, maps.space.len()), (1, 1));

    let text: String = (1..=MAX_LINES as u64 + 1)
        .map(|page| format!("{page:x}000-{page:x}fff r-xp 0 8:1 9 /a\n"))
        .collect();
    let maps = read_text(text.as_bytes());
    assert!(maps.truncated);
    assert_eq!(maps.space.len(), MAX_LINES);
}

#[test]
fn the_mappings_of_a_real_process_have_its_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("odd\nname");
    // Not by this process: another thread may fork meanwhile, and then it is busy.
    let mut cp = Command::new("cp");
    assert!(cp.arg("/bin/cat").arg(&program).status().unwrap().success());
    let mut command = Command::new(&program);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Its answer tells that it is past its start.
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let maps = std::fs::File::open(format!("/proc/{}/maps", child.id())).unwrap();
    let maps = read(std::io::BufReader::new(maps), &mut MappedFiles::default()).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(maps.malformed, 0);
    let paths: Vec<_> = maps
        .space
        .iter()
        .filter_map(|mapping| match &mapping.backing {
            Backing::File(file) => Some(file.path.clone()),
            _ => None,
        })
        .collect();
    let expected = program.to_str().unwrap().as_bytes();
    assert!(paths.iter().any(|path| path == expected), "{paths:?}");
    assert!(
        maps.space
            .iter()
            .any(|mapping| mapping.backing == Backing::Vdso)
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(prop::sample::select(&b"0f- :rxp/\\012\n\xff"[..]), 0..200)
    ) {
        let _any_answer = read_text(&bytes);
    }

    #[test]
    fn written_lines_are_read_back(
        start in 0u64..1 << 47, pages in 1u64..1000, offset: u64, major: u32, minor: u32,
        number in 1u64.., path in "/[a-z \\n\\\\]{0,20}[a-z]",
    ) {
        let end = start + (pages << 12);
        let escaped = path.replace('\n', r"\012");
        let text = format!("{start:08x}-{end:08x} r-xp {offset:08x} {major:02x}:{minor:02x} {number} {escaped}");
        let inode = Some(Inode { major, minor, number });
        let raw_path = escaped.as_bytes();
        let expected = MapsLine { start, end, executable: true, file_offset: offset, inode, raw_path };
        prop_assert_eq!(line(&text).path(), path.into_bytes());
        prop_assert_eq!(line(&text), expected);
    }
}
