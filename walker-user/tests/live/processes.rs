//! Processes that do not stay what they are: short-lived ones, ones that execute another program,
//! and very many.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use crate::{
    Test,
    corpus::Chains,
    helper::{Helper, Role},
    recorded::{
        Program, Recorded, build, chain_of, finish, interrupt, named, record, start, stop, text,
    },
    support::Place,
    test,
    wait::until,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_command_that_lives_for_two_milliseconds),
    test!(two_milliseconds_seen_from_the_whole_system),
    test!(a_process_that_turns_into_another_program),
    test!(a_process_without_its_first_thread),
    test!(code_that_was_moved_to_memory),
    test!(code_in_memory_that_is_called_a_file),
    test!(code_that_only_a_jitdump_file_names),
];

/// Those for which nothing is built.
pub(crate) const TESTS_OF_HELPERS: &[Test] = &[test!(thousands_of_forks_take_little_memory)];

/// Runs the program that lives for two milliseconds again and again.
const AGAIN: &str = "i=0; while [ $i -lt 400 ]; do CORPUS_MS=2 ./swbrief; i=$((i+1)); done";

fn check_brief(recorded: &Recorded) {
    recorded.assert_right("swbrief", &Chains::of("brief.c"), 300);
    // What has no name is called by its file.
    for stack in recorded.of_command("swbrief") {
        let nameless = |name: &String| ["swbrief", "[unknown]"].contains(&&**name);
        assert!(!stack.user.iter().any(nameless), "{stack:#?}");
    }
}

fn a_command_that_lives_for_two_milliseconds() {
    let place = Place::new();
    build(&place, "brief.c", "swbrief", &[]);
    check_brief(&record(&place, &["--", "sh", "-c", AGAIN]));
}

fn two_milliseconds_seen_from_the_whole_system() {
    let place = Place::new();
    build(&place, "brief.c", "swbrief", &[]);
    let recording = start(&place, &["-a"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", AGAIN]).current_dir(place.path(""));
    assert!(shell.status().unwrap().success());
    check_brief(&stop(&place, recording));
}

fn a_process_without_its_first_thread() {
    let place = Place::new();
    let program = build(&place, "leader.c", "swleader", &["-pthread"]);
    let chains = Chains::of("leader.c");
    record(&place, &["--", "./swleader"]).assert_right("swleader", &chains, 500);

    let running = Program::start(&program);
    for target in [&["-p", &running.pid(), "-d", "1"][..], &["-a", "-d", "1"]] {
        let recorded = record(&place, target);
        recorded.assert_right("swleader", &chains, 300);
    }
    let recording = start(&place, &["-p", &running.pid()]);
    running.until_used(Duration::from_millis(500));
    running.end();
    let recorded = finish(&place, recording);
    recorded.assert_right("swleader", &chains, 300);
    let said = &recorded.run.stderr;
    assert!(said.contains("the target has ended"), "{said}");
}

fn code_that_was_moved_to_memory() {
    let place = Place::new();
    let chains = Chains::of("moved.c");
    for option in [
        "-UAGAIN",
        "-DAGAIN",
        "-Wl,-z,noseparate-code",
        "-fuse-ld=lld",
    ] {
        let program = build(&place, "moved.c", "swmoved", &[option]);
        record(&place, &["--", "./swmoved"]).assert_right("swmoved", &chains, 500);
        let running = Program::start(&program);
        let recorded = record(&place, &["-p", &running.pid(), "-d", "1"]);
        recorded.assert_right("swmoved", &chains, 300);
        running.end();
    }
}

fn code_in_memory_that_is_called_a_file() {
    let place = Place::new();
    build(&place, "blob.c", "swblob", &["-DMEMFD"]);
    let recorded = record(&place, &["--", "./swblob"]);
    recorded.assert_right("swblob", &Chains::of("blob.c"), 500);
}

fn code_that_only_a_jitdump_file_names() {
    let place = Place::new();
    build(&place, "jitdump.c", "swjitdump", &[]);
    let recorded = record(&place, &["--", "./swjitdump"]);
    recorded.assert_right("swjitdump", &Chains::of("jitdump.c"), 500);
}

/// The addresses of a program's functions.
fn functions(program: &Path) -> BTreeMap<String, String> {
    let nm = Command::new("nm").arg(program).output().unwrap();
    let symbols = String::from_utf8(nm.stdout).unwrap();
    let functions = symbols.lines().filter_map(|line| line.split_once(" T "));
    functions
        .map(|(address, name)| (name.to_owned(), address.to_owned()))
        .collect()
}

fn a_process_that_turns_into_another_program() {
    let place = Place::new();
    let [odd, even] = ["odd", "even"].map(|prefix| {
        let [outer, inner] = named(prefix);
        let program = build(&place, "relay.c", prefix, &["-no-pie", &outer, &inner]);
        (functions(&program), program)
    });
    assert_eq!(odd.0["odd_inner"], even.0["even_inner"]);
    assert_eq!(odd.0["odd_outer"], even.0["even_outer"]);
    let relay = "CORPUS_MS=5 exec ./odd 400 ./even";
    let recorded = record(&place, &["--", "sh", "-c", relay]);
    for (comm, other) in [("odd", "even_"), ("even", "odd_")] {
        recorded.assert_right(comm, &chain_of(comm), 300);
        for stack in recorded.of_command(comm) {
            assert!(
                !stack.user.iter().any(|name| name.starts_with(other)),
                "{stack:#?}"
            );
        }
    }
    assert!(odd.1.exists() && even.1.exists());
}

/// The most memory that a process has had, in KiB, as far as that can still be told.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn thousands_of_forks_take_little_memory() {
    let place = Place::new();
    let mut helper = Helper::start("swforks", Role::Forks(5000));
    assert_eq!(helper.line(), "ready");
    let mut recording = start(&place, &["-a"]);
    let pid = recording.child.id();
    helper.go();
    assert_eq!(helper.line(), "done");
    helper.finish();
    interrupt(&recording.child);
    let mut peak = 0;
    until("the recording ends", || {
        peak = peak.max(peak_memory(pid).unwrap_or(0));
        recording.child.try_wait().unwrap().is_some()
    });
    let recorded = finish(&place, recording);
    println!("{} MiB", peak >> 10);
    assert!(peak > 0 && peak < 160 << 10, "{peak} KiB");
    let samples: u64 = recorded
        .of_command("swforks")
        .map(|stack| stack.samples)
        .sum();
    assert!(samples > 100, "{samples}\n{}", text(&recorded.run.stderr));
}
