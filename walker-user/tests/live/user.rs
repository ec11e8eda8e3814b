//! User stacks: programs of every kind that people run, each knowing its own calls.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::Completion;

use crate::{
    Test,
    corpus::{Chains, TextStack, Verdict, compile, has, read, run, source},
    support::{Place, Run, Running},
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(system_calls_and_user_code),
    test!(the_highest_optimization),
    test!(static_programs),
    test!(unusual_frames),
    test!(a_handler_in_a_handler),
    test!(a_signal_at_any_instruction),
    test!(a_recursion_deeper_than_the_first_budget),
    test!(a_thread),
    test!(a_library_that_is_loaded_later),
    test!(the_vdso),
    test!(exceptions),
    test!(programs_of_32_bits),
    test!(unusual_frames_of_32_bits),
    test!(signals_in_32_bits),
    test!(a_signal_at_any_instruction_of_32_bits),
    test!(deep_stacks_and_threads_of_32_bits),
    test!(the_vdso_of_32_bits),
    test!(a_library_of_32_bits),
    test!(callbacks_of_32_bits),
    test!(exceptions_of_32_bits),
    test!(system_calls_of_32_bits),
    test!(rust),
    test!(may be ignored: musl),
    test!(may be ignored: go),
    test!(may be ignored: python),
    test!(may be ignored: node),
];

/// How long a program of the corpus runs, in milliseconds.
const TIME: &str = "1500";
/// The time of those whose stacks are deep from the start, for which the copies must grow first.
const LONGER: &str = "CORPUS_MS=5000";

/// Records a command, and returns what stackwalk said.
fn record(place: &Place, command: &[&str]) -> Run {
    let mut arguments = vec!["record", "-F", "1999", "-o", "run.txt", "--"];
    arguments.extend(command);
    let mut stackwalk = place.stackwalk(&arguments);
    let run = Running::start(stackwalk.env("CORPUS_MS", TIME)).wait();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    run
}

fn check(place: &Place, command: &[&str], comm: &str, source: &str, name_of: fn(&str) -> &str) {
    record(place, command);
    let stacks = read(&place.path("run.txt"));
    let verdict = Verdict::of(&stacks, comm, &Chains::of(source), name_of);
    verdict.assert_right(source);
}

/// The same of a 32-bit program.
fn check_32(place: &Place, command: &[&str], comm: &str, source: &str) {
    record(place, command);
    let stacks = read(&place.path("run.txt"));
    let verdict = Verdict::of(&stacks, comm, &Chains::of(source), same);
    verdict.assert_none_wrong(source);
}

fn same(name: &str) -> &str {
    name
}

