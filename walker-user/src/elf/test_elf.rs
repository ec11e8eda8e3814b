//! Real ELF files for tests, made by the C compiler.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const PROGRAM: &str = "
    #include <stdio.h>
    __attribute__((noinline)) int twice(int x) { return printf(\"%d\", x) + x; }
    int main(int argc, char **argv) { return twice(argc); }
";

/// A folder of files that were compiled.
pub(crate) struct Compiled {
    folder: TempDir,
}

impl Compiled {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("program.c"), PROGRAM).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Compiles the program with these flags.
    pub(crate) fn gcc(&self, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.path(name);
        let source = self.path("program.c");
        run(Command::new("gcc")
            .args(flags)
            .arg("-o")
            .args([&path, &source]));
        path
    }

    /// Copies a file with `objcopy`.
    pub(crate) fn objcopy(&self, from: &Path, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.path(name);
        run(Command::new("objcopy").args(flags).args([from, &path]));
        path
    }

    /// A copy without section headers.
    pub(crate) fn without_sections(&self, from: &Path, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::copy(from, &path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        // e_shoff; then e_shentsize, e_shnum and e_shstrndx.
        file.write_all_at(&[0; 8], 40).unwrap();
        file.write_all_at(&[0; 6], 58).unwrap();
        path
    }

    /// The same of a 32-bit file.
    pub(crate) fn without_sections_32(&self, from: &Path, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::copy(from, &path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 4], 32).unwrap();
        file.write_all_at(&[0; 6], 46).unwrap();
        path
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// What `readelf` and the like say.
pub(crate) fn output(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The link-time address of a symbol, by `nm`.
pub(crate) fn symbol(file: &Path, name: &str) -> u64 {
    let symbols = output("nm", &[], file);
    let line = symbols
        .lines()
        .find(|line| line.ends_with(&format!(" {name}")));
    u64::from_str_radix(line.unwrap().split(' ').next().unwrap(), 16).unwrap()
}
