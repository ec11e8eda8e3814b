//! What the command line says to mistakes: one line that says what is wrong and what to do, status
//! 2, and nothing left behind.
//!
//! These tests need no privilege and work with it too: each mistake is found before anything is
//! asked of the kernel. Mistakes that only the kernel finds are among the live tests.

#![expect(
    clippy::unwrap_used,
    reason = "a failed call in the helpers of a test is a failed test"
)]

#[path = "cli/core.rs"]
mod core_dumps;
#[path = "cli/gate.rs"]
mod gate;
#[path = "cli/recordings.rs"]
mod recordings;
mod support;
#[path = "support/synthetic.rs"]
mod synthetic;

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
};

use support::{Place, Running};

/// Who has no rights.
const NOBODY: u32 = 65534;
const HELP: &str = "stackwalk --help";

/// The mistake is told well, and the folder is as empty as before.
fn assert_mistake(arguments: &[&str], what: &str, hint: &str) {
    let place = Place::new();
    place.run(arguments).assert_is_error(what, hint);
    assert_eq!(place.files(), [""; 0], "{arguments:?}");
}

/// As [`assert_mistake`], for an output in a folder with `run.svg` in it that may not be written.
/// Root may write everything, so somebody else tries it.
fn assert_unwritable(output: &str, what: &str, prepare: impl FnOnce(&Place)) {
    let place = Place::new();
    prepare(&place);
    let before = place.files();
    let (mut command, _binary) = place.stackwalk_of_all(&["record", "-a", "-o", output]);
    if walker_user::sys::privileges::effective_user() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let run = Running::start(&mut command).wait();
    run.assert_is_error(what, "-o FILE");
    assert!(!run.stderr.contains(".stackwalk-"), "{run:?}");
    assert_eq!(place.files(), before);
}

#[test]
fn ids_that_nobody_has() {
    // Above the largest ID there can be.
    for target in [["-p", "8388608"], ["-t", "8388608"], ["-p", "0"]] {
        for command in ["record", "verify"] {
            let [option, id] = target;
            assert_mistake(&[command, option, id], id, "ps -eLf");
        }
    }
}

#[test]
fn ids_that_are_none() {
    for id in ["abc", "", "1.5", "99999999999", "1,x"] {
        assert_mistake(&["record", "-p", id], "--pid", HELP);
        assert_mistake(&["record", "-t", id], "--tid", HELP);
    }
    assert_mistake(&["record", "-p", "-5"], "-5", HELP);
}

#[test]
fn a_thread_is_no_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: gettid has no preconditions.
        tell.send(unsafe { libc::gettid() }).unwrap();
        let _ended = ended.recv();
    });
    let tid = told.recv().unwrap().to_string();
    let pid = std::process::id();
    assert_mistake(&["record", "-p", &tid], &tid, &format!("-p {pid}"));
    drop(end);
    thread.join().unwrap();
}

