//! What changed between two recordings: a table of functions, a flame graph whose colours are the
//! changes ([`svg`]), and folded stacks with two counts ([`folded`]).
//!
//! Recordings differ in length and load, so what is compared is the share of all by default, or
//! what each second of the recording had.

pub mod folded;
pub mod svg;

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::{
    grouped,
    heading::{self, Recording, unit_name},
    json_text, printable,
    report::{
        Sort,
        rows::{module_name, stack_name},
    },
    table::{Side, Table},
};
use crate::profile::{
    Profile, Unit,
    functions::{Function, FunctionWeight, Functions},
};

/// What of two recordings is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Measure {
    /// Shares of all, in percent.
    #[default]
    Share,
    /// What a second of the recording has: samples, events, or milliseconds.
    PerSecond,
    /// What a unit of work costs, in percent of what the whole cost before.
    Cost,
}

/// One of the two recordings.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// Its stacks.
    pub profile: &'a Profile,
    /// How much time these are of.
    pub duration: Duration,
}

/// Why two recordings cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// They have other weights.
    #[error(
        "the first recording is in {0}, the second in {1}: that cannot be compared; record both in \
         the same way"
    )]
    Units(&'static str, &'static str),
    /// They are of other events.
    #[error(
        "the first recording is of {0}, the second of {1}: that cannot be compared; record the \
         same event, or choose one that both have with --event"
    )]
    Events(String, String),
    /// There is nothing that could be the whole of shares.
    #[error("the {0} recording has no samples; is its filter right?")]
    Empty(&'static str),
    /// It is not known of how many seconds a recording is.
    #[error("the {0} recording does not say how long it is; compare shares, without --absolute")]
    NoDuration(&'static str),
}

/// How to show the table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Which change comes first.
    pub sort: Sort,
    /// How many functions to show; `None` for all that changed.
    pub limit: Option<usize>,
    /// Columns of the terminal; `None` to shorten nothing.
    pub width: Option<usize>,
}

/// Two recordings that can be compared: the one before, and the one after.
#[derive(Debug, Clone)]
pub struct Diff {
    profiles: [Profile; 2],
    measure: Measure,
    /// What a weight is to be multiplied by for what is compared.
    scales: [f64; 2],
}

/// A figure of both recordings.
type Both = [f64; 2];

fn change(both: Both) -> f64 {
    both[1] - both[0]
}

/// A function that changed.
struct Row {
    function: Function,
    own: Both,
    total: Both,
}

impl Diff {
    /// Compares two recordings.
    ///
    /// # Errors
    ///
    /// If there is nothing in them that could be compared.
    pub fn new(
        before: Compared<'_>,
        after: Compared<'_>,
        measure: Measure,
    ) -> Result<Self, Refused> {
        let (a, b) = (&before.profile.meta, &after.profile.meta);
        if a.unit != b.unit {
            return Err(Refused::Units(unit_name(a.unit), unit_name(b.unit)));
        }
        let events = [before, after].map(|side| used_events(side.profile));
        if events[0] != events[1] && !events.iter().any(Vec::is_empty) {
            let names = events.map(|events| printable(&events.join(" and ")));
            let [a, b] = names;
            return Err(Refused::Events(a, b));
        }
        let scale = |side: Compared<'_>, which| {
            let whole = side.profile.weight();
            if whole == 0 {
                return Err(Refused::Empty(which));
            }
            let seconds = side.duration.as_secs_f64();
            match (measure, a.unit) {
                (Measure::Share | Measure::Cost, _) => Ok(100.0 / whole as f64),
                (Measure::PerSecond, _) if seconds == 0.0 => Err(Refused::NoDuration(which)),
                (Measure::PerSecond, Unit::Nanoseconds) => Ok(1e-6 / seconds),
                (Measure::PerSecond, _) => Ok(1.0 / seconds),
            }
        };
        Ok(Self {
            measure,
            scales: [scale(before, "first")?, scale(after, "second")?],
            profiles: Profile::side_by_side(before.profile, after.profile),
        })
    }

    /// Compares what a unit of work costs, of which each recording did so many.
    ///
    /// # Errors
    ///
    /// As [`Diff::new`].
    pub fn of_costs(
        before: Compared<'_>,
        after: Compared<'_>,
        work: [f64; 2],
    ) -> Result<Self, Refused> {
        let mut diff = Self::new(before, after, Measure::Cost)?;
        diff.scales[1] = diff.scales[0] * work[0] / work[1];
        Ok(diff)
    }

    /// What weights of the two recordings are to be compared as.
    fn both(&self, weights: [u64; 2]) -> Both {
        [0, 1].map(|side| weights[side] as f64 * self.scales[side])
    }

    /// What figures are in.
    fn unit(&self) -> &'static str {
        match (self.measure, self.profiles[0].meta.unit) {
            (Measure::Share, _) => "percent of all",
            (Measure::Cost, _) => "percent of what all cost before",
            (Measure::PerSecond, Unit::Samples) => "samples per second",
            (Measure::PerSecond, Unit::Events) => "events per second",
            (Measure::PerSecond, Unit::Nanoseconds) => "milliseconds per second",
        }
    }

    /// The functions that changed, those that changed most first, and how many did not.
    fn rows(&self, sort: Sort) -> (Vec<Row>, usize) {
        // Both have the same frames, and so the same functions.
        let functions = Functions::of(&self.profiles[0]);
        let [before, after] = [0, 1].map(|side| functions.weigh(&self.profiles[side]));
        let weights = before.into_iter().zip(after);
        let seen = functions.list().iter().zip(weights);
        let seen = seen.filter(|(_, (before, after))| before.samples + after.samples > 0);
        let rows = seen.map(|(function, (before, after))| {
            let both =
                |weight: fn(&FunctionWeight) -> u64| self.both([weight(&before), weight(&after)]);
            Row {
                function: *function,
                own: both(|weight| weight.own),
                total: both(|weight| weight.total),
            }
        });
        let (mut changed, same): (Vec<Row>, Vec<Row>) =
            rows.partition(|row| change(row.own) != 0.0 || change(row.total) != 0.0);
        let profile = &self.profiles[0];
        let names = |row: &Row| {
            let function = &row.function;
            let name = profile.text(function.name);
            (name, module_name(profile, function), function.class)
        };
        changed.sort_by(|a, b| {
            let key = |row: &Row| {
                let (own, total) = (change(row.own).abs(), change(row.total).abs());
                match sort {
                    Sort::Own => [own, total],
                    Sort::Total => [total, own],
                }
            };
            let (a_key, b_key) = (key(a), key(b));
            b_key[0]
                .total_cmp(&a_key[0])
                .then(b_key[1].total_cmp(&a_key[1]))
                .then_with(|| names(a).cmp(&names(b)))
        });
        (changed, same.len())
    }
}

