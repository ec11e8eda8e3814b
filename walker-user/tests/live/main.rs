//! Live tests: the running kernel is profiled, and what comes out is checked.
//!
//! They need root and a kernel that stackwalk supports. Each measures the whole machine, so they
//! run one after the other whatever is asked for. Without root every test is ignored, and says so.
//! In a guest of `cargo xtask guest` those that need compilers are ignored, and those to which the
//! kernel makes no difference; the tests of [`guest`] run nowhere else.
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
mod gate;
mod guest;
mod helper;
mod hotplug;
mod kernel;
mod lifecycle;
mod live_always;
mod live_view;
mod load;
mod mistakes;
mod odd_stacks;
mod output;
mod processes;
mod recorded;
mod recordings;
mod side_band;
mod sides;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod user;
mod wait;
mod waits;
mod walks;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};
use walker_user::sys::privileges::effective_user;

/// A live test: it panics if something is wrong, and may find that this machine cannot do it.
type Test = (&'static str, fn() -> Completion);

/// Why some tests are not run in a guest.
const BUILDS: &str = "builds the programs it samples, and guests have no compilers";
/// Why others are not.
const SAME: &str = "does the same on every kernel, and takes long on an emulated CPU";

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
    let root = effective_user() == 0;
    if !root {
        eprintln!("live tests: all are ignored, because they need root: run them with sudo");
    }
    let in_guest = guest::here();
    // Each list with the reason why it is ignored in a guest.
    let lists = [
        (if in_guest { guest::TESTS } else { &[] }, None),
        (if in_guest { odd_stacks::TESTS } else { &[] }, None),
        (kernel::TESTS, None),
        (counters::TESTS, None),
        (walks::TESTS, None),
        (events::TESTS, None),
        (events::TESTS_OF_COUNTING, Some(SAME)),
        (waits::TESTS, Some(SAME)),
        (targets::TESTS, Some(SAME)),
        (mistakes::TESTS, Some(SAME)),
        (hotplug::TESTS, Some(SAME)),
        (output::TESTS, Some(SAME)),
        (lifecycle::TESTS, Some(SAME)),
        (live_always::TESTS, Some(SAME)),
        (recordings::TESTS, Some(SAME)),
        (processes::TESTS_OF_HELPERS, Some(SAME)),
        (processes::TESTS, Some(BUILDS)),
        (user::TESTS, Some(BUILDS)),
        (files::TESTS, Some(BUILDS)),
        (gate::TESTS_OF_PROGRAMS, Some(BUILDS)),
        (live_view::TESTS_OF_PROGRAMS, Some(BUILDS)),
        (live_always::TESTS_OF_PROGRAMS, Some(BUILDS)),
        (recordings::TESTS_OF_PROGRAMS, Some(BUILDS)),
        (containers::TESTS, Some(BUILDS)),
        (sides::TESTS, Some(BUILDS)),
        (side_band::TESTS, Some(BUILDS)),
    ];
    let trials = lists
        .into_iter()
        .flat_map(|(list, reason)| list.iter().map(move |test| (*test, reason)))
        .map(|((name, test), reason)| {
            let ignored = reason.filter(|_| in_guest);
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
