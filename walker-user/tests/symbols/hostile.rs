//! Files that are made to break what reads them. There is always an answer, the next file is read
//! as if nothing had been, and this process is still there.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestRunner},
};
use walker_user::symbolize::{
    Object, Reason,
    service::{Config, Service},
};

use crate::{
    ask,
    build::{Folder, addresses, run},
    config, object, shown,
};

/// A limit that nothing here comes near.
const LONG: Duration = Duration::from_secs(60);
const SECTION_HEADER: usize = 64;

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Where the header of the first section with these contents is.
fn header_of(elf: &[u8], contents: impl Fn(&[u8], u64) -> bool) -> usize {
    let table = u64_at(elf, 40) as usize;
    let count = usize::from(u16::from_le_bytes(elf[60..62].try_into().unwrap()));
    let mut headers = (0..count).map(|index| table + index * SECTION_HEADER);
    let found = headers.find(|&header| {
        let (flags, offset, size) = (
            u64_at(elf, header + 8),
            u64_at(elf, header + 24),
            u64_at(elf, header + 32),
        );
        let bytes = elf.get(offset as usize..(offset + size) as usize);
        bytes.is_some_and(|bytes| contents(bytes, flags))
    });
    found.unwrap()
}

/// A program with compressed debug info that claims to be of this size.
fn claiming(folder: &Folder, size: u64) -> PathBuf {
    const COMPRESSED: u64 = 0x800;
    let program = folder.program(&["-gz=zlib"]);
    let mut elf = fs::read(&program).unwrap();
    let header = header_of(&elf, |_, flags| flags & COMPRESSED != 0);
    let at = u64_at(&elf, header + 24) as usize + 8;
    elf[at..at + 8].copy_from_slice(&size.to_le_bytes());
    let path = folder.path("claiming");
    fs::write(&path, elf).unwrap();
    path
}

#[test]
fn a_worker_that_dies_of_a_file_is_replaced() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let addresses = addresses(&program, "outer");
    // Nobody has so much memory; nothing limits what is read of this one.
    let path = claiming(&folder, 1 << 50);
    let config = Config {
        max_debug_info: u64::MAX,
        ..config()
    };
    let service = Service::start(config).unwrap();
    let answers = service.ask(&object(&path), addresses.clone()).wait();
    for answer in &answers {
        assert_eq!(shown(answer), ["outer"], "the symbols are still good");
        assert_eq!(answer.reason, Some(Reason::DebugInfoUnusable));
    }
    let answers = service.ask(&object(&program), addresses).wait();
    assert!(answers.iter().all(|answer| answer.reason.is_none()));
}

/// A program whose debug info has a million functions, each inlined into the one before it. What
/// reads them calls itself for each.
const NESTED: &str = "\
    .file 1 \"nested.c\"
    .text
    .globl main, outer
    .type outer, @function
outer:
main:
    .loc 1 1
    xorl %eax, %eax
    ret
.Lend:
    .size outer, .Lend - outer
    .section .note.GNU-stack, \"\", @progbits
    .section .debug_line, \"\", @progbits
.Lline:
    .section .debug_abbrev, \"\", @progbits
    .uleb128 1, 0x11; .byte 1; .uleb128 0x10, 0x17, 0x11, 0x01, 0x12, 0x07, 0, 0
    .uleb128 2, 0x2e; .byte 1; .uleb128 0x03, 0x08, 0x11, 0x01, 0x12, 0x07, 0, 0
    .uleb128 3, 0x1d; .byte 1; .uleb128 0, 0
    .uleb128 0
    .section .debug_info, \"\", @progbits
    .long .Linfo_end - .Linfo
.Linfo:
    .short 4; .long 0; .byte 8
    .uleb128 1; .long .Lline; .quad outer, .Lend - outer
    .uleb128 2; .asciz \"outer\"; .quad outer, .Lend - outer
    .fill DEPTH, 1, 3
    .fill DEPTH + 2, 1, 0
.Linfo_end:
";

#[test]
fn functions_inlined_a_million_deep() {
    let folder = Folder::new();
    let program = folder.path("nested");
    for (depth, reason) in [("3", None), ("1000000", Some(Reason::DebugInfoUnusable))] {
        let source = folder.write("nested.s", &NESTED.replace("DEPTH", depth));
        run("gcc", &[Path::new("-o"), &program, &source]);
        let answers = ask(config(), &program, &addresses(&program, "outer"));
        assert_eq!(answers[0].functions[0].name, "outer");
        assert_eq!(answers[0].functions[0].line, (depth == "3").then_some(1));
        assert_eq!(answers[0].reason, reason);
    }
}