/// The events that samples are of.
fn used_events(profile: &Profile) -> Vec<&str> {
    let events = profile.meta.events.iter().enumerate();
    let used = events.filter(|(index, _)| {
        let mut stacks = profile.stacks().iter();
        profile.meta.events.len() == 1 || stacks.any(|stack| stack.event == *index)
    });
    let mut names: Vec<_> = used.map(|(_, name)| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// How much a figure is of what it was.
fn relative([before, after]: Both) -> String {
    match (before == 0.0, after == 0.0) {
        (true, true) => "-".to_owned(),
        (true, false) => "new".to_owned(),
        (false, true) => "gone".to_owned(),
        (false, false) => format!("{:+.1} %", (after / before - 1.0) * 100.0),
    }
}

/// Writes the table.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(diff: &Diff, options: &Options, out: &mut impl Write) -> io::Result<()> {
    for (name, profile) in ["Before", "After"].iter().zip(&diff.profiles) {
        writeln!(out, "{name}:")?;
        heading::write(profile, options.width, out)?;
    }
    let (mut rows, same) = diff.rows(options.sort);
    let shown = options.limit.unwrap_or(rows.len()).min(rows.len());
    let left_out = rows.split_off(shown).len();
    if rows.is_empty() && left_out == 0 {
        return writeln!(out, "no function changed");
    }
    writeln!(out, "Changes in {}:", diff.unit())?;
    let mut table = Table::new(vec![
        ("Self", Side::Right),
        ("now", Side::Right),
        ("change", Side::Right),
        ("relative", Side::Right),
        ("Total", Side::Right),
        ("now", Side::Right),
        ("change", Side::Right),
        ("Stack", Side::Left),
        ("Module", Side::Left),
        ("Function", Side::Left),
    ]);
    let profile = &diff.profiles[0];
    for row in &rows {
        let Row {
            function,
            own,
            total,
        } = row;
        table.push(vec![
            format!("{:.2}", own[0]),
            format!("{:.2}", own[1]),
            signed(change(*own)),
            relative(*own),
            format!("{:.2}", total[0]),
            format!("{:.2}", total[1]),
            signed(change(*total)),
            stack_name(function.class),
            printable(module_name(profile, function)),
            printable(profile.text(function.name)),
        ]);
    }
    table.write(options.width, out)?;
    if left_out > 0 {
        writeln!(out, "{} more functions changed", grouped(left_out as u64))?;
    }
    if same > 0 {
        writeln!(out, "{} functions did not change", grouped(same as u64))?;
    }
    Ok(())
}

/// A change with its sign, which nothing has not.
fn signed(change: f64) -> String {
    match format!("{change:+.2}") {
        text if text == "+0.00" || text == "-0.00" => "0.00".to_owned(),
        text => text,
    }
}

/// A row in JSON objects.
#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    stack: String,
    module: &'a str,
    function: &'a str,
    self_before: f64,
    self_after: f64,
    self_change: f64,
    total_before: f64,
    total_after: f64,
    total_change: f64,
}

/// The JSON object.
#[derive(Debug, Serialize)]
struct Object<'a> {
    format: &'static str,
    version: u32,
    before: Recording<'a>,
    after: Recording<'a>,
    measure: &'static str,
    rows: Vec<JsonRow<'a>>,
    rows_left_out: usize,
    rows_unchanged: usize,
}

/// Writes the table as one JSON object.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write_json(diff: &Diff, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let (mut rows, same) = diff.rows(options.sort);
    let shown = options.limit.unwrap_or(rows.len()).min(rows.len());
    let left_out = rows.split_off(shown).len();
    let [before, after] = &diff.profiles;
    let rows = rows.iter().map(|row| JsonRow {
        stack: stack_name(row.function.class),
        module: module_name(before, &row.function),
        function: before.text(row.function.name),
        self_before: row.own[0],
        self_after: row.own[1],
        self_change: change(row.own),
        total_before: row.total[0],
        total_after: row.total[1],
        total_change: change(row.total),
    });
    let object = Object {
        format: "stackwalk-diff",
        version: 1,
        before: Recording::of(before),
        after: Recording::of(after),
        measure: diff.unit(),
        rows: rows.collect(),
        rows_left_out: left_out,
        rows_unchanged: same,
    };
    json_text::write_pretty(&object, out)
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
