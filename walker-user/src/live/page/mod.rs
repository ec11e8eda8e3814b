//! The files of the live page. They are served as they are: ES modules, no build step.
//!
//! Those of the recorded page that it shares are in `output/html`.

/// The name and the text of each file.
pub(super) const FILES: &[(&str, &str)] = &[
    ("index.html", include_str!("index.html")),
    ("page.css", include_str!("../../output/html/page.css")),
];
