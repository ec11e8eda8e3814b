//! What ends a recording, and with which status.

use std::{
    os::unix::process::CommandExt as _,
    process::Child,
    time::{Duration, Instant},
};

use crate::{
    Test,
    counters::Events,
    helper::{Copying, Programs, Role},
    support::{Place, Run, Running},
    test,
    wait::{until, until_sampling},
};

pub(crate) const TESTS: &[Test] = &[
    test!(the_end_of_the_process_ends_it),
    test!(a_process_that_nobody_collects_ends_it),
    test!(the_end_of_the_time_ends_it),
    test!(the_status_of_a_command_is_passed_on),
    test!(sigint_ends_it),
    test!(sigterm_ends_it),
    test!(a_closed_terminal_ends_it_with_names),
    test!(a_signal_ends_a_command_too),
    test!(an_interrupted_command_ends_in_its_own_time),
    test!(the_second_interrupt_ends_the_command),
    test!(a_command_has_the_limits_it_was_given),
    test!(a_limit_of_file_sizes_is_an_error),
    test!(a_signal_before_the_first_sample_leaves_nothing_behind),
];

/// The recording ended well and `run.folded` is all that it left.
fn assert_written(place: &Place, run: &Run, status: i32) {
    assert_eq!(run.status.code(), Some(status), "{run:?}");
    assert_eq!(place.files(), ["run.folded"], "{run:?}");
    assert!(run.stderr.contains("wrote    run.folded\n"), "{run:?}");
    Events::of(&run.stderr).assert_sum();
}

fn signal(child: &Child, signal: i32) {
    let pid = child.id().cast_signed();
    // SAFETY: the child has not been collected, so the ID is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn recording(place: &Place, target: &[&str]) -> Running {
    let arguments = [&["record", "-o", "run.folded"], target].concat();
    Running::start(&mut place.stackwalk(&arguments))
}

fn the_end_of_the_process_ends_it() {
    let mut target = Copying::start();
    let place = Place::new();
    let recording = recording(&place, &["-p", &target.0.id().to_string()]);
    until_sampling(recording.child.id());
    target.0.kill().unwrap();
    drop(target);
    let run = recording.wait();
    assert_written(&place, &run, 0);
    assert!(Events::of(&run.stderr).delivered > 0, "{run:?}");
}

fn a_process_that_nobody_collects_ends_it() {
    let mut target = Copying::start();
    let place = Place::new();
    let recording = recording(&place, &["-p", &target.0.id().to_string()]);
    until_sampling(recording.child.id());
    target.0.kill().unwrap();
    assert_written(&place, &recording.wait(), 0);
}

fn the_end_of_the_time_ends_it() {
    let target = Copying::start();
    let pid = target.0.id().to_string();
    let begin = Instant::now();
    let place = Place::new();
    let run = recording(&place, &["-p", &pid, "-d", "1"]).wait();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_written(&place, &run, 0);
    assert!(run.stderr.contains(" CPUs for 1."), "{run:?}");
}

fn the_status_of_a_command_is_passed_on() {
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
        let place = Place::new();
        let run = recording(&place, &["--", "sh", "-c", script]).wait();
        assert_written(&place, &run, status);
    }
}

fn assert_ends_it(number: i32) {
    let target = Copying::start();
    let place = Place::new();
    let recording = recording(&place, &["-p", &target.0.id().to_string()]);
    until_sampling(recording.child.id());
    signal(&recording.child, number);
    let run = recording.wait();
    assert_written(&place, &run, 0);
    assert!(Events::of(&run.stderr).delivered > 0, "{run:?}");
}

fn sigint_ends_it() {
    assert_ends_it(libc::SIGINT);
}

fn sigterm_ends_it() {
    assert_ends_it(libc::SIGTERM);
}

fn a_closed_terminal_ends_it_with_names() {
    let target = Copying::start();
    let place = Place::new();
    // Whatever started the tests may ignore it (`nohup`), and what they start would, too.
    // SAFETY: no handler is set, and no other thread sets one for this signal.
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
    let recording = recording(&place, &["-p", &target.0.id().to_string()]);
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGHUP, before) };
    until_sampling(recording.child.id());
    signal(&recording.child, libc::SIGHUP);
    let run = recording.wait();
    assert_written(&place, &run, 0);
    let folded = std::fs::read_to_string(place.path("run.folded")).unwrap();
    assert!(folded.contains("read"), "{folded}");
}

