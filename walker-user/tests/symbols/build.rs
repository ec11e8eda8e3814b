//! Makes files to read symbols from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A C program with a function inlined into another. `square` is on line 3, its call on line 5.
const PROGRAM: &str = "\
volatile int sink;
static inline __attribute__((always_inline)) int square(int x) {
    return x * sink;
}
__attribute__((noinline)) int outer(int x) { sink = x; return square(x) + 1; }
int main(void) { return outer(3); }
";

/// A folder that is removed at the end.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The C program, compiled with optimization, debug info and these arguments.
    pub(crate) fn program(&self, arguments: &[&str]) -> PathBuf {
        let source = self.write("program.c", PROGRAM);
        let program = self.path("program");
        let arguments = arguments.iter().map(Path::new);
        let given = [
            Path::new("-O2"),
            Path::new("-g"),
            Path::new("-o"),
            &program,
            &source,
        ];
        run(
            "gcc",
            &given.into_iter().chain(arguments).collect::<Vec<_>>(),
        );
        program
    }
}

/// Runs a tool that has to succeed, and gives back what it wrote.
pub(crate) fn run(tool: &str, arguments: &[&Path]) -> String {
    let output = Command::new(tool).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Start and size of a function by its name in the symbol table, mangled.
pub(crate) fn function(path: &Path, name: impl Fn(&str) -> bool) -> (u64, u64) {
    let listing = run("nm", &[Path::new("-S"), path]);
    let found = listing.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [start, size, _, symbol] = words[..] else {
            return None;
        };
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        name(symbol).then(|| (number(start), number(size)))
    });
    found.unwrap_or_else(|| panic!("{} has no such function", path.display()))
}

/// Every address in a function.
pub(crate) fn addresses(path: &Path, name: &str) -> Vec<u64> {
    let (start, size) = function(path, |symbol| symbol == name);
    (start..start + size).collect()
}
