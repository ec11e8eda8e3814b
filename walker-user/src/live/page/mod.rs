//! The files of the live page. They are served as they are: ES modules, no build step.
//!
//! Those of the recorded page that it shares are in `output/html`.

use crate::output::html::{MODULES, STYLE};

/// The files that only the live page has.
const FILES: &[(&str, &str)] = &[
    ("index.html", include_str!("index.html")),
    ("live.css", include_str!("live.css")),
    ("js/compared.js", include_str!("js/compared.js")),
    ("js/live.js", include_str!("js/live.js")),
    ("js/live_app.js", include_str!("js/live_app.js")),
    ("js/live_model.js", include_str!("js/live_model.js")),
    ("js/live_strip.js", include_str!("js/live_strip.js")),
    ("js/place.js", include_str!("js/place.js")),
    ("js/rows.js", include_str!("js/rows.js")),
    ("js/stream.js", include_str!("js/stream.js")),
];

/// The text of a file, if there is one of this name.
pub(super) fn file(name: &str) -> Option<&'static str> {
    let shared = || {
        let module = name.strip_prefix("js/")?;
        MODULES.iter().find(|(file, _)| *file == module)
    };
    match name {
        "page.css" => Some(STYLE),
        _ => {
            let found = FILES.iter().find(|(file, _)| *file == name);
            found.or_else(shared).map(|(_, text)| *text)
        }
    }
}