/// A command that runs until it gets SIGINT, and then does what `at_interrupt` says. It has said
/// `ready` when it would.
fn until_interrupted(place: &Place, at_interrupt: &str) -> Running {
    let script = format!("trap '{at_interrupt}' INT; echo ready; while :; do :; done");
    let arguments = ["record", "-o", "run.folded", "--", "sh", "-c", &script];
    // Not in the foreground of the terminal that the tests may have, where Ctrl-C reaches both.
    let recording = Running::start(place.stackwalk(&arguments).process_group(0));
    until_sampling(recording.child.id());
    until("the command is ready", || {
        recording.stdout().contains("ready\n")
    });
    recording
}

fn an_interrupted_command_ends_in_its_own_time() {
    let place = Place::new();
    let recording = until_interrupted(&place, "echo orderly; exit 3");
    signal(&recording.child, libc::SIGINT);
    let run = recording.wait();
    assert_written(&place, &run, 3);
    assert!(run.stdout.contains("orderly"), "{run:?}");
}

fn the_second_interrupt_ends_the_command() {
    let place = Place::new();
    let recording = until_interrupted(&place, "");
    signal(&recording.child, libc::SIGINT);
    until("the first was noticed", || {
        recording.stderr().contains("in its own time")
    });
    signal(&recording.child, libc::SIGINT);
    let run = recording.wait();
    assert_written(&place, &run, 0);
    assert!(!run.stderr.contains("goes on"), "{run:?}");
}

/// `stackwalk` with these arguments, started by a shell after `before`.
fn after(place: &Place, before: &str, arguments: &[&str]) -> Run {
    let stackwalk = place.stackwalk(arguments);
    let mut shell = std::process::Command::new("sh");
    shell
        .current_dir(place.path(""))
        .args(["-c", &format!("{before}; exec \"$@\""), "sh"])
        .arg(stackwalk.get_program())
        .args(stackwalk.get_args());
    Running::start(&mut shell).wait()
}

fn a_command_has_the_limits_it_was_given() {
    let place = Place::new();
    let script = "ulimit -Sn; grep SigIgn /proc/self/status";
    let arguments = ["record", "-o", "run.folded", "--", "sh", "-c", script];
    let run = after(&place, "ulimit -Sn 99", &arguments);
    let mut lines = run.stdout.lines();
    assert_eq!(lines.next(), Some("99"), "{run:?}");
    let ignored = lines.next().and_then(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    assert_eq!(ignored & 1 << (libc::SIGXFSZ - 1), 0, "{run:?}");
}

fn a_limit_of_file_sizes_is_an_error() {
    let place = Place::new();
    let arguments = ["record", "-o", "run.svg", "-d", "1", "-a"];
    // In blocks of 512 bytes.
    let run = after(&place, "ulimit -f 4", &arguments);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(run.stderr.contains("File too large"), "{run:?}");
    assert_eq!(place.files(), [""; 0], "{run:?}");
}

fn a_signal_ends_a_command_too() {
    let programs = Programs::new("swcommand");
    let [program, role] = programs.command_line("swcommand", Role::Spin(120_000));
    let place = Place::new();
    let recording = recording(&place, &["--", &program, &role]);
    until_sampling(recording.child.id());
    let pid = recording.child.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    signal(&recording.child, libc::SIGTERM);
    assert_written(&place, &recording.wait(), 0);
    for child in children.split_whitespace() {
        until("the command has ended", || {
            !std::path::Path::new(&format!("/proc/{child}/exe")).exists()
        });
    }
}

fn a_signal_before_the_first_sample_leaves_nothing_behind() {
    let place = Place::new();
    let recording = recording(&place, &["--", "touch", "ran"]);
    let status = format!("/proc/{}/status", recording.child.id());
    // The file it will write is there and signals are caught, but the kernel is still looked at.
    until("signals are caught", || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
        caught & 1 << (libc::SIGTERM - 1) != 0
    });
    signal(&recording.child, libc::SIGTERM);
    let run = recording.wait();
    run.assert_is_error("signal before the sampling", "nothing was written");
    assert_eq!(place.files(), [""; 0]);
}
