//! `stackwalk ci`: what it says to sets that cannot be judged, and its statuses.

use std::{fs, io::Write as _};

use walker_user::ci::set::{RunHead, SetHead, SetWriter};

use super::{support::Place, synthetic};

/// A recording in which two functions have so many samples.
fn recording(names: [&str; 2], samples: [u32; 2]) -> Vec<u8> {
    let [first, second] = samples;
    synthetic::recording(&names, &[(vec![0], first), (vec![1], second)]).unwrap()
}

/// Writes a set of so many runs, of which the second function has so many samples.
fn set(place: &Place, file: &str, head: &SetHead, runs: u32, second: u32) {
    set_of(place, file, head, runs, |run| {
        recording(["first", "second"], [1000 + run % 3, second + run % 5])
    });
}

fn set_of(place: &Place, file: &str, head: &SetHead, runs: u32, run: impl Fn(u32) -> Vec<u8>) {
    let mut set = SetWriter::new(Vec::new(), head.clone());
    for number in 0..runs {
        let mut recording = tempfile::tempfile().unwrap();
        recording.write_all(&run(number)).unwrap();
        let run = RunHead {
            wall_ns: 1_000_000_000,
            status: i32::from(head.workload == "failing" && number == 1),
            ..RunHead::default()
        };
        set.add(run, &recording).unwrap();
    }
    fs::write(place.path(file), set.finish().unwrap()).unwrap();
}

fn head(workload: &str) -> SetHead {
    SetHead {
        workload: workload.to_owned(),
        ..SetHead::default()
    }
}

/// Two sets are compared with this result and this status.
fn assert_compared(place: &Place, options: &[&str], status: i32, what: &str) {
    let run = place.run(&[&["ci", "compare", "base.swkset", "new.swkset"], options].concat());
    assert_eq!(run.status.code(), Some(status), "{run:?}");
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(said.contains(what), "no `{what}` in {said}");
}

#[test]
fn what_got_slower_ends_the_job_and_what_did_not_passes() {
    let place = Place::new();
    set(&place, "base.swkset", &head("work"), 8, 500);
    set(&place, "new.swkset", &head("work"), 8, 700);
    assert_compared(
        &place,
        &[],
        1,
        "REGRESSION: second [kernel, TASK stack] costs 13.",
    );
    // Its share grew by 8 points of 33.
    assert_compared(&place, &["--threshold", "60%"], 0, "no regression");
    set(&place, "new.swkset", &head("work"), 8, 500);
    assert_compared(&place, &[], 0, "no regression");
    set(&place, "new.swkset", &head("work"), 8, 300);
    assert_compared(&place, &[], 0, "no regression: second");
    assert_compared(&place, &["--fail-on", "any"], 1, "CHANGED: second");
}

#[test]
fn every_form_is_written_over_that_of_the_job_before() {
    let place = Place::new();
    set(&place, "base.swkset", &head("work"), 8, 500);
    set(&place, "new.swkset", &head("work"), 8, 700);
    let names = [
        "a.html", "a.json", "a.md", "a.sarif", "a.svg", "a.txt", "a.xml",
    ];
    let options: Vec<&str> = names.iter().flat_map(|name| ["-o", name]).collect();
    for _ in 0..2 {
        assert_compared(&place, &options, 1, "wrote    a.sarif");
    }
    for name in names {
        let content = fs::read_to_string(place.path(name)).unwrap();
        assert!(content.contains("second"), "{name}: {content}");
    }
    // Where nothing can be said that is said everywhere.
    set(&place, "new.swkset", &head("other"), 8, 700);
    assert_compared(&place, &options, 2, "`a.svg` was not written");
    for name in ["a.html", "a.json", "a.md", "a.sarif", "a.txt", "a.xml"] {
        let content = fs::read_to_string(place.path(name)).unwrap();
        assert!(content.contains("different workloads"), "{name}: {content}");
    }
    place
        .run(&["ci", "compare", "base.swkset", "new.swkset", "-o", "a.pdf"])
        .assert_is_error("a.pdf", ".html");
}

