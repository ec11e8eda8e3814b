//! The formats a recording can be written in, and the names that ask for them. How they are written is
//! the business of [`crate::output`].

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Context as _;
use clap::ValueEnum;

use super::output_file::Readers;
use crate::{
    output::{
        firefox, folded, html, json,
        limit::{Limited, most_bytes},
        perf_script, pprof, speedscope, svg, text,
    },
    profile::timeline::Timeline,
};

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Flame-graph text
    Folded,
    /// An interactive flame graph
    Svg,
    /// A page with flame graphs, a time strip, search and inspector
    Html,
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
pub(super) const NAMES: [(&str, Format); 10] = [
    (".firefox.json", Format::Firefox),
    (".speedscope.json", Format::Speedscope),
    (".json", Format::Json),
    (".pb.gz", Format::Pprof),
    (".pprof", Format::Pprof),
    (".perf", Format::PerfScript),
    (".folded", Format::Folded),
    (".svg", Format::Svg),
    (".html", Format::Html),
    (".txt", Format::Txt),
];

impl Format {
    /// The format that a file name asks for.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy();
        // What has nothing before the end is a hidden file without one.
        let named = NAMES
            .iter()
            .find(|(end, _)| name.len() > end.len() && name.ends_with(end));
        named.map(|(_, format)| *format)
    }

    /// The format that a file name asks for, or what would be right.
    pub(super) fn wanted(path: &Path) -> anyhow::Result<Self> {
        Self::of(path).with_context(|| {
            let names: Vec<_> = NAMES.iter().map(|(end, _)| *end).collect();
            format!(
                "cannot tell the format of `{}` by its name, which has to end in {}",
                path.display(),
                names.join(", ")
            )
        })
    }

    /// Who may read a recording in this format.
    pub(super) const fn readers(self) -> Readers {
        match self {
            Self::Json | Self::Html | Self::Pprof | Self::PerfScript => Readers::Owner,
            Self::Folded | Self::Svg | Self::Txt | Self::Firefox | Self::Speedscope => Readers::All,
        }
    }

    /// Writes a recording in this format.
    pub(super) fn write(
        self,
        timeline: &Timeline,
        markers: bool,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let profile = &timeline.profile;
        let out = &mut Limited::new(out, most_bytes(timeline.points.len()));
        match self {
            Self::Folded => folded::write(profile, &folded::Options { markers }, out),
            Self::Svg => {
                let options = svg::Options {
                    markers,
                    ..Default::default()
                };
                svg::write(profile, &options, out)
            }
            Self::Html => html::write(timeline, &html::Options::default(), out),
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
        assert_eq!(of(".svg"), None);
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
