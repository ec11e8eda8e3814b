//! Pages that `output::html` writes, in a real browser: what they show is compared with what the
//! profile says, and they are used with mouse and keyboard as people use them.
//!
//! Needs a headless Chromium (`chromium` of Debian). Without one every test is ignored, and says
//! so. [`chromium`] drives it, [`recordings`] makes what is shown.

#![expect(
    clippy::unwrap_used,
    reason = "a failed call in the helpers of a test is a failed test"
)]

mod chromium;
mod hostile;
mod large;
mod recordings;
mod usage;
mod views;

use std::{fs, path::PathBuf, process::ExitCode};

use libtest_mimic::{Arguments, Completion, Trial};
use tempfile::TempDir;
use walker_user::{output::html, profile::timeline::Timeline};

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

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let there = chromium::program().is_some();
    if !there {
        eprintln!("browser tests: all are ignored, because there is no chromium: install it");
    }
    let trials = [views::TESTS, usage::TESTS, hostile::TESTS, large::TESTS]
        .into_iter()
        .flatten()
        .map(|&(name, test)| {
            let name = name.trim_start_matches("browser::");
            Trial::ignorable_test(name, move || {
                if !there {
                    return Ok(Completion::ignored_with("needs chromium"));
                }
                test();
                Ok(Completion::Completed)
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
