//! Tables of what was sampled: by function, process, thread, CPU, kind of stack, module or event.
//!
//! The same rows as text for terminals and as JSON for programs, which `docs/report-json.md`
//! describes. Interrupts have a table of their own, [`irq`], as they have victims; the tree of
//! calls is [`tree`].

pub mod irq;
pub mod rows;
pub mod tree;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

pub use rows::By;
use rows::{Key, Row};

use super::{
    amount, grouped,
    heading::{self, Recording},
    json_text, percent, printable,
    table::{Side, Table},
};
use crate::profile::{Profile, timeline::Timeline};

/// What the rows of a table are in the order of, the heaviest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// What they weigh by themselves.
    #[default]
    Own,
    /// What they weigh with all that they call.
    Total,
}

/// What to show, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What a row is.
    pub by: By,
    /// Their order.
    pub sort: Sort,
    /// How many rows to show; `None` for all of them.
    pub limit: Option<usize>,
    /// Columns of the terminal; `None` to shorten nothing.
    pub width: Option<usize>,
}

/// Rows of a table, in order.
struct Report<'a> {
    profile: &'a Profile,
    by: By,
    rows: Vec<Row>,
    /// How many rows are not shown, and what they weigh by themselves.
    left_out: (usize, u64),
    whole: u64,
}

impl<'a> Report<'a> {
    fn new(timeline: &'a Timeline, options: &Options) -> Self {
        let mut rows = options.by.rows(timeline);
        // Rows that weigh the same are in the order of their names.
        rows.sort_unstable_by(|a, b| {
            let weights = |row: &Row| match options.sort {
                Sort::Own => (row.own, row.total),
                Sort::Total => (row.total, row.own),
            };
            weights(b)
                .cmp(&weights(a))
                .then_with(|| a.keys.cmp(&b.keys))
        });
        let shown = options.limit.unwrap_or(rows.len()).min(rows.len());
        let left_out = rows.split_off(shown);
        Self {
            profile: &timeline.profile,
            by: options.by,
            rows,
            left_out: (left_out.len(), left_out.iter().map(|row| row.own).sum()),
            whole: timeline.profile.weight(),
        }
    }

    fn table(&self) -> Table {
        let mut columns = vec![("Self %", Side::Right), ("Self", Side::Right)];
        match self.by.has_calls() {
            true => columns.extend([("Total %", Side::Right), ("Total", Side::Right)]),
            false => columns = vec![("Share %", Side::Right), ("Weight", Side::Right)],
        }
        for key in self.by.keys() {
            columns.push((key.heading, key.side));
        }
        let mut table = Table::new(columns);
        let share = |weight| format!("{:.2}", percent(weight, self.whole));
        let unit = self.profile.meta.unit;
        for row in &self.rows {
            let mut cells = vec![share(row.own), amount(unit, row.own)];
            if self.by.has_calls() {
                cells.extend([share(row.total), amount(unit, row.total)]);
            }
            cells.extend(row.keys.iter().map(|key| match key {
                Key::Text(text) => printable(text),
                Key::Number(number) => number.to_string(),
                Key::Nothing => "-".to_owned(),
            }));
            table.push(cells);
        }
        table
    }
}

/// Writes the table.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let report = Report::new(timeline, options);
    heading::write(report.profile, options.width, out)?;
    report.table().write(options.width, out)?;
    let (count, weight) = report.left_out;
    if count > 0 {
        let share = percent(weight, report.whole);
        writeln!(out, "{} more rows, {share:.2} %", grouped(count as u64))?;
    }
    Ok(())
}

/// The JSON object of a report.
#[derive(Debug, Serialize)]
struct Object<'a> {
    format: &'static str,
    version: u32,
    recording: Recording<'a>,
    by: &'static str,
    rows: Vec<Value>,
    rows_left_out: usize,
}

/// Writes the table as one JSON object.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write_json(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let report = Report::new(timeline, options);
    let rows = report.rows.iter().map(|row| {
        let mut object = Map::new();
        for (column, key) in report.by.keys().iter().zip(&row.keys) {
            let value = match key {
                Key::Text(text) => Value::from(text.as_str()),
                Key::Number(number) => Value::from(*number),
                Key::Nothing => Value::Null,
            };
            object.insert(column.field.to_owned(), value);
        }
        let share = |weight| Value::from(percent(weight, report.whole));
        match report.by.has_calls() {
            true => {
                object.insert("self".to_owned(), row.own.into());
                object.insert("self_percent".to_owned(), share(row.own));
                object.insert("total".to_owned(), row.total.into());
                object.insert("total_percent".to_owned(), share(row.total));
            }
            false => {
                object.insert("weight".to_owned(), row.own.into());
                object.insert("percent".to_owned(), share(row.own));
            }
        }
        object.insert("samples".to_owned(), row.samples.into());
        Value::Object(object)
    });
    let object = Object {
        format: "stackwalk-report",
        version: 1,
        recording: Recording::of(report.profile),
        by: report.by.name(),
        rows: rows.collect(),
        rows_left_out: report.left_out.0,
    };
    json_text::write_pretty(&object, out)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
