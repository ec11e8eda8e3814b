//! Programs of others.

use std::{
    io::ErrorKind,
    process::{Command, Output},
};

/// What a program prints.
///
/// # Panics
///
/// If the program fails.
pub(crate) fn text(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

/// Whether a program is there: whether this can be started.
pub(crate) fn is_there(program: &str, argument: &str) -> bool {
    match Command::new(program).arg(argument).output() {
        Ok(output) => output.status.success(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("cannot start {program}: {error}"),
    }
}
