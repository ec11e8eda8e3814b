//! `stackwalk ci` on the running kernel: runs are recorded, and what got slower is named.

use std::fs;

use serde_json::Value;

use crate::{
    Test,
    recorded::{build, text},
    support::Place,
    test,
};

pub(crate) const TESTS_OF_PROGRAMS: &[Test] = &[
    test!(a_call_that_was_added_is_named_and_the_same_program_passes),
    test!(runs_that_fail_or_do_not_say_what_they_did_are_refused),
];

/// Runs of a side: enough for a function alone to be significant.
const RUNS: &str = "8";
const WORK: &str = r"requests: (\d+)";

/// Records a program that does so many extra calls in a thousand requests.
fn record(place: &Place, program: &str, set: &str, extra: &str) {
    let run = place.run(&[
        "ci",
        "record",
        "-o",
        set,
        "--runs",
        RUNS,
        "--name",
        "requests",
        "--work-unit",
        WORK,
        "-F",
        "1999",
        "--",
        program,
        "100000",
        extra,
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert!(
        run.stdout.lines().all(|line| line == "requests: 100000"),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("run 8/8:") && run.stderr.contains(" 100000 units of work"),
        "{run:?}"
    );
}

fn compare(place: &Place, after: &str) -> (Option<i32>, Value) {
    // How fast this machine is may change while the tests run, and is not tested here.
    let run = place.run(&[
        "ci",
        "compare",
        "--json",
        "--allow-env-change",
        "base.swkset",
        after,
    ]);
    let verdict = serde_json::from_str(&run.stdout);
    (
        run.status.code(),
        verdict.unwrap_or_else(|_| panic!("{run:?}")),
    )
}

fn a_call_that_was_added_is_named_and_the_same_program_passes() {
    let place = Place::new();
    let program = build(&place, "requests.c", "swrequests", &[]);
    let program = text(&program);
    record(&place, program, "base.swkset", "0");
    record(&place, program, "same.swkset", "0");
    record(&place, program, "slow.swkset", "400");
    let (status, verdict) = compare(&place, "slow.swkset");
    assert_eq!(status, Some(1), "{verdict:#}");
    let cause = &verdict["causes"][0];
    let path: Vec<&str> = { cause["path"].as_array().unwrap().iter() }
        .map(|name| name.as_str().unwrap())
        .collect();
    // What the call is called in the kernel, and in the C library, depends on their versions.
    assert!(
        path.starts_with(&["swrequests"]) && path.contains(&"main"),
        "{path:?}"
    );
    assert!(path.iter().any(|name| name.contains("stat")), "{path:?}");
    assert!(cause["of_whole"].as_f64().unwrap() > 0.01, "{cause:#}");
    // The set is a tar file of recordings.
    let unpacked = std::process::Command::new("tar")
        .args(["-xf", "base.swkset"])
        .current_dir(place.path(""))
        .status();
    assert!(unpacked.unwrap().success());
    let report = place.run(&["report", "run-001.swk"]);
    assert!(report.stdout.contains("parse"), "{report:?}");
    let head: Value = serde_json::from_slice(&fs::read(place.path("set.json")).unwrap()).unwrap();
    assert_eq!(head["runs"].as_array().unwrap().len(), 8);
    assert_eq!(head["runs"][7]["work"], 100000.0);
    let (wall, cpu) = (&head["runs"][0]["wall_ns"], &head["runs"][0]["cpu_ns"]);
    assert!(
        cpu.as_u64() > Some(1_000_000) && wall.as_u64() > cpu.as_u64().map(|cpu| cpu / 2),
        "{head:#}"
    );
    // A busy machine may make all of it slower, but no function more than others.
    let (_, verdict) = compare(&place, "same.swkset");
    assert_eq!(verdict["causes"], serde_json::json!([]), "{verdict:#}");
}

fn runs_that_fail_or_do_not_say_what_they_did_are_refused() {
    let place = Place::new();
    let record = |options: &[&str], command: &[&str], what: &str| {
        let run = place.run(
            &[
                &["ci", "record", "--runs", "2", "--warmup", "0"],
                options,
                &["--"],
                command,
            ]
            .concat(),
        );
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(run.stderr.contains(what), "no `{what}` in {run:?}");
        assert_eq!(place.files(), [""; 0]);
    };
    record(&[], &["false"], "run 1/2: the command failed with status 1");
    record(&[], &["/no/such/program"], "/no/such/program");
    record(
        &["--work-unit", WORK],
        &["echo", "requests: none"],
        "did not print a number where",
    );
    record(
        &["--work-unit", WORK],
        &["echo", "requests: 0"],
        "did 0 units of work",
    );
    record(&["-e", "no-such-event"], &["true"], "no-such-event");
}
