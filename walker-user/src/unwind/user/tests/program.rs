//! Compiles and runs the C programs of these tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::process::Process;

const SOURCES: [(&str, &str); 7] = [
    ("dump.h", include_str!("programs/dump.h")),
    ("chain.c", include_str!("programs/chain.c")),
    ("signals.c", include_str!("programs/signals.c")),
    ("step.c", include_str!("programs/step.c")),
    ("vdso.c", include_str!("programs/vdso.c")),
    ("bad_call.c", include_str!("programs/bad_call.c")),
    ("exceptions.cc", include_str!("programs/exceptions.cc")),
];

/// A program that was compiled, in a directory of its own.
pub(super) struct Program {
    _directory: TempDir,
    path: PathBuf,
}

impl Program {
    /// Compiles one of the sources with `compiler` and these options.
    pub(super) fn build(compiler: &str, source: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in SOURCES {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let path = directory.path().join("program");
        let output = Command::new(compiler)
            .args(options)
            .args(["-o", "program", source])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{compiler} {options:?} {source}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self {
            _directory: directory,
            path,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it and reads what it printed.
    pub(super) fn run(&self, arguments: &[&str]) -> Process {
        let output = Command::new(&self.path).args(arguments).output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        Process::parse(&String::from_utf8(output.stdout).unwrap())
    }
}

/// Compiles and runs a C program.
pub(super) fn run(source: &str, options: &[&str], arguments: &[&str]) -> Process {
    Program::build("gcc", source, options).run(arguments)
}
