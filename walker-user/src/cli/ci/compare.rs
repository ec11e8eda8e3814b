//! `stackwalk ci compare`: judges two sets, and says so in all the forms that are wanted.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::gate_args::{GateArgs, open};
use crate::{
    cli::{
        output_file::{Destination, Readers},
        pager::PagerArgs,
        run::complain,
    },
    output::gate::{
        Report, Verdict, html, json, junit, markdown,
        merged::{self, Merged},
        sarif, text,
    },
};

#[derive(Debug, Args)]
pub(in crate::cli) struct CompareArgs {
    /// The set to compare with
    #[arg(value_name = "BASE")]
    before: PathBuf,
    /// The set that is judged
    #[arg(value_name = "NEW")]
    after: PathBuf,
    #[command(flatten)]
    gate: GateArgs,
    /// Write one JSON object (docs/ci.md) instead of text
    #[arg(long)]
    json: bool,
    /// Show all that changed, not only the lines that matter most
    #[arg(long)]
    all: bool,
    /// Also write the verdict to a file; the form goes by the extension: .json, .xml (JUnit), .md (job
    /// summary), .sarif (code scanning), .html (page with a flame graph of what changed), .svg (flame
    /// graph alone), .txt. Can be given several times
    #[arg(short, long, value_name = "FILE")]
    output: Vec<PathBuf>,
    /// Write over files that are not stackwalk's own
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pager: PagerArgs,
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Junit,
    Markdown,
    Sarif,
    Html,
    Svg,
    Text,
}

impl Form {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        Ok(match extension {
            Some("json") => Self::Json,
            Some("xml") => Self::Junit,
            Some("md") => Self::Markdown,
            Some("sarif") => Self::Sarif,
            Some("html") => Self::Html,
            Some("svg") => Self::Svg,
            Some("txt") => Self::Text,
            _ => anyhow::bail!(
                "a verdict cannot be written as `{}`: name it .json, .xml (JUnit), .md, .sarif, .html, .svg \
                 or .txt",
                path.display()
            ),
        })
    }

    const fn is_drawn(self) -> bool {
        matches!(self, Self::Html | Self::Svg)
    }

    fn write(
        self,
        report: &Report<'_>,
        merged: [&Merged; 2],
        out: &mut impl Write,
    ) -> io::Result<()> {
        match self {
            Self::Json => json::write(report, out),
            Self::Junit => junit::write(report, out),
            Self::Markdown => markdown::write(report, out),
            Self::Sarif => sarif::write(report, out),
            Self::Html => html::write(report, merged, out),
            Self::Svg => merged::write(report, merged, out),
            Self::Text => {
                writeln!(out, "stackwalk ci compare")?;
                text::write(report, true, None, out)
            }
        }
    }
}

pub(super) fn compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let mut outputs = Vec::new();
    for path in &args.output {
        outputs.push((
            Form::of(path)?,
            Destination::open(path, args.force, Readers::All)?,
        ));
    }
    let sets = [open(&args.before)?, open(&args.after)?];
    let names = [&args.before, &args.after].map(|path| path.display().to_string());
    let mut both = [Merged::new(&names[0]), Merged::new(&names[1])];
    let drawn = outputs.iter().any(|(form, _)| form.is_drawn());
    let merged = drawn.then_some(&mut both);
    let report = args.gate.judge([&sets[0], &sets[1]], names, merged)?;
    args.pager.show(|width, mut out| match args.json {
        true => json::write(&report, &mut out),
        false => text::write(&report, args.all, width, &mut out),
    })?;
    for (form, destination) in outputs {
        let path = destination.path().display().to_string();
        if form == Form::Svg && report.outcome.is_err() {
            complain(&format!(
                "`{path}` was not written: there is nothing to draw"
            ));
            continue;
        }
        destination.write(|out| form.write(&report, [&both[0], &both[1]], out))?;
        complain(&format!("wrote    {path}"));
    }
    Ok(status(&report))
}

/// The exit status of a verdict.
fn status(report: &Report<'_>) -> ExitCode {
    ExitCode::from(match report.verdict() {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::CannotJudge => 2,
    })
}
