//! Program files that are gone, replaced or changed when their names are needed, that have odd
//! names, or that are mapped very often.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Test,
    corpus::{Chains, compile},
    recorded::{Program, build, chain_of, finish, named, record, start, text},
    support::Place,
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_program_that_is_deleted_while_it_runs),
    test!(a_program_that_is_replaced_while_it_runs),
    test!(a_program_that_is_overwritten_gets_no_wrong_names),
    test!(a_program_that_is_overwritten_and_runs_again),
    test!(a_program_with_a_space_and_a_newline_in_its_name),
    test!(a_library_with_a_space_and_a_newline_in_its_name),
    test!(ten_thousand_mappings),
];

/// Long enough for many samples.
const LONG: Duration = Duration::from_millis(500);

/// A program that runs until it is killed, and whose functions have names with this prefix. The
/// build IDs of two of them only differ if the prefixes differ in length.
fn steady(place: &Place, name: &str, prefix: &str, options: &[&str]) -> PathBuf {
    let [outer, inner] = named(prefix);
    let options = [&[&*outer, &*inner], options].concat();
    build(place, "steady.c", name, &options)
}

/// Records a program to whose file something happens, before the recording or during it.
fn check_change(change: impl Fn(&Place, &Path)) {
    for during in [false, true] {
        let place = Place::new();
        let path = steady(&place, "swsteady", "old", &[]);
        let program = Program::start(&path);
        if !during {
            change(&place, &path);
        }
        let recording = start(&place, &["-p", &program.pid()]);
        if during {
            program.until_used(LONG);
            change(&place, &path);
        }
        program.until_used(LONG);
        program.end();
        let recorded = finish(&place, recording);
        recorded.assert_right("swsteady", &chain_of("old"), 400);
        assert!(!recorded.text.contains("other_"), "{}", recorded.text);
    }
}

fn a_program_that_is_deleted_while_it_runs() {
    check_change(|_, path| fs::remove_file(path).unwrap());
}

fn a_program_that_is_replaced_while_it_runs() {
    check_change(|place, path| {
        let new = steady(place, "swnew", "other", &[]);
        fs::rename(new, path).unwrap();
    });
}

/// The names of functions in it are nowhere any more, and those in the file are wrong.
fn a_program_that_is_overwritten_gets_no_wrong_names() {
    for build_id in ["-Wl,--build-id", "-Wl,--build-id=none"] {
        let place = Place::new();
        steady(&place, "swsteady", "old", &[build_id]);
        steady(&place, "swnew", "other", &[build_id]);
        let script = "./swsteady; cat swnew > swsteady";
        let recorded = record(&place, &["--", "sh", "-c", script]);
        assert!(!recorded.text.contains("other_inner"), "{}", recorded.text);
        // The walks are whole, and the functions are called by their file.
        let called_by_file = recorded.of_command("swsteady").filter(|stack| {
            stack.complete
                && stack
                    .user
                    .ends_with(&["swsteady", "swsteady", "swsteady"].map(str::to_owned))
        });
        let samples: u64 = called_by_file.map(|stack| stack.samples).sum();
        assert!(samples > 400, "{samples} in {}", recorded.text);
        assert!(
            recorded.run.stderr.contains("its file cannot be read"),
            "{:?}",
            recorded.run
        );
    }
}

/// The new program runs under the name and with the inode of the old one.
fn a_program_that_is_overwritten_and_runs_again() {
    let place = Place::new();
    steady(&place, "swsteady", "old", &["-Wl,--build-id"]);
    steady(&place, "swnew", "other", &["-Wl,--build-id"]);
    let script = "./swsteady; cat swnew > swsteady; ./swsteady";
    let recorded = record(&place, &["--", "sh", "-c", script]);
    let (mut of_new, mut of_old) = (0, 0);
    for stack in recorded.of_command("swsteady") {
        match stack.user.last().map(String::as_str) {
            Some("other_inner") => of_new += stack.samples,
            Some("swsteady") => of_old += stack.samples,
            _ => {}
        }
    }
    assert!(of_new > 400 && of_old > 400, "{of_new} and {of_old}");
}

fn a_program_with_a_space_and_a_newline_in_its_name() {
    let name = "sw odd\nname";
    // By the kernel's records.
    let place = Place::new();
    let path = steady(&place, name, "odd", &[]);
    let recorded = record(&place, &["--", text(&path)]);
    recorded.assert_right("sw odd_name", &chain_of("odd"), 400);
    assert!(
        recorded.text.contains(" [sw odd_name]\n"),
        "{}",
        recorded.text
    );
    // By /proc.
    let program = Program::start(&path);
    let recording = start(&place, &["-p", &program.pid()]);
    program.until_used(LONG);
    program.end();
    let recorded = finish(&place, recording);
    recorded.assert_right("sw odd_name", &chain_of("odd"), 400);
}

fn a_library_with_a_space_and_a_newline_in_its_name() {
    let place = Place::new();
    let library = place.path("an odd\nlibrary .so");
    let built = compile(&place, "gcc", "plugin.c", &["-O2", "-shared", "-fPIC"]);
    fs::rename(built, &library).unwrap();
    let loader = build(&place, "loader.c", "swloader", &[]);
    let recorded = record(&place, &["--", text(&loader), text(&library)]);
    recorded.assert_right("swloader", &Chains::of("loader.c"), 400);
    assert!(
        recorded.text.contains(" [an odd_library .so]\n"),
        "{}",
        recorded.text
    );
}

fn ten_thousand_mappings() {
    // By the kernel's records.
    let place = Place::new();
    let path = build(&place, "mappings.c", "swmappings", &[]);
    let chains = Chains::of("mappings.c");
    let recorded = record(&place, &["--", text(&path)]);
    recorded.assert_right("swmappings", &chains, 400);
    // By /proc.
    let program = Program::start(&path);
    program.until_used(LONG);
    let recording = start(&place, &["-p", &program.pid()]);
    program.until_used(LONG);
    program.end();
    finish(&place, recording).assert_right("swmappings", &chains, 400);
}
