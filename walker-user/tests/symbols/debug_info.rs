//! Functions, inlined functions and lines, wherever the debug info is.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use walker_user::symbolize::{CodeSymbol, Reason, service::Config};

use crate::{
    ask,
    build::{Folder, addresses, run},
    config, shown,
};

/// The answers for every address of `outer`, which is looked up in `of` and asked of `file`.
fn outer(config: Config, file: &Path, of: &Path) -> Vec<CodeSymbol> {
    ask(config, file, &addresses(of, "outer"))
}

/// All is known: the function, and the one inlined on some of its addresses.
fn assert_complete(answers: &[CodeSymbol]) {
    for (offset, answer) in answers.iter().enumerate() {
        assert_eq!(answer.functions[0].name, "outer", "{answer:?}");
        assert!(answer.named && !answer.functions[0].inlined);
        assert_eq!(answer.offset, offset as u64);
        assert_eq!(answer.size, answers.len() as u64);
        assert_eq!(answer.reason, None);
    }
    let inlined = answers.iter().map(shown).find(|shown| shown.len() == 2);
    let expected = ["outer program.c:5", "+square program.c:3"];
    assert_eq!(inlined.unwrap(), expected);
}

/// Names are known, lines are not.
fn assert_names_only(answers: &[CodeSymbol], reason: Option<Reason>) {
    for answer in answers {
        assert_eq!(shown(answer), ["outer"]);
        assert_eq!((answer.named, answer.reason), (true, reason));
    }
}

#[test]
fn in_the_file_itself() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let answers = outer(config(), &program, &program);
    assert_complete(&answers);
    assert_eq!(answers[0].module, "program");
}

#[test]
fn compressed() {
    let folder = Folder::new();
    for how in ["-gz=zlib", "-Wl,--compress-debug-sections=zstd"] {
        let program = folder.program(&[how]);
        assert_complete(&outer(config(), &program, &program));
    }
}

#[test]
fn not_read_if_there_is_too_much_of_it() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    for max_debug_info in [1, 0] {
        let config = Config {
            max_debug_info,
            ..config()
        };
        let reason = (max_debug_info > 0).then_some(Reason::DebugInfoTooLarge);
        assert_names_only(&outer(config, &program, &program), reason);
    }
}

/// A stripped copy of a program, and its debug info in another file.
fn split(folder: &Folder, program: &Path, debug: &Path) -> PathBuf {
    let stripped = folder.path("stripped");
    fs::create_dir_all(debug.parent().unwrap()).unwrap();
    run("objcopy", &[Path::new("--only-keep-debug"), program, debug]);
    run("strip", &[Path::new("-o"), &stripped, program]);
    stripped
}

#[test]
fn in_a_file_that_a_debug_link_names() {
    for place in ["program.debug", ".debug/program.debug"] {
        let folder = Folder::new();
        let program = folder.program(&["-Wl,--build-id=none"]);
        let debug = folder.path(place);
        let stripped = split(&folder, &program, &debug);
        let link = format!("--add-gnu-debuglink={}", debug.display());
        run("objcopy", &[Path::new(&link), &stripped]);
        assert_complete(&outer(config(), &stripped, &program));

        // Without a build ID, only the checksum tells that it belongs to the program.
        let mut other = fs::read(&debug).unwrap();
        other.push(0);
        fs::write(&debug, other).unwrap();
        let answers = outer(config(), &stripped, &program);
        assert!(answers.iter().all(|answer| !answer.named), "{answers:?}");
    }
}

