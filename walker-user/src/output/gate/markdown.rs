//! The verdict as GitHub-flavoured Markdown, for job summaries and comments.

use std::io::{self, Write};

use super::{Report, Verdict};

/// Most rows of the table.
const ROWS: usize = 20;

/// Writes it.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let sign = match report.verdict() {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::CannotJudge => "⚠️",
    };
    writeln!(out, "<!-- stackwalk ci compare -->\n")?;
    writeln!(out, "## {sign} {}\n", plain(&report.headline()))?;
    if let Err(reasons) = &report.outcome {
        for reason in reasons {
            writeln!(out, "- {}", plain(reason))?;
        }
        writeln!(out)?;
    }
    let rows = report.rows();
    if !rows.is_empty() {
        writeln!(out, "Cost of {}:\n", report.unit())?;
        writeln!(
            out,
            "| what | | before | after | change | of the whole (95 %) | q | |"
        )?;
        writeln!(out, "|---|---|--:|--:|--:|--:|--:|---|")?;
        for row in rows.iter().take(ROWS) {
            let path = row
                .path
                .as_ref()
                .map_or_else(String::new, |path| format!("<br>through {}", plain(path)));
            writeln!(
                out,
                "| {}{path} | {} | {} | {} | {} | {} | {} | {} |",
                plain(&row.name),
                row.measure(),
                report.cost(row.effect.before),
                report.cost(row.effect.after),
                row.relative(),
                row.of_whole(),
                plain(&row.q()),
                row.status(),
            )?;
        }
        if rows.len() > ROWS {
            writeln!(out, "\n{} more changed.", rows.len() - ROWS)?;
        }
        writeln!(out)?;
    }
    for line in report.conditions() {
        writeln!(out, "- {}", plain(&line))?;
    }
    Ok(())
}

/// Text that means nothing but itself: names are hostile.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '&' => plain.push_str("&amp;"),
            // Also so that nobody is mentioned and nothing becomes a link.
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' | '!' => {
                plain.push('\\');
                plain.push(char);
            }
            '@' => plain.push_str("&#64;"),
            ':' => plain.push_str("&#58;"),
            _ => plain.push(char),
        }
    }
    plain
}
