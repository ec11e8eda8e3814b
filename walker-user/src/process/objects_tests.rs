use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
};

use super::*;
use crate::{
    capture::side_band::Inode,
    elf::{
        BuildId, Source as _,
        test_elf::{Compiled, symbol},
    },
    process::{
        mapped_file::MappedFiles,
        processes::{Follow, Processes},
    },
};

/// A process that does nothing until its input ends.
struct Waiting(Child);

impl Waiting {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        let pipe = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipe.spawn().unwrap();
        // What it says tells that it is past its start.
        let mut said = [0];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        Self(child)
    }

    fn mapping_of(&self, wanted: impl Fn(&Mapping) -> bool) -> Mapping {
        let mut processes = Processes::new(&Follow::All);
        let space = processes.space(self.0.id(), 0).unwrap();
        space
            .iter()
            .find(|mapping| wanted(mapping))
            .unwrap()
            .clone()
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _collected = self.0.wait();
    }
}

const WAITING: &str = r#"
    #include <stdio.h>
    int main(void) { puts("."); fflush(stdout); getchar(); return 0; }
"#;

fn waiting_program(files: &Compiled, name: &str, flags: &[&str]) -> PathBuf {
    fs::write(files.path("program.c"), WAITING).unwrap();
    files.gcc(name, flags)
}

fn is_of(path: &Path) -> impl Fn(&Mapping) -> bool {
    let path = path.as_os_str().as_bytes().to_vec();
    move |mapping| matches!(&mapping.backing, Backing::File(file) if file.path == path)
}

/// The mapping of a file's code as a record tells it.
fn recorded(path: &Path, build_id: Option<BuildId>, inode: Option<Inode>) -> Mapping {
    let facts = ElfFacts::read(&File::open(path).unwrap()).unwrap();
    let code = facts.loads.iter().find(|load| load.executable).unwrap();
    let page = code.offset & !0xfff;
    Mapping {
        start: 0x5555_0000_0000,
        end: 0x5555_0000_0000 + code.offset + code.file_size - page,
        file_offset: page,
        backing: MappedFiles::default().backing(path.as_os_str().as_bytes(), build_id, inode),
    }
}

fn build_id(path: &Path) -> Option<BuildId> {
    ElfFacts::read(&File::open(path).unwrap()).unwrap().build_id
}

fn inode(path: &Path) -> Option<Inode> {
    let metadata = fs::metadata(path).unwrap();
    Some(Inode {
        major: libc::major(metadata.dev()),
        minor: libc::minor(metadata.dev()),
        number: metadata.ino(),
    })
}

/// A process that cannot exist.
const NOBODY: u32 = u32::MAX;

#[test]
fn a_deleted_program_is_read_through_the_kernels_link() {
    let files = Compiled::new();
    let program = waiting_program(&files, "program", &["-pie", "-Wl,--build-id"]);
    let (main, id) = (symbol(&program, "main"), build_id(&program));
    let process = Waiting::start(&program);
    let mapping = process.mapping_of(is_of(&program));
    // Another program takes its name.
    fs::remove_file(&program).unwrap();
    waiting_program(&files, "program", &["-no-pie"]);

    let mut objects = Objects::new();
    let base = mapping.start - mapping.file_offset;
    let located = objects
        .locate(process.0.id(), &mapping, base + main)
        .unwrap();
    // The first segments of such a program are at their offsets in the file.
    assert_eq!(located.address, main);
    let object = objects.get(located.object);
    assert_eq!((object.build_id(), object.path()), (id, &*program));
}

