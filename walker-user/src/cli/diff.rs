//! `stackwalk diff`: what changed from one recording to another.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};

use super::{
    filter_args::FilterArgs,
    format::Format,
    input::{self, SymbolArgs},
    output_file::{Destination, Readers},
    pager::PagerArgs,
    report::SortBy,
    run::complain,
};
use crate::output::{
    diff::{self, Compared, Diff, Measure, svg::Widths},
    folded, svg,
};

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The recording to compare with
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The recording that is compared
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    #[command(flatten)]
    symbols: SymbolArgs,
    /// Compare what a second of each recording had, instead of shares
    #[arg(long)]
    absolute: bool,
    /// Which changes come first
    #[arg(long, value_name = "WEIGHT", default_value = "self")]
    sort: SortBy,
    /// Show no more functions than this
    #[arg(long, value_name = "ROWS", default_value = "50")]
    limit: usize,
    /// Write one JSON object (docs/report-json.md) instead of a table
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Write a flame graph of the changes (.svg) or stacks with two counts (.folded) instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is not stackwalk's own
    #[arg(long)]
    force: bool,
    /// Which recording the frames of the flame graph are as wide as
    #[arg(long, value_name = "RECORDING", default_value = "after")]
    widths: WidthsOf,
    /// Do not show stack boundaries ([IRQ], [NMI], …) as frames
    #[arg(long)]
    no_stack_markers: bool,
    #[command(flatten)]
    pager: PagerArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// A recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WidthsOf {
    /// The first; shows what is gone
    Before,
    /// The second; shows what is new
    After,
}

pub(super) fn diff(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let output = match &args.output {
        Some(path) => Some((
            form(path)?,
            Destination::open(path, args.force, Readers::All)?,
        )),
        None => None,
    };
    let filter = args.filter.filter();
    let before = input::load(&args.before, &args.symbols)?;
    let after = input::load(&args.after, &args.symbols)?;
    // What only one of them has is a change like any other.
    filter.check(&before).or_else(|_| filter.check(&after))?;
    let (before, after) = (filter.leave(before), filter.leave(after));
    let measure = match args.absolute {
        true => Measure::PerSecond,
        false => Measure::Share,
    };
    let [before, after] = [&before, &after].map(|timeline| Compared {
        profile: &timeline.profile,
        duration: filter.duration(timeline),
    });
    let diff = Diff::new(before, after, measure)?;
    match output {
        Some((form, destination)) => write(args, &diff, form, destination)?,
        None => args.pager.show(|width, mut out| {
            let options = diff::Options {
                sort: args.sort.into(),
                limit: Some(args.limit),
                width,
            };
            match args.json {
                true => diff::write_json(&diff, &options, &mut out),
                false => diff::write(&diff, &options, &mut out),
            }
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The form a comparison is to be written in.
#[derive(Debug, Clone, Copy)]
enum Form {
    Svg,
    Folded,
}

fn form(path: &Path) -> anyhow::Result<Form> {
    match Format::of(path) {
        Some(Format::Svg) => Ok(Form::Svg),
        Some(Format::Folded) => Ok(Form::Folded),
        None if path == Path::new("-") => Ok(Form::Folded),
        _ => anyhow::bail!(
            "a comparison cannot be written as `{}`: name it .svg (flame graph) or .folded (stacks \
             with two counts)",
            path.display()
        ),
    }
}

fn write(args: &DiffArgs, diff: &Diff, form: Form, destination: Destination) -> anyhow::Result<()> {
    let markers = !args.no_stack_markers;
    let path = destination.path().to_owned();
    if let Form::Folded = form {
        destination.write(|out| diff::folded::write(diff, &folded::Options { markers }, out))?;
    } else {
        let widths = match args.widths {
            WidthsOf::Before => Widths::Before,
            WidthsOf::After => Widths::After,
        };
        let options = svg::Options {
            markers,
            ..svg::Options::default()
        };
        destination.write(|out| diff::svg::write(diff, widths, &options, out))?;
    }
    if path.as_os_str() != "-" {
        complain(&format!("wrote    {}", path.display()));
    }
    Ok(())
}
