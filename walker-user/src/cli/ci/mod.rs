//! `stackwalk ci`: the gate that stops regressions. How it judges is in [`crate::ci`]; here is how runs
//! are made, and what becomes of a verdict.

mod bisect;
mod calibration;
mod compare;
mod gate_args;
mod heard;
mod record;
mod trend;

use std::process::ExitCode;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum CiCommand {
    /// Run a command several times, and record each run.
    #[command(after_help = "\
Exit status: 0 if all runs were recorded, 2 for an error, also if the command fails.

Examples:
  sudo stackwalk ci record -o new.swkset -- ./benchmark
  sudo stackwalk ci record -o new.swkset --runs 20 --warmup 2 -- make -C tests run
  sudo stackwalk ci record -o new.swkset --work-unit 'requests: (\\d+)' -- ./load --seconds 10")]
    Record(record::RecordArgs),
    /// Say what got slower from one set of runs to another, and how sure that is.
    #[command(after_help = "\
Exit status: 0 if nothing got slower, 1 if something did, 2 if it cannot be judged or for an error.

Examples:
  stackwalk ci compare base.swkset new.swkset
  stackwalk ci compare base.swkset new.swkset --kernel-only --threshold 3
  stackwalk ci compare base.swkset new.swkset -o gate.html -o junit.xml -o summary.md")]
    Compare(compare::CompareArgs),
    /// Record a command, and compare it with a set: for `git bisect run`.
    #[command(after_help = "\
Exit status: 0 if nothing got slower (good), 1 if something did (bad), 125 if it cannot be judged (skip).

Example:
  git bisect run sh -c 'make -j8 && sudo stackwalk ci bisect good.swkset -- ./benchmark'")]
    Bisect(bisect::BisectArgs),
    /// Find when functions changed in a series of sets.
    #[command(after_help = "\
DIR holds a set of each commit. They are in the order of when they were recorded.

Examples:
  stackwalk ci trend sets/
  stackwalk ci trend sets/ -o trend.html")]
    Trend(trend::TrendArgs),
}

pub(super) fn ci(command: &CiCommand) -> anyhow::Result<ExitCode> {
    match command {
        CiCommand::Record(args) => record::record(args),
        CiCommand::Compare(args) => compare::compare(args),
        CiCommand::Bisect(args) => Ok(bisect::bisect(args)),
        CiCommand::Trend(args) => trend::trend(args),
    }
}
