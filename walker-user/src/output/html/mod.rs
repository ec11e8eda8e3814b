//! A recording as one self-contained HTML file: flame graphs and flame charts on a canvas, a strip
//! of time to select a range from, search, and an inspector of frames.
//!
//! This module puts the page together: heading, style, script, and the data as one compressed
//! block of text (`data`). What is drawn and how is the script's business, `html/js`; it draws
//! what [`Profile::tree`](crate::profile::Profile::tree) would hold, from the same stacks.
//!
//! Names in a recording are hostile text. They reach the page in the heading, escaped, and in the
//! data, which is base64; the script puts them on the canvas and into text nodes only. A content
//! security policy with the hashes of the one style and the one script forbids everything else,
//! so that the page can neither load nor send anything.

mod columns;
mod data;
mod points;
pub(crate) mod tables;
mod trie;

use std::borrow::Cow;
use std::io::{self, Write};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest as _, Sha256};

use super::{escaped, printable, recording, sum, title, whereabouts};
use crate::profile::timeline::Timeline;

/// How to write a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The most samples that are kept one by one. Where a recording has more, those of one stack,
    /// thread and CPU are merged in slots of time, which the page says.
    pub max_points: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_points: 500_000,
        }
    }
}

/// The style of the page.
pub(crate) const STYLE: &str = include_str!("page.css");

/// The modules of the script, each after those that it imports.
pub(crate) const MODULES: [(&str, &str); 14] = [
    ("text.js", include_str!("js/text.js")),
    ("model.js", include_str!("js/model.js")),
    ("tree.js", include_str!("js/tree.js")),
    ("graph.js", include_str!("js/graph.js")),
    ("chart.js", include_str!("js/chart.js")),
    ("search.js", include_str!("js/search.js")),
    ("colours.js", include_str!("js/colours.js")),
    ("painter.js", include_str!("js/painter.js")),
    ("strip.js", include_str!("js/strip.js")),
    ("facts.js", include_str!("js/facts.js")),
    ("inspector.js", include_str!("js/inspector.js")),
    ("app.js", include_str!("js/app.js")),
    ("keys.js", include_str!("js/keys.js")),
    ("page.js", include_str!("js/page.js")),
];

/// Writes `timeline` as a page.
///
/// The same input makes the same bytes. Without samples one by one ([`Timeline::points`] is empty)
/// the page has no strip of time, and shows the stacks.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let profile = &timeline.profile;
    let (script, style) = (script(), STYLE);
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; \
         form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        source_hash(&script),
        source_hash(style),
    );
    let data = data::encode(timeline, options.max_points)?;
    fill(include_str!("page.html"), out, |name| match name {
        "policy" => policy.as_str().into(),
        "title" => escaped(printable(title(profile)).chars()).into(),
        "recording" => escaped(printable(&recording(profile)).chars()).into(),
        "whereabouts" => escaped(printable(&whereabouts(&profile.meta.totals)).chars()).into(),
        "lost" => match sum(&profile.meta.totals.lost) {
            0 => "".into(),
            _ => "lost".into(),
        },
        "style" => style.into(),
        "script" => script.as_str().into(),
        "data" => data.as_str().into(),
        _ => unreachable!("the template names nothing else"),
    })
}

/// Writes `template` with what `value` says for each `{{name}}`. Values are not looked at again.
fn fill<'a>(
    template: &str,
    out: &mut impl Write,
    value: impl Fn(&str) -> Cow<'a, str>,
) -> io::Result<()> {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .expect("the template closes its braces");
        out.write_all(before.as_bytes())?;
        out.write_all(value(name).as_bytes())?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// The modules as one script: what they import from each other is all there, so the lines that
/// import go, and the word `export`. An import is one line.
fn script() -> String {
    let mut script = String::new();
    for (name, module) in MODULES {
        script.push_str(&format!("\n// {name}\n"));
        for line in module.lines().filter(|line| !line.starts_with("import ")) {
            script.push_str(line.strip_prefix("export ").unwrap_or(line));
            script.push('\n');
        }
    }
    script
}

/// What a content security policy calls an inline script or style with this text.
fn source_hash(text: &str) -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!("sha256-{hash}")
}

#[cfg(test)]
#[path = "../html_tests.rs"]
mod tests;
