//! `stackwalk ci bisect`: records and compares in one step, with the exit status that `git bisect run`
//! asks for.

use std::{io, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{
    gate_args::{GateArgs, open},
    record::{RunsArgs, run_all},
};
use crate::{
    ci::set::Set,
    cli::run::complain,
    output::gate::{Verdict, text},
};

/// What `git bisect run` takes for: this commit cannot be tested.
const SKIP: u8 = 125;

#[derive(Debug, Args)]
pub(in crate::cli) struct BisectArgs {
    /// The set of a good commit
    #[arg(value_name = "GOOD")]
    good: PathBuf,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Whatever goes wrong, this commit is neither good nor bad.
pub(super) fn bisect(args: &BisectArgs) -> ExitCode {
    ExitCode::from(judge(args).unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        SKIP
    }))
}

fn judge(args: &BisectArgs) -> anyhow::Result<u8> {
    let good = open(&args.good)?;
    let now = Set::open(run_all(&args.runs)?)?;
    let names = [args.good.display().to_string(), "now".to_owned()];
    let report = args.gate.judge([&good, &now], names, None)?;
    text::write(&report, false, None, &mut io::stdout().lock())?;
    Ok(match report.verdict() {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::CannotJudge => SKIP,
    })
}
