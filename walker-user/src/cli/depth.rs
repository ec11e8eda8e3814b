//! `stackwalk depth`: how much of the kernel's stacks was in use.

use std::process::ExitCode;

use clap::Args;

use super::{filter_args::FilterArgs, input::InputArgs, pager::PagerArgs};
use crate::output::depth;

#[derive(Debug, Args)]
pub(super) struct DepthArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Show no more call paths of each kind of stack than this
    #[arg(long, value_name = "PATHS", default_value = "10")]
    limit: usize,
    /// Write one JSON object (docs/report-json.md) instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pager: PagerArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(super) fn depth(args: &DepthArgs) -> anyhow::Result<ExitCode> {
    let timeline = args.filter.apply(args.input.load()?)?;
    args.pager.show(|width, mut out| {
        let options = depth::Options {
            limit: Some(args.limit),
            width,
        };
        match args.json {
            true => depth::write_json(&timeline, &options, &mut out),
            false => depth::write(&timeline, &options, &mut out),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
