//! `stackwalk report`: what was recorded, as tables and as a tree.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{filter_args::FilterArgs, input::InputArgs, pager::PagerArgs};
use crate::output::report::{self, Sort, irq, tree};

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    input: InputArgs,
    /// What a row is
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "function",
        conflicts_with = "tree"
    )]
    by: By,
    /// Which rows come first
    #[arg(long, value_name = "WEIGHT", conflicts_with = "tree")]
    sort: Option<SortBy>,
    /// Show no more rows than this
    #[arg(long, value_name = "ROWS", conflicts_with = "tree")]
    limit: Option<usize>,
    /// Write one JSON object (docs/report-json.md) instead of a table
    #[arg(long, conflicts_with = "tree")]
    json: bool,
    #[command(flatten)]
    pager: PagerArgs,
    #[command(flatten)]
    tree: TreeArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// How to show a tree.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tree")]
struct TreeArgs {
    /// Show who calls what, as a tree
    #[arg(long)]
    tree: bool,
    /// Show no more calls below a process than this
    #[arg(long, value_name = "CALLS", requires = "tree")]
    depth: Option<usize>,
    /// Leave out what has a smaller share, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0.5", requires = "tree",
        value_parser = parse_percent)]
    min_share: f64,
    /// Give every function a line, also if it only calls another one
    #[arg(long, requires = "tree")]
    no_fold: bool,
    /// Draw with ASCII characters
    #[arg(long, requires = "tree")]
    ascii: bool,
    /// Do not show stack boundaries ([IRQ], [NMI], …)
    #[arg(long, requires = "tree")]
    no_stack_markers: bool,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A function, by itself and with what it calls
    Function,
    /// A process
    Process,
    /// A thread
    Thread,
    /// A CPU
    Cpu,
    /// A kind of stack
    Stack,
    /// A program, library or kernel module
    Module,
    /// An event
    Event,
    /// An interrupt or softirq, its time, and whom it interrupted
    Irq,
}

/// What rows are in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SortBy {
    /// What a function weighs by itself
    #[value(name = "self")]
    Own,
    /// What it weighs with what it calls
    Total,
}

impl From<SortBy> for Sort {
    fn from(sort: SortBy) -> Self {
        match sort {
            SortBy::Own => Self::Own,
            SortBy::Total => Self::Total,
        }
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').parse().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "not a number of percent from 0 to 100".to_owned())
}

impl By {
    /// The rows of a table; interrupts have one of their own.
    const fn rows(self) -> Option<report::By> {
        Some(match self {
            Self::Function => report::By::Function,
            Self::Process => report::By::Process,
            Self::Thread => report::By::Thread,
            Self::Cpu => report::By::Cpu,
            Self::Stack => report::By::Stack,
            Self::Module => report::By::Module,
            Self::Event => report::By::Event,
            Self::Irq => return None,
        })
    }
}

pub(super) fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let has_order = matches!(args.by, By::Function | By::Stack | By::Module);
    anyhow::ensure!(
        args.sort.is_none() || has_order,
        "--sort is for --by function, stack and module: other rows have one weight"
    );
    let timeline = args.filter.apply(args.input.load()?)?;
    args.pager.show(|width, mut out| {
        if args.tree.tree {
            return tree::write(&timeline.profile, &args.tree.options(width), &mut out);
        }
        let Some(by) = args.by.rows() else {
            let options = irq::Options {
                limit: args.limit,
                width,
                ..irq::Options::default()
            };
            return match args.json {
                true => irq::write_json(&timeline, &options, &mut out),
                false => irq::write(&timeline, &options, &mut out),
            };
        };
        let options = report::Options {
            by,
            sort: args.sort.map(Sort::from).unwrap_or_default(),
            limit: args.limit,
            width,
        };
        match args.json {
            true => report::write_json(&timeline, &options, &mut out),
            false => report::write(&timeline, &options, &mut out),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

impl TreeArgs {
    const fn options(&self, width: Option<usize>) -> tree::Options {
        tree::Options {
            depth: self.depth,
            min_share: self.min_share,
            fold: !self.no_fold,
            ascii: self.ascii,
            markers: !self.no_stack_markers,
            width,
        }
    }
}
