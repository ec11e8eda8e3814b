//! The verdict of the gate in words: for a person ([`text`]), programs ([`json`]), test reports ([`junit`]),
//! job summaries ([`markdown`]), code scanning ([`sarif`]), and as a page with a flame graph ([`html`]).
//!
//! What is said is decided here, once; the modules only lay it out. How it was judged is the business of
//! [`crate::ci`].

pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod merged;
pub mod sarif;
pub mod text;
pub mod trend;

use serde::Serialize;

use super::printable;
use crate::ci::{
    check::Changes,
    compare::{Comparison, Effect, Finding, Measure, Part, Status},
    set::SetHead,
    sums::Function,
};
use crate::profile::FrameClass;

/// From this change on it is told how many times as much something is.
const MANY: f64 = 9.0;
/// Most functions of a call path that are shown in one line.
const MAX_PATH: usize = 8;

/// What ends a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailOn {
    /// What got slower.
    #[default]
    Regression,
    /// Any change.
    Any,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing got slower.
    Pass,
    /// Something got slower, or changed where any change counts.
    Fail,
    /// Nothing can be said.
    CannotJudge,
}

/// One of the sets.
#[derive(Debug, Clone)]
pub struct Side<'a> {
    /// What it is called.
    pub name: String,
    /// What it is of.
    pub head: &'a SetHead,
    /// The share of samples that were lost.
    pub lost: f64,
}

/// All that there is to say.
#[derive(Debug)]
pub struct Report<'a> {
    /// The set before, and the one after.
    pub sides: [Side<'a>; 2],
    /// What is another in the second set.
    pub changes: Changes,
    /// The comparison, or why there is none.
    pub outcome: Result<Comparison, Vec<String>>,
    /// Nanoseconds of a weight of 1, if it is time.
    pub unit_ns: Option<f64>,
    /// What ends the job.
    pub fail_on: FailOn,
    /// Whether the kernel alone was compared.
    pub kernel_only: bool,
}

