//! When functions changed in a series of sets: as text, and as a page with a small picture of each.

use std::io::{self, Write};

use super::{
    class_name,
    html::{escaped, head},
    number, signed_percent, time,
};
use crate::{
    ci::{
        stats::mean,
        trend::{ChangePoint, Series, Trend},
    },
    output::{
        printable,
        table::{Side, Table},
    },
};

/// Most functions that did not change for which there is a picture.
const UNCHANGED: usize = 8;
/// Most pictures.
const PICTURES: usize = 100;
/// The size of a picture.
const SIZE: [f64; 2] = [300.0, 90.0];

/// What is shown.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The series.
    pub trend: &'a Trend,
    /// The names of the sets.
    pub names: Vec<&'a str>,
    /// What they are of.
    pub workload: &'a str,
    /// What else is to be known.
    pub notes: &'a [String],
    /// Nanoseconds of a weight of 1, if it is time.
    pub unit_ns: Option<f64>,
}

impl Shown<'_> {
    fn name(&self, series: &Series) -> String {
        match series.function {
            None => "the whole".to_owned(),
            Some(number) => {
                let function = &self.trend.functions[number as usize];
                format!(
                    "{} [{}]",
                    printable(&function.name),
                    class_name(function.class)
                )
            }
        }
    }

    fn cost(&self, weight: f64) -> String {
        match self.unit_ns {
            Some(unit) => time(weight * unit),
            None => number(weight),
        }
    }

    fn change(&self, change: &ChangePoint) -> String {
        let relative = match change.before > 0.0 {
            true => signed_percent(change.after / change.before - 1.0),
            false => "new".to_owned(),
        };
        format!(
            "{} to {} ({relative})",
            self.cost(change.before),
            self.cost(change.after)
        )
    }
}

/// Writes the changes in the order of the sets, the largest of each set first.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(shown: &Shown<'_>, width: Option<usize>, out: &mut impl Write) -> io::Result<()> {
    let all = shown.trend.series.iter();
    let mut changes: Vec<(&Series, &ChangePoint)> = all
        .flat_map(|series| series.changes.iter().map(move |change| (series, change)))
        .collect();
    changes.sort_by(|a, b| {
        let size = |change: &ChangePoint| change.of_whole.abs();
        a.1.set.cmp(&b.1.set).then(size(b.1).total_cmp(&size(a.1)))
    });
    writeln!(
        out,
        "{} sets of {}: {} changes",
        shown.names.len(),
        printable(shown.workload),
        changes.len()
    )?;
    if !changes.is_empty() {
        let mut table = Table::new(vec![
            ("since", Side::Left),
            ("of the whole", Side::Right),
            ("cost", Side::Left),
            ("what", Side::Left),
        ]);
        for (series, change) in changes {
            table.push(vec![
                printable(shown.names[change.set]),
                signed_percent(change.of_whole),
                shown.change(change),
                shown.name(series),
            ]);
        }
        table.write(width, out)?;
    }
    for note in shown.notes {
        writeln!(out, "note: {}", printable(note))?;
    }
    Ok(())
}

/// Writes a page: a picture of the whole, of what changed, and of some that did not.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write_page(shown: &Shown<'_>, out: &mut impl Write) -> io::Result<()> {
    let title = format!("Trend of {}", printable(shown.workload));
    head(&title, "", out)?;
    writeln!(
        out,
        "<h1>{}</h1>\n<p>{} sets, from {} to {}. Each point is a run; lines are the level between changes.</p>\n\
         <ul class=\"many\">",
        escaped(&title),
        shown.names.len(),
        escaped(&printable(shown.names.first().unwrap_or(&""))),
        escaped(&printable(shown.names.last().unwrap_or(&"")))
    )?;
    let (changed, same): (Vec<&Series>, Vec<&Series>) = shown.trend.series[1..]
        .iter()
        .partition(|series| !series.changes.is_empty());
    let whole = &shown.trend.series[0];
    let some = same.into_iter().take(UNCHANGED);
    for series in [whole]
        .into_iter()
        .chain(changed.into_iter().take(PICTURES))
        .chain(some)
    {
        writeln!(out, "<li><h3>{}</h3>", escaped(&shown.name(series)))?;
        picture(shown, series, out)?;
        for change in &series.changes {
            writeln!(
                out,
                "<p>since {}: {}, {} of the whole</p>",
                escaped(&printable(shown.names[change.set])),
                escaped(&shown.change(change)),
                signed_percent(change.of_whole)
            )?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ul>")?;
    if !shown.notes.is_empty() {
        writeln!(out, "<h2>Changes of the environment</h2>\n<ul>")?;
        for note in shown.notes {
            writeln!(out, "<li>{}</li>", escaped(&printable(note)))?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</body></html>")
}

fn picture(shown: &Shown<'_>, series: &Series, out: &mut impl Write) -> io::Result<()> {
    let [width, height] = SIZE;
    let most = series
        .costs
        .iter()
        .flatten()
        .fold(0.0f64, |most, cost| most.max(*cost));
    let x = |set: f64| 4.0 + (width - 8.0) * (set + 0.5) / series.costs.len() as f64;
    let y = |cost: f64| height - 4.0 - (height - 16.0) * cost / most.max(f64::MIN_POSITIVE);
    writeln!(
        out,
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\"><text x=\"4\" y=\"9\">{}</text>",
        escaped(&format!("{} by set", shown.name(series))),
        escaped(&format!("up to {}", shown.cost(most)))
    )?;
    for (set, costs) in series.costs.iter().enumerate() {
        for cost in costs {
            let (x, y) = (x(set as f64), y(*cost));
            write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.5\"/>")?;
        }
    }
    let means = (0u32..)
        .zip(&series.costs)
        .map(|(set, costs)| format!("{:.1} {:.1}", x(set.into()), y(mean(costs))));
    let line = means.collect::<Vec<_>>().join("L");
    write!(out, "<path class=\"series\" d=\"M{line}\"/>")?;
    let mut from = 0;
    let ends = series.changes.iter().map(|change| change.set);
    for end in ends.chain([series.costs.len()]) {
        let level = y(mean(&series.costs[from..end].concat()));
        let (left, right) = (x(from as f64 - 0.5), x(end as f64 - 0.5));
        write!(
            out,
            "<path class=\"level\" d=\"M{left:.1} {level:.1}H{right:.1}\"/>"
        )?;
        if from > 0 {
            write!(out, "<path class=\"change\" d=\"M{left:.1} 12V{height}\"/>")?;
        }
        from = end;
    }
    writeln!(out, "</svg>")
}
