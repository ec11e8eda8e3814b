//! How a comparison is judged, and its way from sets to a report.

use std::{fs::File, path::Path};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};

use crate::{
    ci::{
        check::{self, Changes},
        compare::{Comparison, Options},
        load::{Loaded, load},
        set::Set,
        sums::{Scope, Space},
    },
    output::{
        gate::{FailOn, Report, Side, merged::Merged},
        printable,
    },
    sys::regular_file,
};

/// How to judge.
#[derive(Debug, Clone, Args)]
pub(super) struct GateArgs {
    /// By how much of itself something has to change to count, in percent
    #[arg(long, value_name = "PERCENT", default_value = "5%", allow_hyphen_values = true,
        value_parser = percent)]
    threshold: f64,
    /// By how much of the whole it has to change as well, in percent
    #[arg(long, value_name = "PERCENT", default_value = "1%", allow_hyphen_values = true,
        value_parser = min_effect)]
    min_effect: f64,
    /// The share of discoveries that may be wrong
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, allow_hyphen_values = true,
        value_parser = alpha)]
    alpha: f64,
    /// The most that may be lost of the samples of a set, in percent
    #[arg(long, value_name = "PERCENT", default_value = "1%", allow_hyphen_values = true,
        value_parser = percent)]
    max_lost: f64,
    /// Compare the kernel's part of stacks only, whoever called it
    #[arg(long)]
    kernel_only: bool,
    /// Compare sets of different environments, too; what differs is told
    #[arg(long)]
    allow_env_change: bool,
    /// What ends the job with status 1
    #[arg(long, value_name = "WHAT", default_value = "regression")]
    fail_on: FailOnArg,
}

/// What ends a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOnArg {
    /// What got slower
    Regression,
    /// Any significant change
    Any,
}

/// A number of percent, above 0 and below 100, as a share.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim();
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent < 100.0 => Ok(percent / 100.0),
        _ => Err("not a number of percent above 0 and below 100".to_owned()),
    }
}

fn min_effect(text: &str) -> Result<f64, String> {
    let share = percent(text)?;
    match share >= 0.001 {
        true => Ok(share),
        false => Err("less than 0.1 % of the whole cannot be told from noise".to_owned()),
    }
}

fn alpha(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(alpha) if alpha > 0.0 && alpha <= 0.2 => Ok(alpha),
        _ => Err("not a number above 0 and up to 0.2".to_owned()),
    }
}

impl GateArgs {
    pub(super) const fn options(&self) -> Options {
        Options {
            threshold: self.threshold,
            min_effect: self.min_effect,
            alpha: self.alpha,
        }
    }

    pub(super) const fn scope(&self) -> Scope {
        Scope {
            kernel_only: self.kernel_only,
        }
    }

    /// Compares two sets. `merged` is given what each side merges to, if it is wanted.
    pub(super) fn judge<'a>(
        &self,
        sets: [&'a Set; 2],
        names: [String; 2],
        merged: Option<&mut [Merged; 2]>,
    ) -> anyhow::Result<Report<'a>> {
        let [before, after] = names;
        let side = |name, set: &'a Set| Side {
            name,
            head: &set.head,
            lost: 0.0,
        };
        let mut report = Report {
            sides: [side(before, sets[0]), side(after, sets[1])],
            changes: Changes::default(),
            outcome: Err(Vec::new()),
            unit_ns: None,
            fail_on: match self.fail_on {
                FailOnArg::Regression => FailOn::Regression,
                FailOnArg::Any => FailOn::Any,
            },
            kernel_only: self.kernel_only,
        };
        match check::heads(&sets[0].head, &sets[1].head, self.allow_env_change) {
            Ok(changes) => report.changes = changes,
            Err(reasons) => {
                report.outcome = Err(shown(&reasons));
                return Ok(report);
            }
        }
        let mut space = Space::new(self.scope());
        let loaded = self.load(&mut space, sets, &report, merged)?;
        for (side, loaded) in report.sides.iter_mut().zip(&loaded) {
            side.lost = loaded.lost_share();
        }
        report.unit_ns = loaded[0].unit_ns;
        report.outcome = match check::runs(&loaded[0], &loaded[1], self.max_lost) {
            Err(reasons) => Err(shown(&reasons)),
            Ok(()) => Comparison::new(&space, [&loaded[0].runs, &loaded[1].runs], self.options())
                .map_err(|refusal| vec![refusal.to_string()]),
        };
        Ok(report)
    }

    fn load(
        &self,
        space: &mut Space,
        sets: [&Set; 2],
        report: &Report<'_>,
        mut merged: Option<&mut [Merged; 2]>,
    ) -> anyhow::Result<[Loaded; 2]> {
        let mut one = |side: usize| {
            let set = sets[side];
            let mut number = 0;
            let loaded = load(space, set, |profile| {
                if let Some(merged) = &mut merged {
                    merged[side].add(profile, set.head.work(number), self.kernel_only);
                }
                number += 1;
            });
            loaded.with_context(|| format!("cannot read `{}`", report.sides[side].name))
        };
        Ok([one(0)?, one(1)?])
    }
}

/// Reasons as they can be shown: what they quote from sets is hostile.
pub(super) fn shown(reasons: &[String]) -> Vec<String> {
    reasons.iter().map(|reason| printable(reason)).collect()
}

/// Opens a set.
pub(super) fn open(path: &Path) -> anyhow::Result<Set> {
    let file: File = regular_file::open(path).map_err(|error| {
        anyhow!(
            "cannot read `{}`: {error}; `stackwalk ci record` makes a set",
            path.display()
        )
    })?;
    Set::open(file).with_context(|| format!("cannot read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        assert_eq!(percent("5%"), Ok(0.05));
        assert_eq!(percent(" 2.5 % "), Ok(0.025));
        for text in ["0", "-1%", "100", "nan", "inf", "x", "", "5%%x"] {
            assert!(percent(text).is_err(), "{text}");
        }
        assert!(min_effect("0.01%").is_err());
        assert_eq!(alpha("0.05"), Ok(0.05));
        for text in ["0", "1", "-0.1", "nan", "x"] {
            assert!(alpha(text).is_err(), "{text}");
        }
    }
}