#[test]
fn sets_that_cannot_be_judged() {
    let place = Place::new();
    set(&place, "base.swkset", &head("work"), 8, 500);
    let cannot = |what: &str| assert_compared(&place, &[], 2, &format!("CANNOT JUDGE: {what}"));
    set(&place, "new.swkset", &head("other work"), 8, 500);
    cannot("the sets are of different workloads, `work` and `other work`");
    set(&place, "new.swkset", &head("work"), 1, 500);
    cannot("8 and 1 runs are too few");
    set(&place, "new.swkset", &head("work"), 0, 500);
    cannot("8 and 0 runs are too few");
    set_of(&place, "new.swkset", &head("work"), 8, |_| {
        recording(["first", "second"], [0, 0])
    });
    cannot("run 1 of the second set has no samples");
    set_of(&place, "new.swkset", &head("work"), 8, |_| {
        recording(["", ""], [1000, 500])
    });
    cannot("100 % of the second set is in functions of the kernel without a name");
    set(&place, "base.swkset", &head("failing"), 8, 500);
    set(&place, "new.swkset", &head("failing"), 8, 500);
    cannot("run 2 of the first set failed with status 1");
    let mut other = head("failing");
    other.facts.add("governor", Some("powersave".to_owned()));
    let mut base = other.clone();
    base.workload = "work".to_owned();
    other.workload = "work".to_owned();
    other.facts.add("governor", Some("performance".to_owned()));
    set(&place, "base.swkset", &base, 8, 500);
    set(&place, "new.swkset", &other, 8, 500);
    cannot("governor differs: `powersave` and `performance`");
    assert_compared(
        &place,
        &["--allow-env-change"],
        0,
        "governor: powersave before",
    );
}

#[test]
fn files_that_are_no_sets() {
    let place = Place::new();
    set(&place, "base.swkset", &head("work"), 8, 500);
    let whole = fs::read(place.path("base.swkset")).unwrap();
    let refused = |what: &str| {
        let run = place.run(&["ci", "compare", "base.swkset", "new.swkset"]);
        run.assert_is_error(what, "new.swkset");
    };
    refused("No such file");
    for cut in [0, 100, 512, 5000, whole.len() / 2, whole.len() - 3000] {
        fs::write(place.path("new.swkset"), &whole[..cut]).unwrap();
        refused("it is cut off, or no set");
    }
    fs::write(place.path("new.swkset"), b"\x89SWK\r\n\x1a\nnot a tar file").unwrap();
    refused("it is cut off, or no set");
    // A byte of the first recording.
    let mut damaged = whole.clone();
    damaged[512 + 200] ^= 1;
    fs::write(place.path("new.swkset"), &damaged).unwrap();
    refused("run 1");
    fs::create_dir(place.path("folder.swkset")).unwrap();
    let run = place.run(&["ci", "compare", "base.swkset", "folder.swkset"]);
    run.assert_is_error("not a regular file", "folder.swkset");
}

#[test]
fn thresholds_that_make_no_sense() {
    let place = Place::new();
    for (option, value) in [
        ("--threshold", "0"),
        ("--threshold", "-5%"),
        ("--threshold", "100%"),
        ("--min-effect", "0.001%"),
        ("--alpha", "1"),
        ("--alpha", "nan"),
        ("--max-lost", "x"),
        ("--fail-on", "never"),
    ] {
        let run = place.run(&["ci", "compare", "a", "b", option, value]);
        run.assert_is_error(option, value);
    }
    for (option, value) in [("--runs", "0"), ("--runs", "5000"), ("--work-unit", "(")] {
        let run = place.run(&["ci", "record", option, value, "--", "true"]);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(run.stderr.contains(option), "{run:?}");
    }
}

#[test]
fn a_commit_that_cannot_be_judged_is_skipped_by_a_bisection() {
    let place = Place::new();
    let run = place.run(&["ci", "bisect", "none.swkset", "--", "true"]);
    assert_eq!(run.status.code(), Some(125), "{run:?}");
    assert!(run.stderr.contains("none.swkset"), "{run:?}");
}

#[test]
fn a_series_shows_since_when() {
    let place = Place::new();
    fs::create_dir(place.path("sets")).unwrap();
    place
        .run(&["ci", "trend", "sets"])
        .assert_is_error("has 0 sets", "ci record");
    for (number, second) in [500, 500, 500, 700, 700, 700].into_iter().enumerate() {
        let head = SetHead {
            began: number as u64,
            ..head("work")
        };
        // Not in the order of their names.
        let name = format!("sets/{}-commit.swkset", 9 - number);
        set(&place, &name, &head, 8, second);
    }
    let run = place.run(&["ci", "trend", "sets", "-o", "trend.html"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let line = run
        .stdout
        .lines()
        .find(|line| line.ends_with("second [TASK]"));
    assert!(line.unwrap().starts_with("6-commit"), "{run:?}");
    let page = fs::read_to_string(place.path("trend.html")).unwrap();
    assert!(
        page.contains("since 6-commit") && page.contains("<svg"),
        "{page}"
    );
    let head = SetHead {
        began: 99,
        ..head("other")
    };
    set(&place, "sets/last.swkset", &head, 8, 500);
    let run = place.run(&["ci", "trend", "sets"]);
    run.assert_is_error("`last` does not follow `4-commit`", "different workloads");
}
