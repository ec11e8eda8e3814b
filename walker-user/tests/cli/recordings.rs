//! Commands that read a recording: what they say of files that are none, and that each shows one.

use std::{fs, process::Command};

use super::support::Place;

/// A small recording that is whole; see `recording::golden_tests`.
const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/recordings/version-1.swk"
);
/// The commands, with what they need besides.
const COMMANDS: [&[&str]; 5] = [
    &["report"],
    &["depth"],
    &["inspect"],
    &["replay"],
    &["export", "--format", "folded"],
];

fn assert_refused(name: &str, what: &str, prepare: impl Fn(&Place)) {
    for command in COMMANDS {
        let place = Place::new();
        prepare(&place);
        let run = place.run(&[command, &[name][..]].concat());
        run.assert_is_error(what, name);
    }
}

#[test]
fn files_that_are_no_recordings() {
    assert_refused("none.swk", "No such file", |_| {});
    assert_refused("folder.swk", "not a regular file", |place| {
        fs::create_dir(place.path("folder.swk")).unwrap();
    });
    // Nobody will ever write into it.
    assert_refused("pipe.swk", "not a regular file", |place| {
        let made = Command::new("mkfifo").arg(place.path("pipe.swk")).status();
        assert!(made.unwrap().success());
    });
    for (content, what) in [
        (&b""[..], "empty"),
        (b"PERFILE2........", "perf"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "ELF"),
        (b"main;a;b 3\n", "main;a;b"),
        (b"\x89SWK\r\n\x1a\n", "damaged"),
    ] {
        assert_refused("other.swk", what, |place| {
            fs::write(place.path("other.swk"), content).unwrap();
        });
    }
}

#[test]
fn what_is_left_of_a_recording_is_shown_and_the_rest_is_told() {
    let whole = fs::read(GOLDEN).unwrap();
    let place = Place::new();
    // Without its last chunk, and half of the one before.
    let cut = whole.len() - whole.len() / 5;
    fs::write(place.path("cut.swk"), &whole[..cut]).unwrap();
    let run = place.run(&["report", "cut.swk"]);
    assert!(run.status.success(), "{run:?}");
    assert!(run.stdout.contains("golden"), "{run:?}");
    assert!(run.stderr.contains("did not end properly"), "{run:?}");
}

#[test]
fn every_command_shows_a_recording() {
    let place = Place::new();
    fs::copy(GOLDEN, place.path("stackwalk.swk")).unwrap();
    for (arguments, what) in [
        (&["report"][..], "net_rx_action"),
        (&["report", "--by", "irq"], "net_rx_action"),
        (&["report", "--tree"], "golden"),
        (&["report", "--json"], "\"net_rx_action\""),
        (&["depth"], "IRQ stack of 16,384 bytes"),
        (&["inspect"], "cpu-clock at 997 Hz"),
        (&["diff", "stackwalk.swk", "stackwalk.swk"], "Before:"),
        (&["export", "--format", "folded"], "main;step"),
        (&["export", "--format", "perf-script"], "net_rx_action"),
        (&["export", "--format", "json"], "net_rx_action"),
        (&["export", "--format", "speedscope"], "speedscope"),
        (&["export", "--format", "html"], "<!DOCTYPE html>"),
    ] {
        let run = place.run(arguments);
        assert!(run.status.success(), "{arguments:?}: {run:?}");
        assert!(run.stdout.contains(what), "{arguments:?}: {run:?}");
    }
    // Its one record is made up.
    let run = place.run(&["inspect", "stackwalk.swk", "1"]);
    run.assert_is_error("no sample", "stackwalk.swk");
    let run = place.run(&["inspect", "stackwalk.swk", "2"]);
    run.assert_is_error("no sample 2", "it has 1");
}

#[test]
fn what_a_recording_lacks_is_told_with_what_it_has() {
    let place = Place::new();
    fs::copy(GOLDEN, place.path("stackwalk.swk")).unwrap();
    place
        .run(&["report", "--comm", "nobody"])
        .assert_is_error("nobody", "golden");
    place
        .run(&["report", "--grep", "("])
        .assert_is_error("(", "");
    place
        .run(&["export", "-o", "run.png"])
        .assert_is_error("run.png", ".html");
    fs::write(place.path("mine.folded"), "mine").unwrap();
    place
        .run(&["export", "-o", "mine.folded"])
        .assert_is_error("mine.folded", "--force");
    assert_eq!(fs::read(place.path("mine.folded")).unwrap(), b"mine");
}
