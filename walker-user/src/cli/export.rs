//! `stackwalk export`: a recording in one of the formats of [`crate::output`].
//!
//! What the formats are is said there; here is which one is meant and where it goes.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};

use super::{input::InputArgs, output_file::Destination};
use crate::{
    output::{firefox, folded, json, perf_script, pprof, speedscope, svg, text},
    profile::timeline::Timeline,
};

/// What to write, and where.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    input: InputArgs,
    /// The format; by default the one that FILE is named for (.folded, .svg, .txt, .perf, .pb.gz,
    /// .firefox.json, .speedscope.json, .json)
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where to write; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// Do not show stack boundaries ([IRQ], [NMI], …) as frames
    #[arg(long)]
    no_stack_markers: bool,
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Flame-graph text
    Folded,
    /// An interactive flame graph
    Svg,
    /// Stacks as in a kernel oops
    Txt,
    /// Text as `perf script` prints it
    PerfScript,
    /// A gzipped profile.proto
    Pprof,
    /// A profile for the Firefox Profiler
    Firefox,
    /// A file for speedscope
    Speedscope,
    /// Everything, as JSON
    Json,
}

/// The formats by the ends of file names, the longer ends first.
const NAMES: [(&str, Format); 9] = [
    (".firefox.json", Format::Firefox),
    (".speedscope.json", Format::Speedscope),
    (".json", Format::Json),
    (".pb.gz", Format::Pprof),
    (".pprof", Format::Pprof),
    (".perf", Format::PerfScript),
    (".folded", Format::Folded),
    (".svg", Format::Svg),
    (".txt", Format::Txt),
];

impl Format {
    /// The format that a file name asks for.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy();
        let named = NAMES.iter().find(|(end, _)| name.ends_with(end));
        named.map(|(_, format)| *format)
    }

    /// Writes a recording in this format.
    fn write(self, timeline: &Timeline, markers: bool, out: &mut impl Write) -> io::Result<()> {
        let profile = &timeline.profile;
        match self {
            Self::Folded => folded::write(profile, &folded::Options { markers }, out),
            Self::Svg => {
                let options = svg::Options {
                    markers,
                    ..Default::default()
                };
                svg::write(profile, &options, out)
            }
            Self::Txt => text::write(profile, &text::Options::default(), out),
            Self::PerfScript => {
                perf_script::write(timeline, &perf_script::Options { markers }, out)
            }
            Self::Pprof => pprof::write(timeline, &pprof::Options { markers }, out),
            Self::Firefox => firefox::write(timeline, &firefox::Options { markers }, out),
            Self::Speedscope => speedscope::write(timeline, &speedscope::Options { markers }, out),
            Self::Json => json::write(timeline, &json::Options::default(), out),
        }
    }
}

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let Some(format) = args.format.or_else(|| Format::of(&args.output)) else {
        let names: Vec<_> = NAMES.iter().map(|(end, _)| *end).collect();
        anyhow::bail!(
            "cannot tell the format of `{}`: give --format, or a name that ends in {}",
            args.output.display(),
            names.join(", ")
        );
    };
    // Whether it can be written is known before a long recording is read.
    let destination = Destination::open_new(&args.output, args.force)?;
    anyhow::ensure!(
        format != Format::Pprof || !destination.is_terminal(),
        "pprof's format is binary, and this is a terminal: give `-o FILE`, such as `-o run.pb.gz`"
    );
    let timeline = args.input.load()?;
    destination.write(|out| format.write(&timeline, !args.no_stack_markers, out))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::ValueEnum as _;

    use super::{Format, NAMES};
    use crate::profile::fixture;

    #[test]
    fn the_longest_end_of_a_name_decides() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!(of("a/run.firefox.json"), Some(Format::Firefox));
        assert_eq!(of("run.speedscope.json"), Some(Format::Speedscope));
        assert_eq!(of("run.json"), Some(Format::Json));
        assert_eq!(of("run.pb.gz"), Some(Format::Pprof));
        assert_eq!(of("run.gz"), None);
        assert_eq!(of("-"), None);
        for format in Format::value_variants() {
            assert!(NAMES.iter().any(|(_, named)| named == format), "{format:?}");
        }
    }

    #[test]
    fn every_format_is_written_and_none_like_another() {
        let timeline = fixture::timeline();
        let mut seen = Vec::new();
        for format in Format::value_variants() {
            let mut out = Vec::new();
            format.write(&timeline, true, &mut out).unwrap();
            assert!(!out.is_empty() && !seen.contains(&out), "{format:?}");
            seen.push(out);
        }
    }
}
