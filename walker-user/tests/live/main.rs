//! Live tests: the running kernel is profiled, and what comes out is checked.
//!
//! They need root and a kernel that stackwalk supports. Each measures the whole machine, so they
//! run one after the other whatever is asked for. Without root every test is ignored, and says so.
//!
//! A test gets its figures through the library ([`capture`]) and looks at what a user sees through
//! the built binary ([`support`]). What is sampled is made here: [`load`] keeps the machine busy
//! from threads of this process, [`helper`] is this program again as a process to be sampled.

#![expect(
    clippy::unwrap_used,
    reason = "a failed call in the helpers of a test is a failed test"
)]

mod capture;
mod containers;
mod corpus;
mod counters;
mod events;
mod files;
mod helper;
mod hotplug;
mod kernel;
mod lifecycle;
mod load;
mod mistakes;
mod output;
mod processes;
mod recorded;
mod side_band;
mod sides;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod user;
mod wait;
mod walks;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// A live test: it panics if something is wrong, and may find that this machine cannot do it.
type Test = (&'static str, fn() -> Completion);

/// One entry of a module's list of tests; the name is that of the function.
macro_rules! test {
    ($name:ident) => {
        (
            concat!(module_path!(), "::", stringify!($name)),
            (|| {
                $name();
                libtest_mimic::Completion::Completed
            }) as fn() -> libtest_mimic::Completion,
        )
    };
    (may be ignored: $name:ident) => {
        (
            concat!(module_path!(), "::", stringify!($name)),
            $name as fn() -> libtest_mimic::Completion,
        )
    };
}
use test;

fn main() -> ExitCode {
    if let Some(role) = helper::role() {
        helper::play(&role);
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("live tests: all are ignored, because they need root: run them with sudo");
    }
    let trials = [
        kernel::TESTS,
        counters::TESTS,
        walks::TESTS,
        events::TESTS,
        user::TESTS,
        processes::TESTS,
        files::TESTS,
        containers::TESTS,
        sides::TESTS,
        targets::TESTS,
        output::TESTS,
        lifecycle::TESTS,
        mistakes::TESTS,
        hotplug::TESTS,
        side_band::TESTS,
    ]
    .concat()
    .into_iter()
    .map(|(name, test)| {
        let name = name.trim_start_matches("live::");
        Trial::ignorable_test(name, move || {
            Ok(if root {
                test()
            } else {
                Completion::ignored_with("needs root")
            })
        })
    })
    .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