#[test]
fn the_program_of_a_process_that_is_gone_is_checked() {
    let files = Compiled::new();
    let program = waiting_program(&files, "program", &["-Wl,--build-id"]);
    let other = waiting_program(&files, "other", &["-O2", "-Wl,--build-id"]);
    let mut objects = Objects::new();
    let mut locate = |mapping: &Mapping| objects.locate(NOBODY, mapping, mapping.start + 0x80);
    let by_id = locate(&recorded(&program, build_id(&program), None)).unwrap();
    let by_inode = locate(&recorded(&program, None, inode(&program))).unwrap();
    assert_eq!(by_id, by_inode);
    let replaced = Err(Unavailable::Replaced);
    assert_eq!(
        locate(&recorded(&program, build_id(&other), None)),
        replaced
    );
    assert_eq!(locate(&recorded(&program, None, inode(&other))), replaced);
    assert_eq!(
        locate(&recorded(&program, None, None)),
        Err(Unavailable::Unidentified)
    );
    let mut gone = recorded(&program, None, None);
    gone.backing = MappedFiles::default().backing(b"/no/such/file", build_id(&other), None);
    assert_eq!(locate(&gone), Err(Unavailable::Gone));
    let counts: Vec<_> = objects.unavailable().collect();
    assert_eq!(
        counts,
        [
            (Unavailable::Gone, 1),
            (Unavailable::Replaced, 2),
            (Unavailable::Unidentified, 1)
        ]
    );
}

#[test]
fn a_deleted_file_that_is_there_again_is_found() {
    let files = Compiled::new();
    let program = waiting_program(&files, "program", &["-Wl,--build-id"]);
    let id = build_id(&program);
    let mut mapping = recorded(&program, id, None);
    let marked = [program.as_os_str().as_bytes(), b" (deleted)"].concat();
    mapping.backing = MappedFiles::default().backing(&marked, id, None);
    let mut objects = Objects::new();
    let located = objects
        .locate(NOBODY, &mapping, mapping.start + 0x80)
        .unwrap();
    assert_eq!(objects.get(located.object).path(), program);
}

#[test]
fn a_build_that_is_known_needs_no_file() {
    let files = Compiled::new();
    let program = waiting_program(&files, "program", &["-Wl,--build-id"]);
    let id = build_id(&program);
    let mut mapping = recorded(&program, id, None);
    let address = mapping.start + 0x80;
    let mut objects = Objects::new();
    let located = objects.locate(NOBODY, &mapping, address);
    assert!(located.is_ok());
    mapping.backing = MappedFiles::default().backing(b"/elsewhere", id, None);
    assert_eq!(objects.locate(NOBODY, &mapping, address), located);
    assert_eq!(objects.len(), 1);
}

#[test]
fn only_regular_elf_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let text = folder.path().join("text");
    fs::write(
        &text,
        "no ELF file, but long enough for the header of one that is of 64 bits",
    )
    .unwrap();
    let mut objects = Objects::new();
    let mut mapping = recorded(Path::new("/bin/cat"), None, None);
    for (path, reason) in [
        (&*fifo, Unavailable::NotRegular),
        (Path::new("/dev/null"), Unavailable::NotRegular),
        (folder.path(), Unavailable::NotRegular),
        (&text, Unavailable::Elf("not an ELF file")),
    ] {
        let name = path.as_os_str().as_bytes();
        mapping.backing = MappedFiles::default().backing(name, None, inode(path));
        assert_eq!(
            objects.locate(NOBODY, &mapping, mapping.start),
            Err(reason),
            "{path:?}"
        );
    }
}

#[test]
fn memory_that_a_program_gave_itself_as_a_file_is_memory() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let code = folder.path().join("code");
    fs::write(&code, [0xc3; 4096]).unwrap();
    let object = folder.path().join("object");
    fs::copy("/bin/cat", &object).unwrap();
    let mut objects = Objects::new();
    let mut mapping = recorded(Path::new("/bin/cat"), None, None);
    let mut locate = |name: &[u8], inode| {
        mapping.backing = MappedFiles::default().backing(name, None, inode);
        objects.locate(NOBODY, &mapping, mapping.start)
    };
    let anonymous = Err(Unavailable::Anonymous);
    assert_eq!(locate(code.as_os_str().as_bytes(), inode(&code)), anonymous);
    let zero = Path::new("/dev/zero");
    assert_eq!(locate(b"/dev/zero", inode(zero)), anonymous);
    // The name that the kernel gives shared memory; no such file is there.
    assert_eq!(locate(b"/dev/zero (deleted)", None), anonymous);
    // An ELF file is a file wherever it lies.
    let found = locate(object.as_os_str().as_bytes(), inode(&object));
    assert!(!matches!(found, Err(Unavailable::Anonymous)), "{found:?}");
}

