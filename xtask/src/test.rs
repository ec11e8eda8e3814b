//! `cargo xtask test`: every lint, check and test of the project, in one command.
//!
//! Says which steps there are and what each runs. How steps are shown is `report`'s business, how
//! the output of tests is read is `tally`'s.

use std::{
    io::{self, Write},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};

use crate::{
    build_ebpf::{self, Checked},
    guest::suite,
    live::{BROWSER, LIVE, TestTargets},
    process,
    report::{Outcome, Report, counts},
    tally::Tally,
    workspace::Workspace,
};

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Fail if a live test or one of a browser was skipped
    #[arg(long)]
    require_live: bool,
    /// Fail if the BPF object could not be compared with a fresh build
    #[arg(long)]
    require_rebuild: bool,
    /// Leave out formatting, clippy, documentation and licences
    #[arg(long)]
    skip_lints: bool,
    /// Which kernels to run the live tests on
    #[arg(long, value_enum, default_value_t = Kernels::Host)]
    kernels: Kernels,
}

/// Kernels to test on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kernels {
    /// The one that runs
    Host,
    /// That one, then Debian's 6.1 and 6.12 in emulated machines
    All,
}

/// Everything but the BPF programs, which run in no test of their own: the live tests load them.
const ALL_BUT_BPF: [&str; 4] = ["--locked", "--workspace", "--exclude", "walker-ebpf"];