#[test]
fn a_process_that_has_ended() {
    let mut child = Command::new("true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    assert_mistake(&["record", "-p", &pid], &pid, "has already ended");
    child.wait().unwrap();
}

#[test]
fn frequencies_that_are_none() {
    for frequency in ["0", "-1", "abc", "1.5", "", "99999999999999999999"] {
        for command in ["record", "verify"] {
            let given = format!("-F{frequency}");
            assert_mistake(&[command, "-a", &given], "--frequency", HELP);
        }
    }
}

#[test]
fn durations_that_are_none() {
    for duration in ["0", "-1", "-0.1", "abc", "nan", "inf", "1e300", "1s"] {
        for command in ["record", "verify"] {
            let given = format!("-d{duration}");
            assert_mistake(&[command, "-a", &given], "--duration", HELP);
        }
    }
}

#[test]
fn ring_sizes_that_are_none() {
    for size in ["0", "3", "1048577", "-4", "4k"] {
        let given = format!("--ring-size={size}");
        assert_mistake(&["record", "-a", &given], "--ring-size", HELP);
    }
}

#[test]
fn options_that_are_none() {
    assert_mistake(&["record", "-a", "--no-such-option"], "--no-such", HELP);
    assert_mistake(&["no-such-command"], "no-such-command", HELP);
    assert_mistake(&["record", "-a", "-d"], "--duration", HELP);
    assert_mistake(&["record", "-a", "-o", ""], "--output", HELP);
}

#[test]
fn no_target() {
    for command in ["record", "verify"] {
        assert_mistake(&[command], "nothing to sample", "-p PID, -t TID, -a");
    }
}

#[test]
fn two_kinds_of_target() {
    let mine = std::process::id().to_string();
    assert_mistake(&["record", "-a", "-p", &mine], "--all", HELP);
    assert_mistake(&["record", "-p", &mine, "-t", &mine], "--pid", HELP);
    assert_mistake(&["record", "-p", &mine, "--", "true"], "--pid", HELP);
    assert_mistake(&["verify", "-t", &mine, "--", "true"], "--tid", HELP);
}

#[test]
fn an_output_of_no_known_form() {
    for output in ["run.png", "run", "svg", ".svg"] {
        assert_mistake(&["record", "-a", "-o", output], "format", ".folded");
    }
}

#[test]
fn an_output_in_a_folder_that_is_not_there() {
    assert_unwritable("missing/run.svg", "No such file or directory", |_| {});
}

#[test]
fn an_output_that_is_a_folder() {
    assert_unwritable("run.svg", "is a directory", |place| {
        fs::create_dir(place.path("run.svg")).unwrap();
    });
}

#[test]
fn an_output_below_a_file() {
    assert_unwritable("file/run.svg", "Not a directory", |place| {
        fs::write(place.path("file"), "").unwrap();
    });
}

#[test]
fn an_output_that_is_read_only() {
    assert_unwritable("run.svg", "Permission denied", |place| {
        fs::write(place.path("run.svg"), "mine").unwrap();
        fs::set_permissions(place.path("run.svg"), fs::Permissions::from_mode(0o444)).unwrap();
    });
}

#[test]
fn an_output_in_a_folder_that_is_read_only() {
    assert_unwritable("folder/run.svg", "Permission denied", |place| {
        fs::create_dir(place.path("folder")).unwrap();
        fs::set_permissions(place.path("folder"), fs::Permissions::from_mode(0o555)).unwrap();
    });
}

#[test]
fn a_second_output_that_cannot_be_written_leaves_no_trace_of_the_first() {
    let outputs = ["record", "-a", "-o", "run.svg", "-o", "missing/run.txt"];
    assert_mistake(&outputs, "missing/run.txt", "-o FILE");
}

#[test]
fn a_command_is_not_run_if_something_else_is_wrong() {
    let outputs = ["record", "-o", "missing/run.svg", "--", "touch", "ran"];
    assert_mistake(&outputs, "missing/run.svg", "-o FILE");
}

#[test]
fn an_image_that_is_not_there() {
    let arguments = ["record", "-a", "--vmlinux", "missing"];
    assert_mistake(&arguments, "No such file or directory", "vmlinuz");
}

#[test]
fn an_image_that_is_no_kernel() {
    for content in [&b""[..], b"no kernel", b"\x7fELF", &[0; 5000]] {
        let place = Place::new();
        fs::write(place.path("image"), content).unwrap();
        let run = place.run(&["record", "-a", "--vmlinux", "image"]);
        run.assert_is_error("--vmlinux image", "vmlinuz");
        assert_eq!(place.files(), ["image"]);
    }
}

#[test]
fn help_has_examples() {
    let place = Place::new();
    for (arguments, expected) in [
        (&["--help"][..], "record"),
        (&["record", "--help"], "sudo stackwalk record -p 1234"),
        (&["verify", "--help"], "sudo stackwalk verify -a"),
    ] {
        let run = place.run(arguments);
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        assert!(run.stdout.contains(expected), "{run:?}");
        assert_eq!(run.stderr, "");
    }
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn the_version_is_that_of_the_package() {
    let run = Place::new().run(&["--version"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let version = concat!("stackwalk ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(run.stdout, version);
}

#[test]
fn nothing_typed_shows_the_commands() {
    let run = Place::new().run(&[]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(run.stderr.contains("Usage: stackwalk"), "{run:?}");
}