impl Report<'_> {
    /// What came out.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let Ok(comparison) = &self.outcome else {
            return Verdict::CannotJudge;
        };
        let any = self.fail_on == FailOn::Any;
        let fails = comparison.has(Status::Regression)
            || any && (comparison.has(Status::Improvement) || comparison.has(Status::Moved));
        match fails {
            true => Verdict::Fail,
            false => Verdict::Pass,
        }
    }

    /// The verdict in one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let comparison = match &self.outcome {
            Ok(comparison) => comparison,
            Err(reasons) => {
                let first = reasons.first().map_or("", String::as_str);
                return format!("CANNOT JUDGE: {first}");
            }
        };
        let slower = comparison.has(Status::Regression);
        let word = match (self.verdict(), slower) {
            (_, true) => "REGRESSION",
            (Verdict::Fail, false) => "CHANGED",
            _ => "no regression",
        };
        let (causes, more) = match slower {
            true => (&comparison.causes, "more"),
            false => (&comparison.gains, "less"),
        };
        let whole = &comparison.whole().effect;
        match causes.first() {
            Some(cause) => format!(
                "{word}: {} costs {} of the whole {more}",
                self.function_text(comparison.function(cause.function)),
                percent(cause.of_whole.abs()),
            ),
            None if slower => match self.slower_part(comparison) {
                Some(class) => format!("{word}: {class} costs more, no function alone does"),
                None => format!(
                    "{word}: the whole costs {} more, and no function more than others: the machine \
                     was slower, or all code is",
                    percent(whole.of_whole)
                ),
            },
            None => format!("{word}: the whole is {}", signed_percent(whole.of_whole)),
        }
    }

    fn slower_part(&self, comparison: &Comparison) -> Option<&'static str> {
        let parts = comparison.parts.iter();
        let mut slower = parts.filter(|part| part.status == Status::Regression);
        slower.find_map(|part| part.class).map(class_text)
    }

    /// What a function is, for a person.
    #[must_use]
    pub fn function_text(&self, function: &Function) -> String {
        let name = printable(&function.name);
        match function.class {
            FrameClass::Process => format!("process {name}"),
            FrameClass::User => match &function.module {
                Some(module) if !name.starts_with(module.as_str()) => {
                    format!("{name} ({})", printable(module))
                }
                _ => name,
            },
            FrameClass::Kernel(kind) => match &function.module {
                Some(module) => format!("{name} [{}, {} stack]", printable(module), kind.name()),
                None => format!("{name} [kernel, {} stack]", kind.name()),
            },
            _ => name,
        }
    }

    /// A call path in one line, shortened in its middle.
    #[must_use]
    pub fn path_text(&self, comparison: &Comparison, path: &[u32]) -> String {
        let name = |number: &u32| printable(&comparison.function(*number).name);
        let names: Vec<String> = match path.len() > MAX_PATH {
            false => path.iter().map(name).collect(),
            true => {
                let (first, last) = (&path[..2], &path[path.len() - (MAX_PATH - 3)..]);
                let last = last.iter().map(name);
                let names = first.iter().map(name);
                names.chain(["…".to_owned()]).chain(last).collect()
            }
        };
        names.join(" → ")
    }

    /// A cost of a unit of work.
    #[must_use]
    pub fn cost(&self, weight: f64) -> String {
        match self.unit_ns {
            Some(unit) => time(weight * unit),
            None => number(weight),
        }
    }

    /// What costs are of.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.sides[0].head.work_unit {
            Some(_) => "a unit of work",
            None => "a run",
        }
    }

    /// The lines that matter: the whole, then what explains the verdict, then other changes.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let Ok(comparison) = &self.outcome else {
            return Vec::new();
        };
        let part = |part: &Part| Row {
            name: part.class.map_or("the whole", class_text).to_owned(),
            path: None,
            measure: None,
            effect: part.effect,
            status: part.status,
            is_small: part.status == Status::Unchanged && part.effect.q <= comparison.options.alpha,
            function: None,
        };
        let mut rows = vec![part(comparison.whole())];
        for cause in comparison.causes.iter().chain(&comparison.gains) {
            let total = comparison.finding(cause.function, Measure::Total);
            let own = comparison.finding(cause.function, Measure::Own);
            let counts = |finding: &&Finding| finding.status != Status::Unchanged;
            if let Some(finding) = total.filter(counts).or(own.filter(counts)) {
                rows.push(Row {
                    path: Some(self.path_text(comparison, &cause.path)),
                    ..self.row(comparison, finding)
                });
            }
        }
        let parts = comparison.parts.iter().skip(1);
        rows.extend(
            parts
                .filter(|part| part.status != Status::Unchanged)
                .map(part),
        );
        let mut seen: Vec<u32> = rows.iter().filter_map(|row| row.function).collect();
        for finding in &comparison.findings {
            // Of a function whose both costs changed, the larger one, which comes first.
            if finding.status != Status::Unchanged && !seen.contains(&finding.function) {
                seen.push(finding.function);
                rows.push(self.row(comparison, finding));
            }
        }
        rows
    }

    /// Call paths that changed, as rows.
    #[must_use]
    pub fn path_rows(&self) -> Vec<Row> {
        let Ok(comparison) = &self.outcome else {
            return Vec::new();
        };
        let rows = comparison.paths.iter().map(|finding| Row {
            name: self.path_text(comparison, &finding.path),
            path: None,
            measure: Some(Measure::Total),
            effect: finding.effect,
            status: finding.status,
            is_small: false,
            function: None,
        });
        rows.collect()
    }

    fn row(&self, comparison: &Comparison, finding: &Finding) -> Row {
        let function = comparison.function(finding.function);
        let mut name = self.function_text(function);
        if let Some(other) = finding.moved {
            let other = printable(&comparison.function(other).name);
            name.push_str(&match finding.effect.of_whole > 0.0 {
                true => format!(", moved from {other}"),
                false => format!(", moved to {other}"),
            });
        }
        Row {
            name,
            path: None,
            measure: Some(finding.measure),
            effect: finding.effect,
            status: finding.status,
            is_small: false,
            function: Some(finding.function),
        }
    }

    /// What was compared with what, under which conditions, a line each.
    #[must_use]
    pub fn conditions(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let [before, after] = &self.sides;
        let release = |side: &Side<'_>| {
            let release = side.head.facts.0.get("kernel release");
            release.map_or_else(|| "unknown".to_owned(), |release| printable(release))
        };
        for (side, which) in [(before, "before"), (after, "after")] {
            lines.push(format!(
                "{which}: {}, {} runs, Linux {}, {} of the samples lost",
                printable(&side.name),
                side.head.runs.len(),
                release(side),
                percent(side.lost)
            ));
        }
        lines.push(format!("workload: {}", printable(&after.head.workload)));
        let changes = self.changes.tested.iter().map(|change| (change, ""));
        let allowed = self.changes.allowed.iter();
        let allowed = allowed.map(|change| (change, " (allowed by --allow-env-change)"));
        for (change, why) in changes.chain(allowed) {
            if change.fact != "kernel release" {
                lines.push(format!(
                    "{}: {} before, {} after{why}",
                    change.fact,
                    printable(&change.before),
                    printable(&change.after)
                ));
            }
        }
        if let Ok(comparison) = &self.outcome {
            let options = comparison.options;
            lines.push(format!(
                "wall time of {}: {} before, {} after ({})",
                self.unit(),
                time(comparison.wall.before),
                time(comparison.wall.after),
                signed_percent(comparison.wall.of_whole)
            ));
            lines.push(format!(
                "judged: {} tests of what has {} of the whole or more; a change counts from {} of itself and {} \
                 of the whole, with at most {} of discoveries wrong{}",
                comparison.findings.len() + comparison.parts.len(),
                percent(options.min_effect / 2.0),
                percent(options.threshold),
                percent(options.min_effect),
                percent(options.alpha),
                match self.kernel_only {
                    true => "; the kernel alone",
                    false => "",
                }
            ));
            if !comparison.lone_function_passes {
                lines.push(
                    "warning: with so few runs only changes of several functions at once can be \
                     significant; 10 runs of each are enough for one"
                        .to_owned(),
                );
            }
        }
        lines
    }
}

