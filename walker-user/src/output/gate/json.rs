//! The verdict as one JSON object, for programs; `docs/ci.md` describes it.

use std::io::{self, Write};

use serde::Serialize;

use super::{Report, Verdict, class_name};
use crate::ci::{
    check::Changes,
    compare::{Effect, Measure, Options, Status},
    facts::Change,
};
use crate::output::json_text;

/// What [`Document::version`] is. It changes when a reader of the version before would go wrong.
const VERSION: u32 = 1;

/// Most call paths.
const PATHS: usize = 1000;

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    verdict: Verdict,
    headline: String,
    reasons: &'a [String],
    before: Side<'a>,
    after: Side<'a>,
    tested: &'a [Change],
    allowed: &'a [Change],
    options: Option<Judged>,
    /// What costs are of, and in: nanoseconds, or the unit of the events.
    unit: &'static str,
    cost_in: &'static str,
    wall_ns: Option<Effect>,
    rows: Vec<Line<'a>>,
    causes: Vec<Cause<'a>>,
    paths: Vec<Way<'a>>,
}

#[derive(Serialize)]
struct Way<'a> {
    path: Vec<&'a str>,
    status: Status,
    #[serde(flatten)]
    effect: Effect,
}

#[derive(Serialize)]
struct Side<'a> {
    name: &'a str,
    workload: &'a str,
    runs: usize,
    lost: f64,
}

#[derive(Serialize)]
struct Judged {
    threshold: f64,
    min_effect: f64,
    alpha: f64,
    kernel_only: bool,
    tests: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    measure: Option<Measure>,
    status: Status,
    relative: Option<f64>,
    #[serde(flatten)]
    effect: Effect,
}

#[derive(Serialize)]
struct Cause<'a> {
    function: &'a str,
    class: &'static str,
    module: Option<&'a str>,
    of_whole: f64,
    path: Vec<&'a str>,
}

/// Writes it.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let rows = report.rows();
    let comparison = report.outcome.as_ref().ok();
    let scale = report.unit_ns.unwrap_or(1.0);
    let scaled = |effect: Effect| Effect {
        before: effect.before * scale,
        after: effect.after * scale,
        ..effect
    };
    let [before, after] = [0, 1].map(|side| {
        let side = &report.sides[side];
        Side {
            name: &side.name,
            workload: &side.head.workload,
            runs: side.head.runs.len(),
            lost: side.lost,
        }
    });
    let Changes { tested, allowed } = &report.changes;
    let document = Document {
        format: "stackwalk-gate",
        version: VERSION,
        verdict: report.verdict(),
        headline: report.headline(),
        reasons: report.outcome.as_ref().err().map_or(&[], Vec::as_slice),
        before,
        after,
        tested,
        allowed,
        options: comparison.map(|comparison| {
            let Options {
                threshold,
                min_effect,
                alpha,
            } = comparison.options;
            Judged {
                threshold,
                min_effect,
                alpha,
                kernel_only: report.kernel_only,
                tests: comparison.findings.len() + comparison.parts.len(),
            }
        }),
        unit: report.unit(),
        cost_in: match report.unit_ns {
            Some(_) => "nanoseconds",
            None => "events",
        },
        wall_ns: comparison.map(|comparison| comparison.wall),
        rows: rows
            .iter()
            .map(|row| Line {
                name: &row.name,
                measure: row.measure,
                status: row.status,
                relative: row.effect.relative(),
                effect: scaled(row.effect),
            })
            .collect(),
        causes: comparison.map_or_else(Vec::new, |comparison| {
            let causes = comparison.causes.iter().chain(&comparison.gains);
            let name = |number: &u32| comparison.function(*number).name.as_str();
            let causes = causes.map(|cause| {
                let function = comparison.function(cause.function);
                Cause {
                    function: &function.name,
                    class: class_name(function.class),
                    module: function.module.as_deref(),
                    of_whole: cause.of_whole,
                    path: cause.path.iter().map(name).collect(),
                }
            });
            causes.collect()
        }),
        paths: comparison.map_or_else(Vec::new, |comparison| {
            let name = |number: &u32| comparison.function(*number).name.as_str();
            let paths = comparison.paths.iter().take(PATHS);
            let paths = paths.map(|finding| Way {
                path: finding.path.iter().map(name).collect(),
                status: finding.status,
                effect: scaled(finding.effect),
            });
            paths.collect()
        }),
    };
    json_text::write_pretty(&document, out)
}