#[test]
fn in_the_folder_of_debug_files_by_build_id_or_path() {
    let by_id = ".build-id/12/34567890abcdef.debug".to_owned();
    let folder = Folder::new();
    let inside = folder.path("").strip_prefix("/").unwrap().to_owned();
    let by_path = format!("{}/program.debug", inside.display());
    for place in [by_id, by_path] {
        let folder_of_debug = Folder::new();
        let program = folder.program(&["-Wl,--build-id=0x1234567890abcdef"]);
        let debug = folder_of_debug.path(&place);
        let stripped = split(&folder, &program, &debug);
        let link = format!("--add-gnu-debuglink={}", debug.display());
        if !place.starts_with('.') {
            run("objcopy", &[Path::new(&link), &stripped]);
        }
        let config = || Config {
            debug_dirs: vec![folder_of_debug.path("")],
            ..config()
        };
        assert_complete(&outer(config(), &stripped, &program));

        let other = folder.program(&["-Wl,--build-id=0xfedcba0987654321"]);
        run("objcopy", &[Path::new("--only-keep-debug"), &other, &debug]);
        let answers = outer(config(), &stripped, &program);
        assert!(answers.iter().all(|answer| !answer.named), "{place}");
    }
}

#[test]
fn a_debug_link_does_not_lead_to_other_folders() {
    let folder = Folder::new();
    let program = folder.program(&["-Wl,--build-id=none"]);
    let debug = folder.path("sub/program.debug");
    let stripped = split(&folder, &program, &debug);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    run("objcopy", &[Path::new(&link), &stripped]);
    // The same link with a path instead of a name of the same length.
    fs::rename(&debug, folder.path("m.debug")).unwrap();
    let bytes = fs::read(&stripped).unwrap();
    let at = find(&bytes, b"program.debug");
    for name in [b"./././m.debug", b"../../m.debug"] {
        let mut changed = bytes.clone();
        changed[at..at + name.len()].copy_from_slice(name);
        let path = folder.path("sub/changed");
        fs::write(&path, changed).unwrap();
        let answers = outer(config(), &path, &program);
        assert!(answers.iter().all(|answer| !answer.named), "{answers:?}");
    }
}

/// Where `part` is in `bytes`.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .unwrap()
}

#[test]
fn the_symbols_of_mini_debug_info() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let mini = folder.path("mini");
    run(
        "strip",
        &[Path::new("--strip-debug"), Path::new("-o"), &mini, &program],
    );
    run("xz", &[Path::new("--keep"), &mini]);
    let stripped = folder.path("stripped");
    run("strip", &[Path::new("-o"), &stripped, &program]);
    assert!(!outer(config(), &stripped, &program)[0].named);
    let section = format!(".gnu_debugdata={}", folder.path("mini.xz").display());
    run(
        "objcopy",
        &[Path::new("--add-section"), Path::new(&section), &stripped],
    );
    assert_names_only(&outer(config(), &stripped, &program), None);
}

#[test]
fn without_symbols_the_file_and_the_address_are_the_name() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let stripped = folder.path("stripped");
    run("strip", &[Path::new("-o"), &stripped, &program]);
    let address = addresses(&program, "outer")[0];
    let answers = ask(config(), &stripped, &[address, 1 << 60]);
    assert_eq!(shown(&answers[0]), [format!("stripped+{address:#x}")]);
    assert_eq!(answers[0].reason, Some(Reason::NoSymbols));
    assert!(!answers[0].named);
    let beyond = ask(config(), &program, &[1 << 60]);
    assert_eq!(shown(&beyond[0]), ["program+0x1000000000000000"]);
    assert_eq!(beyond[0].reason, Some(Reason::NotCode));
}

#[test]
fn a_path_need_not_be_text() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let path = folder.path("").join(OsStr::from_bytes(b"\xff\n"));
    fs::rename(&program, &path).unwrap();
    let answers = outer(config(), &path, &path);
    assert_complete(&answers);
    assert_eq!(answers[0].module, "\u{fffd}\n");
}

#[test]
fn a_file_that_was_removed_is_read_all_the_same() {
    let folder = Folder::new();
    let program = folder.program(&[]);
    let addresses = addresses(&program, "outer");
    let object = crate::object(&program);
    fs::remove_file(&program).unwrap();
    let service = walker_user::symbolize::service::Service::start(config()).unwrap();
    assert_complete(&service.ask(&object, addresses).wait());
}
