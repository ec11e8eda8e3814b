//! Compiles and runs the C programs of these tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::process::Process;

const DUMP: &str = include_str!("programs/dump.h");

const SOURCES: [(&str, &str); 6] = [
    ("chain.c", include_str!("programs/chain.c")),
    ("signals.c", include_str!("programs/signals.c")),
    ("step.c", include_str!("programs/step.c")),
    ("vdso.c", include_str!("programs/vdso.c")),
    ("bad_call.c", include_str!("programs/bad_call.c")),
    ("exceptions.cc", include_str!("programs/exceptions.cc")),
];

/// A program that was compiled, in a directory of its own.
pub(crate) struct Program {
    _directory: TempDir,
    path: PathBuf,
}

impl Program {
    /// Compiles one of the sources with `compiler` and these options.
    pub(crate) fn build(compiler: &str, source: &str, options: &[&str]) -> Self {
        let (name, text) = SOURCES.iter().find(|(name, _)| *name == source).unwrap();
        Self::build_text(compiler, name, text, options)
    }

    /// Compiles a source that may include `dump.h`. The suffix of its name tells the language.
    pub(crate) fn build_text(compiler: &str, name: &str, text: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("dump.h"), DUMP).unwrap();
        fs::write(directory.path().join(name), text).unwrap();
        let path = directory.path().join("program");
        let output = Command::new(compiler)
            .args(options)
            .args(["-o", "program", name])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{compiler} {options:?} {name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self {
            _directory: directory,
            path,
        }
    }

    /// The executable.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it and reads what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Process {
        let output = Command::new(&self.path).args(arguments).output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        Process::parse(&String::from_utf8(output.stdout).unwrap())
    }
}

/// Compiles and runs a C program.
pub(crate) fn run(source: &str, options: &[&str], arguments: &[&str]) -> Process {
    Program::build("gcc", source, options).run(arguments)
}
