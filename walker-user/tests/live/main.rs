//! Live tests: the running kernel is profiled, and what comes out is checked.
//!
//! They need root and a kernel that stackwalk supports. Each measures the whole machine, so they
//! run one after the other whatever is asked for. Without root every test is ignored, and says so.
//! In a guest of `cargo xtask guest` there are no compilers, so those that build the programs they
//! sample are ignored there; the tests of [`guest`] run nowhere else.
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
mod files;
mod guest;
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

/// Why a test is not run in a guest.
const BUILDS: &str = "builds the programs it samples, and guests have no compilers";

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
    let mut tests: Vec<(Test, Option<&str>)> = Vec::new();
    let mut add = |list: &[Test], ignored: Option<&'static str>| {
        tests.extend(list.iter().map(|test| (*test, ignored)));
    };
    let everywhere = [
        kernel::TESTS,
        counters::TESTS,
        walks::TESTS,
        processes::TESTS_OF_HELPERS,
        targets::TESTS,
        output::TESTS,
        lifecycle::TESTS,
        mistakes::TESTS,
        hotplug::TESTS,
    ];
    let of_built_programs = [
        user::TESTS,
        processes::TESTS,
        files::TESTS,
        containers::TESTS,
        sides::TESTS,
        side_band::TESTS,
    ];
    let ignored = guest::here().then_some(BUILDS);
    if guest::here() {
        add(guest::TESTS, None);
    }
    for list in everywhere {
        add(list, None);
    }
    for list in of_built_programs {
        add(list, ignored);
    }
    let trials = tests
        .into_iter()
        .map(|((name, test), ignored)| {
            let name = name.trim_start_matches("live::");
            Trial::ignorable_test(name, move || {
                Ok(match ignored {
                    _ if !root => Completion::ignored_with("needs root"),
                    Some(reason) => Completion::ignored_with(reason),
                    None => test(),
                })
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