#[test]
fn a_failure_holds_for_the_process_and_not_for_others() {
    let files = Compiled::new();
    let program = waiting_program(&files, "program", &["-Wl,--build-id"]);
    let hidden = files.path("hidden");
    let mapping = recorded(&program, build_id(&program), None);
    let mut objects = Objects::new();
    let mut locate = |pid| objects.locate(pid, &mapping, mapping.start + 0x80);
    fs::rename(&program, &hidden).unwrap();
    assert_eq!(locate(NOBODY), Err(Unavailable::Gone));
    fs::rename(&hidden, &program).unwrap();
    assert_eq!(locate(NOBODY), Err(Unavailable::Gone));
    assert!(locate(NOBODY - 1).is_ok());
    assert!(locate(NOBODY).is_ok());
}

#[test]
fn memory_without_a_file_and_addresses_that_are_not_loaded_have_a_reason() {
    let mut objects = Objects::new();
    let mut mapping = recorded(Path::new("/bin/cat"), None, inode(Path::new("/bin/cat")));
    let end = fs::metadata("/bin/cat").unwrap().len();
    let behind = objects.locate(NOBODY, &mapping, mapping.start + end);
    assert_eq!(behind, Err(Unavailable::NotLoaded));
    mapping.backing = Backing::Anonymous;
    let anonymous = objects.locate(NOBODY, &mapping, mapping.start);
    assert_eq!(anonymous, Err(Unavailable::Anonymous));
    mapping.backing = Backing::Special(b"[uprobes]"[..].into());
    let special = objects.locate(NOBODY, &mapping, mapping.start);
    assert_eq!(special, Err(Unavailable::Special));
}

#[test]
fn the_vdso_is_an_object_like_others() {
    let process = Waiting::start(&waiting_program(&Compiled::new(), "program", &[]));
    let mut mapping = process.mapping_of(|mapping| mapping.backing == Backing::Vdso);
    let mut objects = Objects::new();
    let located = objects
        .locate(process.0.id(), &mapping, mapping.start + 0x900)
        .unwrap();
    assert_eq!(located.address, 0x900);
    assert_eq!(objects.get(located.object).path(), Path::new("[vdso]"));
    let sections = objects
        .read_cfi_sections(located.object, 1 << 20, None)
        .unwrap();
    assert!(sections.eh_frame.is_some() && sections.eh_frame_hdr.is_some());
    process.end();

    // Below 4 GiB there is that of a 32-bit process.
    let len = vdso::read(Mode::Bits32).unwrap().len() as u64;
    mapping.start = 0xf7f0_0000;
    mapping.end = mapping.start + len;
    let other = objects.locate(NOBODY, &mapping, mapping.start).unwrap();
    assert_ne!(other.object, located.object);
    assert_eq!(objects.get(other.object).facts().mode, Mode::Bits32);
    mapping.end += 0x1000;
    let none = objects.locate(NOBODY, &mapping, mapping.start);
    assert_eq!(none, Err(Unavailable::OtherVdso));
}

