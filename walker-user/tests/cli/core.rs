//! What `stackwalk core` says to files that are no dump, or not with these symbols: one line that
//! names the file and says what to do, status 2. No privilege is needed.

use std::fs;

use crate::support::Place;

/// A System.map, as far as it goes.
const MAP: &str = "ffffffff81000000 T _stext\nffffffff82000000 T _etext\n\
                   ffffffff82100000 D linux_banner\n";

/// An ELF header of 64 bits: its type, its machine, and how many program headers follow it.
fn elf(kind: u16, machine: u16, segments: u16) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [kind, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    for word in [0u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, segments, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file
}

/// Runs it on this dump and these symbols.
#[track_caller]
fn assert_refused(dump: &[u8], symbols: &[u8], what: &str, hint: &str) {
    let place = Place::new();
    fs::write(place.path("dump"), dump).expect("a file in a folder of our own");
    fs::write(place.path("map"), symbols).expect("a file in a folder of our own");
    place
        .run(&["core", "dump", "--symbols", "map"])
        .assert_is_error(what, hint);
}

#[test]
fn dumps_of_other_formats() {
    let map = MAP.as_bytes();
    assert_refused(
        b"KDUMP   \x06\0\0\0",
        map,
        "`dump`: in kdump-compressed",
        "makedumpfile -E",
    );
    assert_refused(
        b"DISKDUMP",
        map,
        "`dump`: in kdump-compressed",
        "dump-guest-memory",
    );
    assert_refused(b"makedumpfile\0\0\0\0", map, "flattened", "makedumpfile -R");
    assert_refused(
        b"Not a dump.\n",
        map,
        "`dump`: not an ELF core",
        "ELF magic",
    );
    assert_refused(b"", map, "`dump`: not an ELF core", "ELF magic");
}

#[test]
fn cores_that_cannot_be_walked() {
    let map = MAP.as_bytes();
    assert_refused(&elf(4, 183, 0), map, "arm64", "x86_64 and i386");
    assert_refused(&elf(2, 62, 0), map, "type 2, not a core", "type 4");
    assert_refused(&elf(4, 62, 3), map, "truncated", "write it again");
    assert_refused(&elf(4, 62, 0), map, "NT_PRSTATUS", "kdump or QEMU");
}

#[test]
fn symbols_that_are_none() {
    let core = elf(4, 62, 0);
    assert_refused(
        &core,
        b"hello\n",
        "`map`: cannot read the symbols",
        "address type name",
    );
    let hidden = b"0000000000000000 T _stext\n";
    assert_refused(&core, hidden, "`map`: cannot read the symbols", "as root");
    assert_refused(&core, b"\x7fELF\x02\x01", "`map`", "malformed vmlinux");
}

#[test]
fn files_that_are_not_there() {
    let place = Place::new();
    place
        .run(&["core", "dump", "--symbols", "map"])
        .assert_is_error("`dump`", "No such file");
    place
        .run(&["core", "dump"])
        .assert_is_error("required arguments", "stackwalk --help");
    place
        .run(&["core", "dump", "-s", "map", "--cpus", "--tasks"])
        .assert_is_error("--cpus", "stackwalk --help");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let place = Place::new();
    let pipe = place.path("pipe.swk");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let pipe = pipe.to_str().unwrap();
    for arguments in [
        ["core", pipe, "--symbols", "/dev/null"],
        ["core", "dump", "--symbols", pipe],
    ] {
        fs::write(place.path("dump"), elf(4, 62, 0)).unwrap();
        place
            .run(&arguments)
            .assert_is_error("pipe.swk", "not a regular file");
    }
    // What is written in the folder of another user: it may be he who reads.
    let run = place.run(&["record", "-a", "-o", pipe]);
    run.assert_is_error("nobody reads", "-o FILE");
}