/// The BPF crate on the host. Without the standard library it has no unwinding, so it needs a
/// profile that aborts; its own does.
const BPF_ON_HOST: [&str; 5] = ["--locked", "--profile", "bpf", "--package", "walker-ebpf"];

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> anyhow::Result<ExitCode> {
    // One look at the targets, before the first step: everything below is about the same tree.
    let targets = TestTargets::of(workspace)?;
    let mut report = Report::default();
    if !args.skip_lints {
        lints(workspace, &mut report);
    }
    report.step("BPF object", || bpf_object(workspace, args.require_rebuild));

    let mut total = Tally::default();
    report.step("tests", || {
        tests(
            &mut tests_command(workspace, &targets),
            &mut io::stdout(),
            &mut total,
        )
    });
    report.step("doc tests", || {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--doc"]).args(ALL_BUT_BPF);
        tests(&mut cargo, &mut io::stdout(), &mut total)
    });
    let mut browser = Tally::default();
    report.step("browser tests", || {
        let there = targets.browser;
        tests_apart(workspace, BROWSER, there, args.require_live, &mut browser)
    });
    total.add(&browser);
    let mut live = Tally::default();
    report.step("live tests", || {
        tests_apart(workspace, LIVE, targets.live, args.require_live, &mut live)
    });
    total.add(&live);
    let mut guests = Vec::new();
    if args.kernels == Kernels::All {
        for (kernel, step) in suite::KERNELS {
            let mut guest = Tally::default();
            report.step(step, || suite::live_tests(workspace, kernel, &mut guest));
            guests.push((kernel, guest));
        }
    }

    report.print_table();
    println!("{}", apart_line(BROWSER, &browser));
    println!("{}", apart_line(LIVE, &live));
    for (kernel, guest) in guests {
        println!("{}", guest_line(kernel, &guest));
        total.add(&Tally {
            skipped: 0,
            ..guest
        });
    }
    // The very last line: whoever runs this reads it.
    println!("{}", counts(&total));
    Ok(if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn lints(workspace: &Workspace, report: &mut Report) {
    report.step("formatting", || {
        let mut cargo = workspace.cargo();
        cargo.args(["fmt", "--all", "--check"]);
        process::stream(&mut cargo)
            .context("run `cargo fmt --all`")
            .into()
    });
    report.step("clippy", || {
        let clippy = |features: &[&str]| {
            let mut cargo = workspace.cargo();
            cargo
                .args(["clippy", "--all-targets"])
                .args(ALL_BUT_BPF)
                .args(features)
                .args(DENY_WARNINGS);
            process::stream(&mut cargo)
        };
        both(clippy(&[]), clippy(&["--all-features"])).into()
    });
    report.step("clippy, BPF programs", || {
        let clippy = |features: &[&str]| {
            let mut cargo = workspace.cargo();
            cargo
                .args(["clippy", "--all-targets"])
                .args(BPF_ON_HOST)
                .args(features)
                .args(DENY_WARNINGS);
            process::stream(&mut cargo)
        };
        clippy(&[])
            .and_then(|()| clippy(&["--features", "log"]))
            .into()
    });
    report.step("documentation", || {
        let doc = |packages: &[&str]| {
            let mut cargo = workspace.cargo();
            cargo
                .env("RUSTDOCFLAGS", "-D warnings")
                .args(["doc", "--no-deps"])
                .args(packages);
            process::stream(&mut cargo)
        };
        both(doc(&ALL_BUT_BPF), doc(&BPF_ON_HOST)).into()
    });
    report.step("licences and sources", || deny(workspace));
}

/// The two results of a step that runs two programs, both whatever comes of the first.
fn both(first: anyhow::Result<()>, second: anyhow::Result<()>) -> anyhow::Result<()> {
    match (first, second) {
        (Err(first), Err(second)) => Err(anyhow!("{first:#}; {second:#}")),
        (first, second) => first.and(second),
    }
}

fn deny(workspace: &Workspace) -> Outcome {
    if process::output(workspace.cargo().args(["deny", "--version"])).is_err() {
        return Outcome::NotRun(
            "cargo-deny is not installed: `cargo install cargo-deny --locked`".to_owned(),
        );
    }
    let mut cargo = workspace.cargo();
    cargo
        .args(["deny", "--locked", "check", "--hide-inclusion-graph"])
        .args(["licenses", "bans", "sources"]);
    process::stream(&mut cargo).into()
}

fn bpf_object(workspace: &Workspace, require_rebuild: bool) -> Outcome {
    match build_ebpf::check(workspace, require_rebuild) {
        Ok(Checked::Rebuilt) => Outcome::Ok("a fresh build has the same bytes".to_owned()),
        Ok(Checked::HashesOnly(reason)) => {
            Outcome::Ok(format!("hashes only, NOT compared with a build: {reason}"))
        }
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// All tests that run in parallel and anywhere. Their targets are named one by one, because the
/// live tests and those of a browser must not be among them.
fn tests_command(workspace: &Workspace, targets: &TestTargets) -> Command {
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--no-fail-fast", "--lib", "--bins"])
        .args(ALL_BUT_BPF);
    for name in &targets.others {
        cargo.args(["--test", name]);
    }
    cargo
}

/// Runs test binaries and adds their counts.
fn tests(cargo: &mut Command, out: &mut dyn Write, total: &mut Tally) -> Outcome {
    let mut tally = Tally::default();
    let outcome = count(cargo, out, &mut tally);
    total.add(&tally);
    outcome
}

fn count(cargo: &mut Command, out: &mut dyn Write, tally: &mut Tally) -> Outcome {
    let status = match process::stream_lines(cargo, out, |line| tally.line(line)) {
        Ok(status) => status,
        Err(error) => {
            tally.failed += 1;
            return Outcome::Failed(format!("{error:#}"));
        }
    };
    if status.success() && tally.failed == 0 {
        return Outcome::Ok(format!("{}{}", counts(tally), reasons(tally)));
    }
    if tally.failed == 0 {
        // A binary that did not build, or that died before its closing line, is a failure that no
        // line counts.
        tally.failed += 1;
        return Outcome::Failed(format!(
            "{}: a test binary did not build or did not run to its end ({status})",
            counts(tally)
        ));
    }
    Outcome::Failed(counts(tally))
}

/// Runs a test target by itself. If it is `required`, a skipped test of it is a failure.
fn tests_apart(
    workspace: &Workspace,
    target: &str,
    there: bool,
    required: bool,
    tally: &mut Tally,
) -> Outcome {
    if !there {
        let reason = format!("the workspace has no test target `{target}`");
        return if required {
            Outcome::Failed(reason)
        } else {
            Outcome::NotRun(reason)
        };
    }
    let mut cargo = workspace.cargo();
    // The packages of the other tests, not just walker-user: its dependencies are then built with
    // the same features, once. One thread: each test measures the machine, or has a browser.
    cargo
        .args(["test", "--test", target])
        .args(ALL_BUT_BPF)
        .args(["--", "--test-threads=1"]);
    let outcome = count(&mut cargo, &mut io::stdout(), tally);
    if !required || matches!(outcome, Outcome::Failed(_)) {
        return outcome;
    }
    if tally.skipped > 0 {
        return Outcome::Failed(format!(
            "{}, and --require-live allows no skipped one{}",
            counts(tally),
            reasons(tally)
        ));
    }
    if tally.passed == 0 {
        return Outcome::Failed(format!(
            "no {target} test ran, and --require-live wants them"
        ));
    }
    outcome
}

fn apart_line(target: &str, tally: &Tally) -> String {
    format!(
        "{target} tests: {} ran, {} skipped{}",
        tally.passed + tally.failed,
        tally.skipped,
        reasons(tally)
    )
}

/// What is skipped in a guest is run on the host. So it is counted here alone, and is no failure
/// where all live tests are required.
fn guest_line(kernel: &str, tests: &Tally) -> String {
    format!(
        "live tests on {kernel}: {}{}",
        counts(tests),
        reasons(tests)
    )
}

/// Why tests were skipped, in brackets; nothing if none was.
fn reasons(tally: &Tally) -> String {
    if tally.skipped == 0 {
        return String::new();
    }
    if tally.reasons.is_empty() {
        return " (they do not say why)".to_owned();
    }
    let reasons: Vec<&str> = tally.reasons.iter().map(String::as_str).collect();
    format!(" ({})", reasons.join("; "))
}

#[cfg(test)]
#[path = "test_tests.rs"]
mod tests;
