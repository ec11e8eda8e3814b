//! What is seen, as a file.

use std::io;

use serde::Deserialize;

use crate::{
    live::{Window, hub::Live},
    output::{folded, html, pprof, svg},
    profile::timeline::Timeline,
};

/// What is asked for; see `docs/live-protocol.md`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    from: Option<u32>,
    to: Option<u32>,
    window: Option<String>,
    markers: Option<u8>,
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

    /// What is seen of that.
    fn seen(&self, live: &Live) -> Timeline {
        live.timeline(self.window())
    }
}

/// What a format is called in HTTP; `None` if there is no such format.
pub(super) fn content_type(format: &str) -> Option<&'static str> {
    Some(match format {
        "svg" => "image/svg+xml",
        "folded" => "text/plain; charset=utf-8",
        "pb.gz" => "application/octet-stream",
        "html" => "text/html; charset=utf-8",
        _ => return None,
    })
}

/// The file.
pub(super) fn make(live: &Live, format: &str, wanted: &Wanted) -> io::Result<Vec<u8>> {
    let seen = wanted.seen(live);
    let profile = &seen.profile;
    let markers = wanted.markers();
    let mut out = Vec::new();
    match format {
        "svg" => {
            let options = svg::Options {
                markers,
                ..svg::Options::default()
            };
            svg::write(profile, &options, &mut out)?;
        }
        "folded" => folded::write(profile, &folded::Options { markers }, &mut out)?,
        "pb.gz" => {
            let options = pprof::Options { markers };
            pprof::write(&seen, &options, &mut out)?;
        }
        _ => html::write(&seen, &html::Options::default(), &mut out)?,
    }
    Ok(out)
}
