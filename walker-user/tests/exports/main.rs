//! What is written for other tools, read by those tools: `go tool pprof`, `stackcollapse-perf`
//! (inferno's) and the Firefox Profiler's command line. A test whose tool is not installed is
//! ignored, and says so. None needs a privilege.
//!
//! That no names and no shape of a profile make an invalid file is tested beside the writers.

#![expect(
    clippy::unwrap_used,
    reason = "a failed call in the helpers of a test is a failed test"
)]

mod firefox;
mod perf_script;
mod pprof;
mod speedscope;
mod timeline;
mod tool;

use std::{fs, process::ExitCode};

use libtest_mimic::{Arguments, Completion, Trial};
use tempfile::TempDir;
use walker_user::output;

/// A test: it panics if something is wrong, and may find that a tool is missing.
type Test = fn(&TempDir) -> Completion;

const TESTS: [(&str, Test); 5] = [
    (
        "perf_script::collapsed_it_is_what_folded_says",
        perf_script::collapsed,
    ),
    ("pprof::numbers_are_those_of_the_recording", pprof::numbers),
    ("pprof::stacks_are_shown_with_their_labels", pprof::stacks),
    (
        "firefox::threads_and_functions_are_found",
        firefox::threads_and_functions,
    ),
    (
        "speedscope::the_file_follows_the_schema",
        speedscope::follows_the_schema,
    ),
];

fn main() -> ExitCode {
    let trials = TESTS.map(|(name, test)| {
        Trial::ignorable_test(name, move || {
            let folder = tempfile::tempdir()?;
            write_all(&folder);
            Ok(test(&folder))
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

/// Writes the timeline in every format.
fn write_all(folder: &TempDir) {
    let timeline = timeline::timeline();
    let write = |name: &str, content: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        content(&mut bytes);
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    let folded = output::folded::Options::default();
    write("run.folded", &|out| {
        output::folded::write(&timeline.profile, &folded, out).unwrap();
    });
    write("run.perf", &|out| {
        output::perf_script::write(&timeline, &Default::default(), out).unwrap();
    });
    write("run.pb.gz", &|out| {
        output::pprof::write(&timeline, &Default::default(), out).unwrap();
    });
    write("run.firefox.json", &|out| {
        output::firefox::write(&timeline, &Default::default(), out).unwrap();
    });
    write("run.speedscope.json", &|out| {
        output::speedscope::write(&timeline, &Default::default(), out).unwrap();
    });
}