#[test]
fn what_a_section_claims_to_be_counts_as_its_size() {
    let folder = Folder::new();
    let path = claiming(&folder, 1 << 50);
    let answers = ask(config(), &path, &addresses(&path, "outer"));
    assert_eq!(shown(&answers[0]), ["outer"]);
    assert_eq!(answers[0].reason, Some(Reason::DebugInfoTooLarge));
}

#[test]
fn a_worker_has_limits_and_ends_with_its_input() {
    let mut worker = Command::new(config().program)
        .arg(walker_user::symbolize::worker::ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = worker.stdin.take().unwrap();
    let request = br#"{"open":"/x","path":[],"addresses":[],"max_debug_info":0,"debug_dirs":[]}"#;
    let length = u32::try_from(request.len()).unwrap();
    requests.write_all(&length.to_le_bytes()).unwrap();
    requests.write_all(request).unwrap();
    let mut answer = [0; 6];
    let output = worker.stdout.as_mut().unwrap();
    output.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x02\0\0\0[]");

    let limits = fs::read_to_string(format!("/proc/{}/limits", worker.id())).unwrap();
    let limit = |name| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max data size"), (3_u64 << 30).to_string());
    assert_eq!(limit("Max core file size"), "0");
    drop(requests);
    assert!(worker.wait().unwrap().success());
}

#[test]
fn a_file_that_takes_too_long_is_given_up() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    // Written by another process: a test that forks just then would keep it open for writing.
    let text = folder.write("text", "#!/bin/sh\nexec tail -f /dev/null\n");
    let silent = folder.path("silent");
    run("cp", &[&text, &silent]);
    run("chmod", &[Path::new("+x"), &silent]);
    let slow = [
        (&silent, Duration::from_millis(200), LONG),
        (&config().program, LONG, Duration::ZERO),
    ];
    for (worker, time_limit, total_limit) in slow {
        let config = Config {
            program: worker.clone(),
            time_limit,
            total_limit,
            ..config()
        };
        let start = Instant::now();
        let answers = ask(config, &program, &[0x1000]);
        assert_eq!(answers[0].reason, Some(Reason::TooSlow));
        assert!(start.elapsed() < LONG);
    }
}

#[test]
fn a_file_that_stalled_a_worker_is_not_read_again() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let other = folder.path("other");
    run("cp", &[&program, &other]);
    let starts = folder.path("starts");
    let script = format!(
        "#!/bin/sh\necho >> {}\nexec tail -f /dev/null\n",
        starts.display()
    );
    let text = folder.write("text", &script);
    let silent = folder.path("silent");
    run("cp", &[&text, &silent]);
    run("chmod", &[Path::new("+x"), &silent]);
    let config = Config {
        program: silent,
        time_limit: Duration::from_secs(2),
        ..config()
    };
    let service = Service::start(config).unwrap();
    // Each is tried with and without its debug info, once.
    for (path, expected) in [(&program, 2), (&program, 2), (&other, 4)] {
        let answers = service.ask(&object(path), vec![0x1000]).wait();
        assert_eq!(answers[0].reason, Some(Reason::TooSlow));
        assert_eq!(
            fs::read_to_string(&starts).unwrap().lines().count(),
            expected
        );
    }
}

#[test]
fn without_a_worker_there_is_a_reason() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    for (worker, reason) in [
        (folder.path("missing"), Reason::NotStarted),
        // A program that ends at once, and one that answers with something else.
        ("/bin/true".into(), Reason::Crashed),
        ("/bin/echo".into(), Reason::Crashed),
    ] {
        let config = Config {
            program: worker,
            ..config()
        };
        let answers = ask(config, &program, &[0x1000]);
        assert_eq!(answers[0].reason, Some(reason));
        assert_eq!(shown(&answers[0]), ["program+0x1000"]);
    }
}

#[test]
fn what_is_no_elf_file_has_a_reason() {
    let folder = Folder::new();
    let text = folder.write("text", "#!/bin/sh\n");
    let empty = folder.write("empty", "");
    let whole = fs::read(folder.program(&[])).unwrap();
    let header = folder.path("header");
    fs::write(&header, &whole[..100]).unwrap();
    for path in [text, empty, header] {
        let answers = ask(config(), &path, &[0x1000]);
        assert_eq!(answers[0].reason, Some(Reason::NotElf), "{path:?}");
    }
    let pipe = folder.path("pipe");
    run("mkfifo", &[&pipe]);
    let opened = OpenOptions::new().read(true).write(true).open(&pipe);
    let service = Service::start(config()).unwrap();
    let pipe = Arc::new(Object {
        file: opened.unwrap(),
        path: pipe,
        root: None,
    });
    let answers = service.ask(&pipe, vec![0x1000]).wait();
    assert_eq!(answers[0].reason, Some(Reason::NotAFile));
}

