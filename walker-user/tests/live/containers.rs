//! Processes as in a container: with mounts and process IDs of their own, gone when their names
//! are needed.

use crate::{
    Test,
    corpus::Chains,
    recorded::{Recorded, build, record, record_within, text},
    support::Place,
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_program_that_is_only_seen_inside),
    test!(a_perf_map_in_a_folder_of_its_own),
    test!(a_perf_map_without_a_container),
    test!(the_recorder_itself_in_a_pid_namespace),
    test!(the_recorder_itself_in_a_time_namespace),
];

/// Records a program in namespaces of its own. `script` finds it in `$0`, and the empty folder
/// `inside`.
fn record_inside(place: &Place, program: &str, script: &str) -> Recorded {
    std::fs::create_dir(place.path("inside")).unwrap();
    let unshare = ["--", "unshare", "-m", "-p", "-f", "--mount-proc"];
    let shell = ["sh", "-e", "-c", script, program];
    let recorded = record(place, &[&unshare[..], &shell].concat());
    let left = std::fs::read_dir(place.path("inside")).unwrap().count();
    assert_eq!(left, 0, "the program was seen from outside");
    recorded
}

fn a_program_that_is_only_seen_inside() {
    let place = Place::new();
    let program = build(&place, "plain.c", "swplain", &[]);
    let recorded = record_inside(
        &place,
        text(&program),
        "mount -t tmpfs none inside; cp \"$0\" inside/swinside; cd inside; exec ./swinside",
    );
    recorded.assert_right("swinside", &Chains::of("plain.c"), 400);
}

fn a_perf_map_in_a_folder_of_its_own() {
    let place = Place::new();
    let program = build(&place, "blob.c", "swblob", &[]);
    // The shell is the first process there, and so is what it becomes.
    let outside = std::path::Path::new("/tmp/perf-1.map");
    assert!(!outside.exists(), "{} is in the way", outside.display());
    let recorded = record_inside(
        &place,
        text(&program),
        "mount -t tmpfs none inside; cp \"$0\" inside/swinside; mount --bind inside /tmp; exec /tmp/swinside",
    );
    recorded.assert_right("swinside", &Chains::of("blob.c"), 400);
}

fn a_perf_map_without_a_container() {
    let place = Place::new();
    let program = build(&place, "blob.c", "swblob", &[]);
    let recorded = record(&place, &["--", text(&program)]);
    recorded.assert_right("swblob", &Chains::of("blob.c"), 400);
}

fn the_recorder_itself_in_a_pid_namespace() {
    let place = Place::new();
    let program = build(&place, "plain.c", "swplain", &[]);
    let options = ["-m", "-p", "-f", "--mount-proc"];
    for everything in [&[][..], &["-a"]] {
        let arguments = [everything, &["--", text(&program)]].concat();
        let recorded = record_within(&place, &options, &arguments);
        recorded.assert_right("swplain", &Chains::of("plain.c"), 400);
    }
}

fn the_recorder_itself_in_a_time_namespace() {
    let place = Place::new();
    let program = build(&place, "plain.c", "swplain", &[]);
    for ahead in ["100000", "-1"] {
        let recorded = record_within(
            &place,
            &["-T", "-f", "--monotonic", ahead],
            &["-a", "--", text(&program)],
        );
        recorded.assert_right("swplain", &Chains::of("plain.c"), 400);
    }
}
