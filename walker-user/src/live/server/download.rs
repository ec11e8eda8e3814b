//! What is seen, as a file.

use std::io;

use serde::Deserialize;

use crate::{
    live::{Window, hub::Live},
    output::{folded, html, pprof, svg},
    profile::{
        timeline::Timeline,
        view::{Processes, View},
    },
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
        _ => return None,
    })
}

/// The file.
pub(super) fn make(live: &Live, format: &str, wanted: &Wanted) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let all = live.timeline(wanted.window());
    if format == "html" {
        // The page has the toggles itself.
        return html::write(&all, &html::Options::default(), &mut out).map(|()| out);
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
