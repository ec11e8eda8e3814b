//! The verdict for a person: what came out, the lines that matter, and what it is based on.

use std::io::{self, Write};

use super::{Report, Row};
use crate::output::table::{Side, Table};

/// Lines of the table, unless all are asked for.
const LINES: usize = 6;

/// Writes it.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(
    report: &Report<'_>,
    all: bool,
    width: Option<usize>,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}", report.headline())?;
    if let Err(reasons) = &report.outcome {
        for reason in &reasons[1..] {
            writeln!(out, "{:>13} {reason}", "and")?;
        }
    }
    let rows = report.rows();
    for path in rows.iter().filter_map(|row| row.path.as_ref()).take(1) {
        writeln!(out, "  through {path}")?;
    }
    if !rows.is_empty() {
        let shown = match all {
            true => rows.len(),
            false => rows.len().min(LINES),
        };
        writeln!(out, "\nCost of {}:", report.unit())?;
        table(report, &rows[..shown], width, out)?;
        if rows.len() > shown {
            let more = rows.len() - shown;
            writeln!(out, "{more} more changed: --all shows them")?;
        }
    }
    writeln!(out)?;
    for line in report.conditions() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn table(
    report: &Report<'_>,
    rows: &[Row],
    width: Option<usize>,
    out: &mut impl Write,
) -> io::Result<()> {
    let columns = vec![
        ("before", Side::Right),
        ("after", Side::Right),
        ("change", Side::Right),
        ("of the whole (95 %)", Side::Left),
        ("q", Side::Right),
        ("", Side::Left),
        ("", Side::Left),
        ("what", Side::Left),
    ];
    let mut table = Table::new(columns);
    for row in rows {
        table.push(vec![
            report.cost(row.effect.before),
            report.cost(row.effect.after),
            row.relative(),
            row.of_whole(),
            row.q(),
            row.status().to_owned(),
            row.measure().to_owned(),
            row.name.clone(),
        ]);
    }
    table.write(width, out)
}
