//! `output::perf_script`, read by inferno's port of `stackcollapse-perf.pl`.

use std::{fs, process::Command};

use libtest_mimic::Completion;
use tempfile::TempDir;

use crate::tool;

const TOOL: &str = "inferno-collapse-perf";

/// The same stacks with the same counts come out as `folded` has, but for what one of the two does
/// not say: that a frame is the kernel's or in doubt, where a function without a name is, and what
/// comes after the opening parenthesis of a function's parameters.
pub(crate) fn collapsed(folder: &TempDir) -> Completion {
    if !tool::is_there(TOOL, "--help") {
        return Completion::ignored_with("needs inferno-collapse-perf: `cargo install inferno`");
    }
    let path = folder.path().join("run.perf");
    // A parenthesis or a space in the name of a file would end it.
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains(" main+0x10 (/usr/lib/gcc/cc1_[deleted])\n"),
        "{text}"
    );
    let read = tool::text(Command::new(TOOL).arg(path));
    let mut read: Vec<_> = read.lines().map(str::to_owned).collect();
    let folded = fs::read_to_string(folder.path().join("run.folded")).unwrap();
    let mut folded: Vec<_> = folded
        .lines()
        .map(|line| {
            line.replace("_[k]", "")
                .replace("?[", "[")
                .replace("libc.so.6+0x2010", "[libc.so.6]")
                .replace("(b)_c", "")
        })
        .collect();
    read.sort();
    folded.sort();
    assert_eq!(read, folded);
    assert_eq!(read.len(), 5);
    Completion::Completed
}
