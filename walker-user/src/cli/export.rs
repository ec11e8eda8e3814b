//! `stackwalk export`: a recording in one of the formats of [`crate::output`].
//!
//! What the formats are is said there; here is which one is meant and where it goes.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{filter_args::FilterArgs, format::Format, input::InputArgs, output_file::Destination};

/// What to write, and where.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    input: InputArgs,
    /// The format; by default the one that FILE is named for (.folded, .svg, .html, .txt, .perf,
    /// .pb.gz, .firefox.json, .speedscope.json, .json)
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where to write; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Write over a file that is not stackwalk's own
    #[arg(long)]
    force: bool,
    /// Do not show stack boundaries ([IRQ], [NMI], …) as frames
    #[arg(long)]
    no_stack_markers: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let format = match args.format {
        Some(format) => format,
        None if args.output == Path::new("-") => anyhow::bail!(
            "what format? give --format, or `-o FILE` with a name that says it, such as run.html"
        ),
        None => Format::wanted(&args.output)?,
    };
    // Whether it can be written is known before a long recording is read.
    let destination = Destination::open(&args.output, args.force, format.readers())?;
    anyhow::ensure!(
        format != Format::Pprof || !destination.is_terminal(),
        "pprof's format is binary, and this is a terminal: give `-o FILE`, such as `-o run.pb.gz`"
    );
    let timeline = args.filter.apply(args.input.load()?)?;
    destination.write(|out| format.write(&timeline, !args.no_stack_markers, out))?;
    Ok(ExitCode::SUCCESS)
}