/// A line of a table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// The call path that leads to it, of causes.
    pub path: Option<String>,
    /// Which cost, of functions.
    pub measure: Option<Measure>,
    /// By how much.
    pub effect: Effect,
    /// What became of it.
    pub status: Status,
    /// Whether it changed, but by too little to count.
    pub is_small: bool,
    /// Its number, of functions.
    pub function: Option<u32>,
}

impl Row {
    /// The change of itself.
    #[must_use]
    pub fn relative(&self) -> String {
        match self.effect.relative() {
            Some(_) if self.effect.after == 0.0 => "gone".to_owned(),
            Some(change) if change >= MANY => format!("× {:.0}", change + 1.0),
            Some(change) => signed_percent(change),
            None => "new".to_owned(),
        }
    }

    /// The change of the whole, with its interval.
    #[must_use]
    pub fn of_whole(&self) -> String {
        let interval = self.effect.interval;
        format!(
            "{} ({} to {})",
            signed_percent(self.effect.of_whole),
            signed_percent(interval.low),
            signed_percent(interval.high)
        )
    }

    /// How likely it is a wrong discovery.
    #[must_use]
    pub fn q(&self) -> String {
        match self.effect.q < 0.0001 {
            true => "<0.0001".to_owned(),
            false => format!("{:.4}", self.effect.q),
        }
    }

    /// Which cost it is.
    #[must_use]
    pub const fn measure(&self) -> &'static str {
        match self.measure {
            Some(Measure::Own) => "self",
            Some(Measure::Total) => "total",
            None => "",
        }
    }

    /// What became of it, in a word.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        match self.status {
            Status::Unchanged if self.is_small => "too little",
            Status::Unchanged => "unchanged",
            Status::Regression => "slower",
            Status::Improvement => "faster",
            Status::Moved => "moved",
        }
    }
}

/// Code of a class, for programs.
const fn class_name(class: FrameClass) -> &'static str {
    match class {
        FrameClass::Process => "process",
        FrameClass::User => "user",
        FrameClass::Kernel(kind) => kind.name(),
        _ => "note",
    }
}

/// Code of a class, for a person.
const fn class_text(class: FrameClass) -> &'static str {
    match class {
        FrameClass::Process => "processes without frames",
        FrameClass::User => "user space",
        FrameClass::Kernel(kind) => match kind {
            walker_common::StackKind::Task => "the kernel on task stacks",
            walker_common::StackKind::Irq => "the kernel on IRQ stacks",
            walker_common::StackKind::SoftIrq => "the kernel on softirq stacks",
            _ => "the kernel on exception stacks",
        },
        _ => "what is said about events",
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() < 0.1 && percent != 0.0 {
        true => format!("{percent:.2} %"),
        false => format!("{percent:.1} %"),
    }
}

fn signed_percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

/// Nanoseconds.
fn time(ns: f64) -> String {
    let (scale, unit) = match ns.abs() {
        ns if ns >= 1e9 => (1e-9, "s"),
        ns if ns >= 1e6 => (1e-6, "ms"),
        ns if ns >= 1e3 => (1e-3, "µs"),
        _ => (1.0, "ns"),
    };
    format!("{} {unit}", number(ns * scale))
}

/// Three digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests;
