//! Mistakes that only the kernel or a privileged run finds. The others are in `tests/cli.rs`.

use std::os::unix::process::CommandExt as _;

use crate::{
    Test,
    support::{Place, Running},
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(without_privilege_it_says_what_to_do),
    test!(a_frequency_above_the_limit_of_the_kernel),
    test!(a_command_that_is_not_there),
    test!(an_image_without_unwind_tables),
];

/// Who has no rights.
const NOBODY: u32 = 65534;

fn without_privilege_it_says_what_to_do() {
    let pid = std::process::id().to_string();
    for arguments in [
        &["record", "-a", "-d", "1"][..],
        &["record", "-p", &pid, "-o", "run.txt"],
        &["record", "--", "touch", "ran"],
        &["verify", "-a", "-d", "1", "--json"],
    ] {
        let place = Place::new();
        let (mut command, _binary) = place.stackwalk_of_all(arguments);
        command.uid(NOBODY).gid(NOBODY);
        let run = Running::start(&mut command).wait();
        run.assert_is_error("sudo", "setcap");
        assert_eq!(place.files(), [""; 0], "{arguments:?}");
    }
    // This one needs less, but without any privilege it works no better.
    let place = Place::new();
    let (mut command, _binary) = place.stackwalk_of_all(&["stacks"]);
    command.uid(NOBODY).gid(NOBODY);
    let run = Running::start(&mut command).wait();
    run.assert_is_error("sudo", "setcap");

    let (mut command, _binary) = place.stackwalk_of_all(&["doctor"]);
    command.uid(NOBODY).gid(NOBODY);
    let run = Running::start(&mut command).wait();
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(run.stdout.contains("sudo setcap"), "{run:?}");
}

fn a_frequency_above_the_limit_of_the_kernel() {
    for target in [&["-a"][..], &["--", "touch", "ran"]] {
        let place = Place::new();
        let arguments = [&["record", "-F", "1000000000"], target].concat();
        let run = place.run(&arguments);
        run.assert_is_error("more than the kernel allows", "lower -F to at most");
        assert_eq!(place.files(), [""; 0]);
    }
}

fn a_command_that_is_not_there() {
    let place = Place::new();
    let run = place.run(&["record", "--", "/no/such/cmd"]);
    run.assert_is_error("/no/such/cmd", "is it there and executable");
    assert_eq!(place.files(), [""; 0]);
    let run = place.run(&["record", "--", "/etc/passwd"]);
    run.assert_is_error("/etc/passwd", "is it there and executable");
    assert_eq!(place.files(), [""; 0]);
}

fn an_image_without_unwind_tables() {
    let place = Place::new();
    let image = std::env::current_exe().unwrap();
    let image = image.to_str().unwrap();
    let run = place.run(&["record", "-a", "-d", "1", "--vmlinux", image]);
    run.assert_is_error("unwind tables", "kernel image");
    assert_eq!(place.files(), [""; 0]);
}
