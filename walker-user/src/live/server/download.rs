//! What is seen, as a file.

use std::{fmt, io};

use serde::Deserialize;

use crate::{
    live::{NotSingle, Window, hub::Live},
    output::{folded, html, pprof, svg},
    profile::{
        timeline::Timeline,
        view::{Processes, View},
    },
    recording,
};

/// What is asked for; see `docs/live-protocol.md`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    from: Option<u32>,
    to: Option<u32>,
    window: Option<String>,
    kernel: Option<u8>,
    user: Option<u8>,
    inlined: Option<u8>,
    markers: Option<u8>,
    apart: Option<u8>,
    processes: Option<String>,
}

impl Wanted {
    /// All samples of some slots.
    pub(super) fn slots(from: u32, to: u32) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            ..Self::default()
        }
    }

    fn window(&self) -> Window {
        match self.window.as_deref() {
            Some("start") => Window::Start,
            _ => Window::Slots(self.from.unwrap_or(0), self.to.unwrap_or(u32::MAX)),
        }
    }

    fn markers(&self) -> bool {
        self.markers != Some(0)
    }

    fn view(&self) -> View {
        let processes = self.processes.as_deref().and_then(Processes::parse);
        View {
            kernel: self.kernel != Some(0),
            user: self.user != Some(0),
            inlined: self.inlined != Some(0),
            apart: self.apart == Some(1),
            processes: processes.unwrap_or_default(),
        }
    }
}

/// What a format is called in HTTP; `None` if there is no such format.
pub(super) fn content_type(format: &str) -> Option<&'static str> {
    Some(match format {
        "svg" => "image/svg+xml",
        "folded" => "text/plain; charset=utf-8",
        "pb.gz" => "application/octet-stream",
        "html" => "text/html; charset=utf-8",
        "swk" => "application/octet-stream",
        _ => return None,
    })
}

/// Why there is no file.
#[derive(Debug)]
pub(super) enum Unmade {
    /// It could not be written, which nobody can do anything about.
    Io(io::Error),
    /// What is asked for cannot be had one by one.
    NotSingle(NotSingle),
}

impl From<io::Error> for Unmade {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Unmade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the file could not be made: {error}"),
            Self::NotSingle(NotSingle::TooOld) => f.write_str(
                "a recording has the time of every sample, and those of the first samples are not \
                 kept any more: choose a window of minutes, or the pprof format",
            ),
            Self::NotSingle(NotSingle::TooMany(samples)) => write!(
                f,
                "{samples} samples are too many for a recording of a live view: choose a shorter \
                 time, or the pprof format"
            ),
        }
    }
}

/// The file.
pub(super) fn make(live: &Live, format: &str, wanted: &Wanted) -> Result<Vec<u8>, Unmade> {
    if format == "swk" {
        // Whoever reads it can filter it.
        let (timeline, head) = live.samples(wanted.window()).map_err(Unmade::NotSingle)?;
        return Ok(recording::named::write(&timeline, head)?);
    }
    let mut out = Vec::new();
    let all = live.timeline(wanted.window());
    if format == "html" {
        // The page has the toggles itself.
        html::write(&all, &html::Options::default(), &mut out)?;
        return Ok(out);
    }
    let seen = Timeline {
        profile: wanted.view().of(&all.profile),
        ..all
    };
    let profile = &seen.profile;
    let markers = wanted.markers();
    match format {
        "svg" => {
            let options = svg::Options {
                markers,
                ..svg::Options::default()
            };
            svg::write(profile, &options, &mut out)?;
        }
        "folded" => folded::write(profile, &folded::Options { markers }, &mut out)?,
        _ => pprof::write(&seen, &pprof::Options { markers }, &mut out)?,
    }
    Ok(out)
}