#[test]
fn few_files_are_open_and_closed_ones_are_opened_again() {
    let files = Compiled::new();
    let mut objects = Objects::with_limits(PathBuf::from("/proc"), 4, 10_000);
    let id = [1, 2, 3, 4, 5, 6, 7, 8];
    let program = waiting_program(&files, "program", &["-Wl,--build-id=0x0102030405060708"]);
    let mut bytes = fs::read(program).unwrap();
    let place = bytes.windows(id.len()).position(|part| part == id).unwrap();
    let programs: Vec<PathBuf> = (0..20)
        .map(|number| {
            bytes[place] = number;
            let path = files.path(&format!("program{number}"));
            fs::write(&path, &bytes).unwrap();
            path
        })
        .collect();
    let mut ids = Vec::new();
    for program in &programs {
        let mapping = recorded(program, build_id(program), None);
        match objects.locate(NOBODY, &mapping, mapping.start + 0x80) {
            Ok(located) => ids.push(located.object),
            Err(reason) => assert_eq!(reason, Unavailable::TooMany),
        }
        let open = |object: &&Object| object.contents.is_some();
        assert_eq!(objects.objects.iter().filter(open).count(), objects.open);
        assert!(objects.open <= 4);
    }
    assert_eq!(objects.len(), ids.len());
    assert!((6..20).contains(&ids.len()), "{}", ids.len());
    assert!(objects.get(ids[0]).contents.is_none());
    let contents = objects.contents(ids[0]).unwrap();
    assert_eq!(
        contents.size().unwrap(),
        fs::metadata(&programs[0]).unwrap().len()
    );

    // One that was closed and replaced meanwhile is not taken for the old one.
    assert!(objects.get(ids[1]).contents.is_none());
    fs::copy(&programs[0], &programs[1]).unwrap();
    assert_eq!(objects.contents(ids[1]).unwrap_err(), Unavailable::Replaced);
    fs::remove_file(&programs[2]).unwrap();
    assert_eq!(objects.contents(ids[2]).unwrap_err(), Unavailable::Gone);
}

#[test]
fn a_file_that_is_overwritten_is_another() {
    for flag in ["-Wl,--build-id", "-Wl,--build-id=none"] {
        let files = Compiled::new();
        let program = waiting_program(&files, "program", &[flag]);
        let other = waiting_program(&files, "other", &["-O2", flag]);
        let mut objects = Objects::new();
        let mapping = recorded(&program, build_id(&program), inode(&program));
        let address = mapping.start;
        let id = objects.locate(NOBODY, &mapping, address).unwrap().object;

        // A file that is only touched is the same if its build ID says so.
        File::open(&program)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        let touched = objects.contents(id);
        assert_eq!(touched.is_ok(), build_id(&program).is_some(), "{flag}");

        let kept = files.path("kept");
        fs::copy(&program, &kept).unwrap();
        fs::write(&program, fs::read(&other).unwrap()).unwrap();
        assert_eq!(objects.contents(id).unwrap_err(), Unavailable::Replaced);
        assert!(objects.read_cfi_sections(id, u64::MAX, None).is_err());

        // The same build at another place makes up for it.
        if let Some(build_id) = build_id(&kept) {
            let copy = recorded(&kept, None, inode(&kept));
            assert_eq!(objects.locate(NOBODY, &copy, address).unwrap().object, id);
            let contents = objects.contents(id).unwrap();
            assert_eq!(ElfFacts::read(&*contents).unwrap().build_id, Some(build_id));
        }
    }
}

#[test]
fn debug_frame_comes_from_the_separate_debug_file() {
    let files = Compiled::new();
    let flags = [
        "-g",
        "-fno-asynchronous-unwind-tables",
        "-no-pie",
        "-Wl,--build-id",
    ];
    let whole = waiting_program(&files, "whole", &flags);
    let stripped = files.objcopy(&whole, "stripped", &["--strip-all"]);
    let debug = files.objcopy(&whole, "debug", &["--only-keep-debug"]);
    let id = build_id(&whole).unwrap();
    let folder = files.path("folder");
    let place = elf::debug_file_path(&folder, &id).unwrap();
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::rename(debug, place).unwrap();

    let mut objects = Objects::new();
    let mapping = recorded(&stripped, Some(id), None);
    let object = objects
        .locate(NOBODY, &mapping, mapping.start + 0x80)
        .unwrap()
        .object;
    let mut read = |folder| objects.read_cfi_sections(object, 1 << 20, folder).unwrap();
    assert!(read(None).debug_frame.is_none());
    assert!(read(Some(&*folder)).debug_frame.is_some());
}