/// Builds, records and checks a program whose functions have their plain names.
fn check_built(compiler: &str, name: &str, options: &[&str], arguments: &[&str]) {
    let place = Place::new();
    let program = compile(&place, compiler, name, options);
    let comm = program.file_name().unwrap().to_str().unwrap().to_owned();
    let mut command = vec![text(&program)];
    command.extend(arguments);
    if options.contains(&"-m32") {
        check_32(&place, &command, &comm, name);
    } else {
        check(&place, &command, &comm, name, same);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn system_calls_and_user_code() {
    check_built("gcc", "plain.c", &["-O2"], &[]);
}

fn the_highest_optimization() {
    check_built("gcc", "plain.c", &["-O3", "-march=native"], &[]);
}

fn static_programs() {
    check_built("gcc", "plain.c", &["-O2", "-static"], &[]);
    check_built("gcc", "plain.c", &["-O2", "-static-pie"], &[]);
}

fn unusual_frames() {
    check_built("gcc", "frames.c", &["-O2"], &[]);
}

fn a_handler_in_a_handler() {
    check_built("gcc", "signals.c", &["-O2"], &[]);
}

fn a_signal_at_any_instruction() {
    check_built("gcc", "fault.c", &["-O2"], &[]);
}

fn a_recursion_deeper_than_the_first_budget() {
    let place = Place::new();
    let program = compile(&place, "gcc", "recursion.c", &["-O1"]);
    // All of its stacks are deep, so the copies must grow before the first is complete.
    let command = ["env", LONGER, text(&program)];
    check(&place, &command, "recursion", "recursion.c", same);
}

fn a_thread() {
    check_built("gcc", "threads.c", &["-O2"], &[]);
}

fn a_library_that_is_loaded_later() {
    let place = Place::new();
    let library = compile(&place, "gcc", "plugin.c", &["-O2", "-shared", "-fPIC"]);
    check_built("gcc", "loader.c", &["-O2"], &[text(&library)]);
}

fn the_vdso() {
    check_built("gcc", "vdso.c", &["-O2"], &[]);
}

/// At the end of its work libgcc overwrites its own return address with that of the handler, and
/// what it saved with the handler's registers. A walk that meets it then ends there.
fn exceptions() {
    check_exceptions(&["-O2"]);
}

fn check_exceptions(options: &[&str]) {
    let place = Place::new();
    let program = compile(&place, "g++", "exceptions.cpp", options);
    record(&place, &[text(&program)]);
    let landing = |stack: &TextStack| {
        !stack.complete && stack.user.iter().any(|name| name.starts_with("_Unwind_"))
    };
    let (landing, stacks): (Vec<_>, Vec<_>) =
        read(&place.path("run.txt")).into_iter().partition(landing);
    let landing: u64 = landing.iter().map(|stack| stack.samples).sum();
    let verdict = Verdict::of(&stacks, "exceptions", &Chains::of("exceptions.cpp"), same);
    if options.contains(&"-m32") {
        verdict.assert_none_wrong("exceptions.cpp");
    } else {
        verdict.assert_right("exceptions.cpp");
    }
    println!("exceptions.cpp: {landing} interrupted while libgcc lands");
    assert!(landing * 20 < verdict.right, "{landing} of {verdict}");
}

fn programs_of_32_bits() {
    for options in [
        &["-m32", "-O2", "-fomit-frame-pointer"][..],
        &["-m32", "-O3", "-no-pie"],
        &["-m32", "-O2", "-static"],
    ] {
        check_built("gcc", "plain.c", options, &[]);
    }
}

fn unusual_frames_of_32_bits() {
    check_built("gcc", "frames.c", &["-m32", "-O2"], &[]);
}

fn signals_in_32_bits() {
    check_built("gcc", "signals.c", &["-m32", "-O2"], &[]);
}

fn a_signal_at_any_instruction_of_32_bits() {
    check_built("gcc", "fault.c", &["-m32", "-O2"], &[]);
}

fn deep_stacks_and_threads_of_32_bits() {
    let place = Place::new();
    let program = compile(&place, "gcc", "recursion.c", &["-m32", "-O1"]);
    let command = ["env", LONGER, text(&program)];
    check_32(&place, &command, "recursion", "recursion.c");
    check_built("gcc", "threads.c", &["-m32", "-O2"], &[]);
}

fn the_vdso_of_32_bits() {
    check_built("gcc", "vdso.c", &["-m32", "-O2"], &[]);
}

fn a_library_of_32_bits() {
    let place = Place::new();
    let options = ["-m32", "-O2", "-shared", "-fPIC"];
    let library = compile(&place, "gcc", "plugin.c", &options);
    check_built("gcc", "loader.c", &["-m32", "-O2"], &[text(&library)]);
}

fn callbacks_of_32_bits() {
    check_built("gcc", "callbacks.c", &["-m32", "-O2"], &[]);
}

fn exceptions_of_32_bits() {
    check_exceptions(&["-m32", "-O2"]);
}

/// By `int 0x80` and by the vDSO's `__kernel_vsyscall`, with the flags of both in other registers.
fn system_calls_of_32_bits() {
    check_built("gcc", "calls32.c", &["-m32", "-O2"], &[]);
    let place = Place::new();
    let program = compile(&place, "gcc", "sleeps32.c", &["-m32", "-O2"]);
    let arguments = [
        "record",
        "--off-cpu",
        "-o",
        "run.folded",
        "--",
        text(&program),
    ];
    let run = Running::start(place.stackwalk(&arguments).env("CORPUS_MS", TIME)).wait();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let folded = std::fs::read_to_string(place.path("run.folded")).unwrap();
    for way in ["by_interrupt", "by_vdso"] {
        let waits: Vec<&str> = folded.lines().filter(|line| line.contains(way)).collect();
        assert!(!waits.is_empty(), "{way}: {folded}");
        for line in waits {
            assert!(line.contains(&format!(";main;sleeps;{way};")), "{line}");
        }
    }
}

fn rust() {
    let place = Place::new();
    let program = place.path("rusty");
    let mut rustc = Command::new("rustc");
    rustc.args(["-O", "--edition", "2021", "-o"]).arg(&program);
    run(rustc.arg(source("rusty.rs")));
    check(&place, &[text(&program)], "rusty", "rusty.rs", same);
}

fn musl() -> Completion {
    if !has("musl-gcc") {
        return Completion::ignored_with("musl-gcc is not there (package musl-tools)");
    }
    check_built("musl-gcc", "plain.c", &["-O2", "-static"], &[]);
    Completion::Completed
}

fn go() -> Completion {
    if !has("go") {
        return Completion::ignored_with("go is not there (package golang-go)");
    }
    let place = Place::new();
    let program = place.path("gopher");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program);
    go.env("GO111MODULE", "off")
        .env("GOCACHE", place.path("cache"));
    run(go.arg(source("gopher.go")));
    check(&place, &[text(&program)], "gopher", "gopher.go", same);
    Completion::Completed
}

/// A Python that can name its functions: 3.12 or later.
fn python_with_perf() -> Option<PathBuf> {
    let mut candidates = vec![PathBuf::from("python3")];
    let versions = std::env::home_dir()?.join(".pyenv/versions");
    for entry in std::fs::read_dir(versions).into_iter().flatten() {
        candidates.push(entry.ok()?.path().join("bin/python3"));
    }
    candidates.into_iter().find(|python| {
        let mut command = Command::new(python);
        command.args([
            "-X",
            "perf",
            "-c",
            "import sys; sys.exit(sys.version_info < (3, 12))",
        ]);
        command.output().is_ok_and(|output| output.status.success())
    })
}

fn python() -> Completion {
    let Some(python) = python_with_perf() else {
        return Completion::ignored_with("there is no CPython 3.12 or later");
    };
    let place = Place::new();
    let script = source("script.py");
    let isolated = ["-I", "-S", "-X", "perf"];
    let mut command = vec!["env", LONGER, text(&python)];
    command.extend(isolated);
    command.push(text(&script));
    check(&place, &command, "python3", "script.py", |name| {
        // A perf map calls a function by its qualified name and its file.
        let end = name.match_indices(':').nth(2).map(|(at, _)| at);
        match end {
            // Other modules have functions of the same names.
            Some(end) if name.ends_with("/script.py") => &name[..end],
            _ => name,
        }
    });
    Completion::Completed
}

/// The function in a name of V8's perf map, such as `JS:*work /tmp/script.js:8:14`.
fn javascript(name: &str) -> Option<&str> {
    let function = name
        .strip_prefix("JS:")?
        .trim_start_matches(['~', '^', '+', '*', '\'']);
    function.split(' ').next()
}

/// V8 inlines as it likes, so functions may be missing, but never be in another order.
fn node() -> Completion {
    if !has("node") {
        return Completion::ignored_with("node is not there (package nodejs)");
    }
    let place = Place::new();
    let script = source("script.js");
    record(&place, &["node", "--perf-basic-prof", text(&script)]);
    let (mut all, mut inside, mut truncated) = (0, 0, 0);
    for stack in read(&place.path("run.txt")) {
        if stack.comm != "node" {
            continue;
        }
        all += stack.samples;
        let own = ["outer", "inner", "work"];
        let mut rest = own.iter();
        let names: Vec<&str> = stack
            .user
            .iter()
            .filter_map(|name| javascript(name))
            .collect();
        let mut called = names.iter().filter(|name| own.contains(name)).peekable();
        if called.peek().is_some() {
            inside += stack.samples;
            assert!(
                called.all(|name| rest.any(|next| next == name)),
                "{stack:#?}"
            );
            if stack.stop == "truncated" {
                // Until the copies have grown.
                truncated += stack.samples;
                continue;
            }
            assert!(stack.complete, "{stack:#?}");
            // `main` may be gone, as the last thing it does is to jump there.
            let start = |name: &String| name.starts_with("node::Start(");
            assert!(stack.user.iter().any(start), "{stack:#?}");
        }
    }
    println!("script.js: {inside} of {all} samples in its functions");
    // Threads that compile and collect garbage are called the same, and so are all of its start.
    assert!(inside > 200, "{inside} of {all}");
    assert!(truncated * 50 <= all, "{truncated} of {all}");
    Completion::Completed
}
