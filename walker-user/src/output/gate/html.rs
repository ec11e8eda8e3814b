//! The verdict as a page: what came out, all that changed, what it is based on, and the flame graph of
//! what is significant.
//!
//! The page has no script of its own. That of the flame graph, which is in a frame, is the only one
//! that the page's policy allows.

use std::io::{self, Write};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest as _, Sha256};

use super::{Report, Row, Verdict, merged, merged::Merged};
use crate::output;

/// Most call paths that are listed.
const PATHS: usize = 50;
/// Its style.
const STYLE: &str = include_str!("gate.css");

/// Writes it; `sides` are the runs of both sides, if they could be compared.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(report: &Report<'_>, sides: [&Merged; 2], out: &mut impl Write) -> io::Result<()> {
    let mut graph = Vec::new();
    if report.outcome.is_ok() {
        merged::write(report, sides, &mut graph)?;
    }
    head(&report.headline(), &script_of(&graph), out)?;
    let class = match report.verdict() {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::CannotJudge => "cannot",
    };
    writeln!(
        out,
        "<h1 class=\"{class}\">{}</h1>",
        escaped(&report.headline())
    )?;
    if let Err(reasons) = &report.outcome {
        list(reasons, out)?;
    }
    let rows = report.rows();
    if !rows.is_empty() {
        table(report, &format!("Cost of {}", report.unit()), &rows, out)?;
    }
    if !graph.is_empty() {
        writeln!(
            out,
            "<p>As wide as they are after; red got slower, blue got faster, and what has no colour did not \
             change significantly. Click to zoom, Ctrl+F to search.</p>\n<iframe title=\"Flame graph of what \
             changed\" src=\"data:image/svg+xml;base64,{}\"></iframe>",
            BASE64_STANDARD.encode(&graph)
        )?;
    }
    let paths = report.path_rows();
    if !paths.is_empty() {
        let shown = &paths[..paths.len().min(PATHS)];
        let title = format!(
            "Call paths that changed ({} of {})",
            shown.len(),
            paths.len()
        );
        table(report, &title, shown, out)?;
    }
    writeln!(out, "<h2>What this is based on</h2>")?;
    list(&report.conditions(), out)?;
    writeln!(out, "</body></html>")
}

/// The head of a page, which may run this script only.
pub(super) fn head(title: &str, script: &str, out: &mut impl Write) -> io::Result<()> {
    let hash = BASE64_STANDARD.encode(Sha256::digest(script));
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"generator\" content=\"stackwalk\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; script-src 'sha256-{hash}'; frame-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{}</title>\n<style>{STYLE}</style></head><body>",
        escaped(title)
    )
}

/// Text for a page.
pub(super) fn escaped(text: &str) -> String {
    output::escaped(text.chars())
}

/// The text of the one script of a picture.
fn script_of(graph: &[u8]) -> String {
    let text = String::from_utf8_lossy(graph);
    let script = text
        .split_once("<script")
        .and_then(|(_, rest)| rest.split_once('>'))
        .and_then(|(_, rest)| rest.split_once("</script>"));
    let script = script.map_or("", |(script, _)| script);
    let script = script.strip_prefix("<![CDATA[").unwrap_or(script);
    script.strip_suffix("]]>").unwrap_or(script).to_owned()
}

fn list(lines: &[String], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "<ul>")?;
    for line in lines {
        writeln!(out, "<li>{}</li>", escaped(line))?;
    }
    writeln!(out, "</ul>")
}

fn table(report: &Report<'_>, title: &str, rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "<table><caption>{}</caption><thead><tr><th>what<th><th>before<th>after<th>change\
         <th>of the whole<th>95 %<th>q<th></tr></thead><tbody>",
        escaped(title)
    )?;
    // The scale of the bars.
    let reach = |row: &Row| {
        let interval = row.effect.interval;
        interval.low.abs().max(interval.high.abs())
    };
    let most = rows.iter().map(reach).fold(0.01, f64::max);
    for row in rows {
        let path = row.path.as_ref().map_or_else(String::new, |path| {
            format!("<div class=\"path\">through {}</div>", escaped(path))
        });
        writeln!(
            out,
            "<tr class=\"{}\"><td>{}{path}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            row.status(),
            escaped(&row.name),
            row.measure(),
            report.cost(row.effect.before),
            report.cost(row.effect.after),
            row.relative(),
            super::signed_percent(row.effect.of_whole),
            interval(row, most),
            escaped(&row.q()),
            row.status(),
        )?;
    }
    writeln!(out, "</tbody></table>")
}

/// The interval as a bar around nothing.
fn interval(row: &Row, most: f64) -> String {
    let at = |share: f64| 60.0 + 58.0 * (share / most).clamp(-1.0, 1.0);
    let (low, high) = (at(row.effect.interval.low), at(row.effect.interval.high));
    format!(
        "<svg width=\"120\" height=\"14\" role=\"img\" aria-label=\"{}\"><path class=\"axis\" \
         d=\"M60 0v14\"/><path class=\"range\" d=\"M{low:.1} 7H{:.1}\"/><circle cx=\"{:.1}\" cy=\"7\" \
         r=\"3\"/></svg>",
        escaped(&row.of_whole()),
        high.max(low + 1.0),
        at(row.effect.of_whole)
    )
}
