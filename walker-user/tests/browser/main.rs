//! Pages that `output::html` writes, and that of `stackwalk live`, in a real browser: what they show is compared with what the
//! profile says, and they are used with mouse and keyboard as people use them.
//!
//! Needs a headless Chromium (`chromium` of Debian), for the live page also root: its kernel functions
//! are those of the running kernel. What cannot be tested is ignored, and says so. [`chromium`] drives it, [`recordings`] makes what is shown, and [`served`] what the page of
//! `stackwalk live` is told.

#![expect(
    clippy::unwrap_used,
    reason = "a failed call in the helpers of a test is a failed test"
)]

mod chromium;
mod hostile;
mod large;
mod live;
mod recordings;
mod served;
mod usage;
mod views;

use std::{fs, path::PathBuf, process::ExitCode};

use libtest_mimic::{Arguments, Completion, Trial};
use tempfile::TempDir;
use walker_user::{output::html, profile::timeline::Timeline, sys::privileges::effective_user};

use chromium::Page;

/// A test: its name, and what it does.
type Test = (&'static str, fn());

/// One entry of a module's list of tests; the name is that of the function.
macro_rules! test {
    ($name:ident) => {
        (concat!(module_path!(), "::", stringify!($name)), $name)
    };
}
use test;

/// A page in a file.
struct Written {
    path: PathBuf,
    size: usize,
    _folder: TempDir,
}

/// Writes a recording as a page.
fn written(timeline: &Timeline) -> Written {
    let mut page = Vec::new();
    html::write(timeline, &html::Options::default(), &mut page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.html");
    fs::write(&path, &page).unwrap();
    Written {
        path,
        size: page.len(),
        _folder: folder,
    }
}

/// A recording as a page that is open.
fn opened(timeline: &Timeline) -> Page {
    let written = written(timeline);
    let mut page = Page::new();
    page.open(&written.path);
    page
}

/// What a test needs that is not there, if anything.
fn missing(test: &str) -> Option<&'static str> {
    let root = effective_user() == 0;
    if chromium::program().is_none() {
        return Some("needs chromium: install it");
    }
    // The names of the running kernel are those that the page is told.
    (test.starts_with("live::") && !root).then_some("needs root, to see the kernel's symbols")
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = [
        views::TESTS,
        usage::TESTS,
        hostile::TESTS,
        large::TESTS,
        live::TESTS,
    ]
    .into_iter()
    .flatten()
    .map(|&(name, test)| {
        let name = name.trim_start_matches("browser::");
        Trial::ignorable_test(name, move || {
            if let Some(missing) = missing(name) {
                eprintln!("{name} is ignored: {missing}");
                return Ok(Completion::ignored_with(missing));
            }
            test();
            Ok(Completion::Completed)
        })
    })
    .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
