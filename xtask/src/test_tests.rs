use std::path::Path;

use super::*;

// The output of these programs goes nowhere: an xtask that runs this test would count it.

/// A program that prints these lines and ends with this code.
fn printing(text: &str, code: u8) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "printf '%s\\n' \"$1\"; exit $2", "sh", text])
        .arg(code.to_string());
    command
}

#[test]
fn the_counts_of_the_binaries_are_the_result() {
    let mut total = Tally::default();
    let outcome = tests(
        &mut printing(
            "test a ... ignored (needs Go)\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured",
            0,
        ),
        &mut io::sink(),
        &mut total,
    );
    let Outcome::Ok(note) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(note, "3 passed, 0 failed, 1 skipped (needs Go)");
    assert_eq!((total.passed, total.skipped), (3, 1));
}

#[test]
fn what_does_not_build_counts_as_failed() {
    let mut total = Tally::default();
    let outcome = tests(
        &mut printing("test result: ok. 3 passed; 0 failed; 0 ignored", 101),
        &mut io::sink(),
        &mut total,
    );
    assert!(matches!(outcome, Outcome::Failed(_)));
    assert_eq!((total.passed, total.failed), (3, 1));
}

#[test]
fn what_cannot_be_started_counts_as_failed() {
    let mut total = Tally::default();
    let outcome = tests(
        &mut Command::new("/nowhere/cargo"),
        &mut io::sink(),
        &mut total,
    );
    assert!(matches!(outcome, Outcome::Failed(reason) if reason.contains("/nowhere/cargo")));
    assert_eq!(total.failed, 1);
}

#[test]
fn failed_tests_are_counted_once() {
    let mut total = Tally::default();
    let outcome = tests(
        &mut printing("test result: FAILED. 3 passed; 2 failed; 0 ignored", 101),
        &mut io::sink(),
        &mut total,
    );
    assert!(matches!(outcome, Outcome::Failed(_)));
    assert_eq!(total.failed, 2);
}

#[test]
fn tests_that_are_missing_fail_only_where_they_are_required() {
    let workspace = Workspace::at(Path::new("/nowhere"));
    let mut live = Tally::default();
    assert!(matches!(
        tests_apart(&workspace, LIVE, false, true, &mut live),
        Outcome::Failed(_)
    ));
    assert!(matches!(
        tests_apart(&workspace, LIVE, false, false, &mut live),
        Outcome::NotRun(_)
    ));
}

#[test]
fn the_live_line_says_why_tests_were_skipped() {
    let mut live = Tally::default();
    assert_eq!(apart_line(LIVE, &live), "live tests: 0 ran, 0 skipped");
    live.line("test a ... ignored (needs root)");
    live.line("test b ... ignored (needs root)");
    live.line("test result: ok. 4 passed; 0 failed; 2 ignored; 0 measured");
    assert_eq!(
        apart_line(LIVE, &live),
        "live tests: 4 ran, 2 skipped (needs root)"
    );
}

#[test]
fn the_line_of_a_guest_has_its_own_counts() {
    let mut guest = Tally::default();
    guest.line("test a ... ignored (no compiler)");
    guest.line("test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured");
    assert_eq!(
        guest_line("6.1", &guest),
        "live tests on 6.1: 4 passed, 0 failed, 1 skipped (no compiler)"
    );
}

#[test]
fn the_tests_that_run_apart_are_not_among_the_others() {
    let workspace = Workspace::at(Path::new("/nowhere"));
    let targets = TestTargets {
        live: true,
        browser: true,
        others: vec!["cli".to_owned(), "golden".to_owned()],
    };
    let command = process::shown(&tests_command(&workspace, &targets));
    assert!(command.ends_with("--test cli --test golden"), "{command}");
}