/// A program with so many symbols that it takes a while to read them.
const MANY_SYMBOLS: &str = "\
    .text
    .globl main, outer
    .type outer, @function
outer:
main:
    ret
.Lend:
    .size outer, .Lend - outer
    .macro symbol
symbol\\@:
    .endm
    .rept 50000
    symbol
    .endr
    .section .note.GNU-stack, \"\", @progbits
";

/// A program whose symbols are at its very end, behind a gap, and the length without them.
fn with_symbols_at_the_end(folder: &Folder) -> (PathBuf, u64) {
    const SYMBOL_TABLE: u32 = 2;
    let program = folder.path("program");
    let source = folder.write("many.s", MANY_SYMBOLS);
    run("gcc", &[Path::new("-o"), &program, &source]);
    let mut elf = fs::read(&program).unwrap();
    let table = u64_at(&elf, 40) as usize;
    let kind = |header: usize| u32::from_le_bytes(elf[header + 4..header + 8].try_into().unwrap());
    let mut headers = (table..).step_by(SECTION_HEADER);
    let header = headers
        .find(|&header| kind(header) == SYMBOL_TABLE)
        .unwrap();
    let (offset, size) = (u64_at(&elf, header + 24), u64_at(&elf, header + 32));
    let symbols = elf[offset as usize..(offset + size) as usize].to_vec();
    let moved = elf.len().next_multiple_of(4096) + (1 << 20);
    elf.resize(moved, 0);
    elf.extend(symbols);
    elf[header + 24..header + 32].copy_from_slice(&(moved as u64).to_le_bytes());
    fs::write(&program, elf).unwrap();
    (program, moved as u64)
}

/// A mapped file that shrinks is a signal that ends a process. The worker gets it here, at some
/// point, and the next question is answered as if nothing had been.
#[test]
fn a_file_that_shrinks_while_it_is_read() {
    let folder = Folder::new();
    let (program, short) = with_symbols_at_the_end(&folder);
    let addresses = addresses(&program, "outer");
    let whole = fs::read(&program).unwrap();
    let service = Service::start(config()).unwrap();
    let object = object(&program);
    let done = AtomicBool::new(false);
    let died = thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(&program).unwrap();
            // Each length stays for a while, or the worker would hardly ever meet the short one
            // between opening the file and reading its end.
            while !done.load(Ordering::Relaxed) {
                file.set_len(short).unwrap();
                thread::sleep(Duration::from_millis(1));
                file.set_len(whole.len() as u64).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
            file.write_all_at(&whole, 0).unwrap();
        });
        let start = Instant::now();
        let mut died = false;
        while !died && start.elapsed() < LONG {
            let answers = service.ask(&object, addresses.clone()).wait();
            assert_eq!(answers.len(), addresses.len());
            let reasons = [Some(Reason::Crashed), Some(Reason::DebugInfoUnusable)];
            died = reasons.contains(&answers[0].reason);
        }
        done.store(true, Ordering::Relaxed);
        died
    });
    assert!(died);
    let answers = service.ask(&object, addresses).wait();
    assert!(answers.iter().all(|answer| shown(answer) == ["outer"]));
}

/// One worker reads them all, unless one kills it.
#[test]
fn any_bytes_of_a_file_may_be_wrong() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let addresses = addresses(&program, "outer");
    let whole = fs::read(&program).unwrap();
    let path = folder.path("wrong");
    let config = Config {
        time_limit: Duration::from_secs(5),
        ..config()
    };
    let service = Service::start(config).unwrap();
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let changes = (
        prop::collection::vec(change, 1..40),
        any::<prop::sample::Index>(),
    );
    let cases = Cases {
        cases: 150,
        failure_persistence: None,
        ..Cases::default()
    };
    let outcome = TestRunner::new(cases).run(&changes, |(changes, end)| {
        let mut bytes = whole.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Half of them are cut short as well.
        let end = end.index(2 * bytes.len());
        bytes.truncate(end.max(64));
        fs::write(&path, bytes).unwrap();
        let answers = service
            .ask(&object(Path::new(&path)), addresses.clone())
            .wait();
        prop_assert_eq!(answers.len(), addresses.len());
        for answer in answers {
            prop_assert!(!answer.functions[0].inlined);
            prop_assert!(
                answer
                    .functions
                    .iter()
                    .all(|function| !function.name.is_empty())
            );
            prop_assert!(answer.named || answer.reason.is_some());
        }
        Ok(())
    });
    outcome.unwrap();
}
