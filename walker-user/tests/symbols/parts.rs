//! Debug info in parts: of functions that the compiler split, in files that several programs share,
//! in files of split DWARF, and in the root directory of a container.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use walker_user::{
    symbolize::{
        CodeSymbol, Object, Reason, UserSymbols,
        service::{Config, Service},
    },
    sys::regular_file,
};

use crate::{
    ask,
    build::{Folder, addresses, function, run},
    config, object, shown,
};

/// What is shown of the addresses at which the function on line 3 is inlined into `outer`.
fn assert_inlined(answers: &[CodeSymbol]) {
    let inlined = answers.iter().map(shown).find(|shown| shown.len() == 2);
    let expected = ["outer program.c:5", "+square program.c:3"];
    assert_eq!(inlined.unwrap_or_default(), expected, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.reason.is_none()));
}

#[test]
fn functions_with_a_cold_part() {
    let folder = Folder::new();
    let source = folder.write(
        "work.cpp",
        "volatile long sink;\n\
         static inline __attribute__((always_inline)) long fold(long x) { return x * sink; }\n\
         __attribute__((noinline)) long work(long x) {\n\
         if (x == 77) throw x;\n\
         return fold(x) + 1; }\n\
         int main(int n, char **) { return work(n); }\n",
    );
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let program = folder.path("work");
        let arguments = ["-O2", "-g", version, "-o"].map(Path::new);
        run("g++", &[&arguments[..], &[&program, &source]].concat());
        let (cold, cold_size) = function(&program, |name| name == "_Z4workl.cold");
        let (hot, hot_size) = function(&program, |name| name == "_Z4workl");
        let hot: Vec<u64> = (hot..hot + hot_size).collect();
        let answers = ask(config(), &program, &hot);
        let expected = ["work(long) work.cpp:5", "+fold work.cpp:2"];
        assert!(
            answers
                .iter()
                .any(|answer| shown(answer).iter().eq(expected.iter())),
            "{answers:?}"
        );
        let cold: Vec<u64> = (cold..cold + cold_size).collect();
        let answers = ask(config(), &program, &cold);
        let thrown = ["work(long) work.cpp:4"];
        assert!(
            answers.iter().any(|answer| shown(answer) == thrown),
            "{answers:?}"
        );
        let is_work = |answer: &CodeSymbol| shown(answer)[0].starts_with("work(long) work.cpp:");
        assert!(answers.iter().all(is_work), "{answers:?}");
    }
}

/// Two programs whose common debug info is moved to a third file.
fn shared(folder: &Folder) -> (PathBuf, PathBuf) {
    let program = folder.program(&[]);
    let other = folder.path("other");
    fs::copy(&program, &other).unwrap();
    let common = folder.path("common.debug");
    let to = [Path::new("-m"), &common, Path::new("-M"), &common];
    run("dwz", &[&to[..], &[&program, &other]].concat());
    (program, common)
}

#[test]
fn what_is_in_a_file_that_programs_share() {
    let folder = Folder::new();
    let (program, common) = shared(&folder);
    let outer = addresses(&program, "outer");
    assert_inlined(&ask(config(), &program, &outer));

    // One with another ID is not it, and none is said.
    for is_there in [true, false] {
        match is_there {
            true => drop(fs::copy(&program, &common).unwrap()),
            false => fs::remove_file(&common).unwrap(),
        }
        for answer in ask(config(), &program, &outer) {
            assert_eq!(answer.functions[0].name, "outer");
            assert_eq!(answer.reason, Some(Reason::NoSharedDebugInfo));
        }
    }
}

#[test]
fn split_dwarf() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let folder = Folder::new();
        let source = folder.program(&[]).with_extension("c");
        let (part, program) = (folder.path("part.o"), folder.path("program"));
        let compile = |define: &str| {
            let arguments = ["-O2", version, "-gsplit-dwarf", "-c", define, "-o"].map(Path::new);
            run("gcc", &[&arguments[..], &[&part, &source]].concat());
        };
        compile("-DA");
        run("gcc", &[Path::new("-o"), &program, &part]);
        let outer = addresses(&program, "outer");
        assert_inlined(&ask(config(), &program, &outer));

        if version == "-gdwarf-4" {
            // binutils' knows no newer version.
            let package = folder.path("program.dwp");
            run(
                "dwp",
                &[Path::new("-e"), &program, Path::new("-o"), &package],
            );
            let part = folder.path("part.dwo");
            let bytes = fs::read(&part).unwrap();
            fs::remove_file(&part).unwrap();
            assert_inlined(&ask(config(), &program, &outer));
            fs::remove_file(&package).unwrap();
            fs::write(&part, bytes).unwrap();
        }

        // That of another build, and none.
        let text = fs::read_to_string(&source).unwrap();
        fs::write(&source, format!("{text}int more;\n")).unwrap();
        compile("-DB");
        for _ in 0..2 {
            for answer in ask(config(), &program, &outer) {
                assert_eq!(answer.functions[0].name, "outer");
                assert_eq!(answer.functions.len(), 1, "{answer:?}");
                assert_eq!(answer.reason, Some(Reason::NoSplitDebugInfo));
            }
            let _gone = fs::remove_file(folder.path("part.dwo"));
        }
        let mut symbols = UserSymbols::new(config()).unwrap();
        symbols.object(&object(&program), &outer);
        let unused: Vec<_> = symbols.unused_debug_info().collect();
        assert_eq!(unused, [(Reason::NoSplitDebugInfo.name(), 1)]);
    }
}

/// Asks for the addresses of `outer` in a stripped program at a path within a root.
fn in_root(program: &Path, root: &Folder, path: &str) -> Vec<CodeSymbol> {
    let object = Object {
        path: path.into(),
        root: Some(Arc::new(regular_file::folder(&root.path("")).unwrap())),
        ..Arc::into_inner(object(&root.path(path.trim_start_matches('/')))).unwrap()
    };
    let config = Config {
        debug_dirs: vec!["/usr/lib/debug".into()],
        ..config()
    };
    let addresses = addresses(program, "outer");
    Service::start(config)
        .unwrap()
        .ask(&Arc::new(object), addresses)
        .wait()
}

#[test]
fn the_root_directory_of_the_process() {
    let folder = Folder::new();
    let program = folder.program(&["-Wl,--build-id=0x1234567890abcdef"]);
    let by_id = "usr/lib/debug/.build-id/12/34567890abcdef.debug";
    for place in [by_id, "opt/.debug/program.debug"] {
        let root = Folder::new();
        let stripped = root.write("opt/program", "");
        let debug = root.write(place, "");
        run(
            "objcopy",
            &[Path::new("--only-keep-debug"), &program, &debug],
        );
        run("strip", &[Path::new("-o"), &stripped, &program]);
        if place != by_id {
            let link = format!("--add-gnu-debuglink={}", debug.display());
            run("objcopy", &[Path::new(&link), &stripped]);
        }
        assert_inlined(&in_root(&program, &root, "/opt/program"));

        // A link does not lead out of the root.
        let outside = folder.path("outside.debug");
        fs::rename(&debug, &outside).unwrap();
        symlink(&outside, &debug).unwrap();
        let answers = in_root(&program, &root, "/opt/program");
        assert!(answers.iter().all(|answer| !answer.named), "{answers:?}");
    }
}
