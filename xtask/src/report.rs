//! The steps of a run as a person sees them: a heading and a time for each, a table at the end.
//!
//! A step that fails does not stop the next. What the steps do is not known here.

use std::time::{Duration, Instant};

use crate::tally::Tally;

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is as it should be; the note may say more.
    Ok(String),
    /// It is not, for this reason.
    Failed(String),
    /// It was left out, for this reason, which is no failure.
    NotRun(String),
}

impl From<anyhow::Result<()>> for Outcome {
    fn from(result: anyhow::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Ok(String::new()),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    outcome: Outcome,
    time: Duration,
}

/// All steps so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
}

impl Report {
    /// Runs a step under a heading.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Outcome) {
        println!("\n=== {name}");
        let begin = Instant::now();
        let outcome = work();
        let time = begin.elapsed();
        if let Outcome::Failed(reason) = &outcome {
            eprintln!("{name}: {reason}");
        }
        let step = Step {
            name,
            outcome,
            time,
        };
        println!("=== {}", step.summary());
        self.steps.push(step);
    }

    /// Whether any step failed.
    pub(crate) fn failed(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.outcome, Outcome::Failed(_)))
    }

    /// Prints the table.
    pub(crate) fn print_table(&self) {
        println!("\n=== summary");
        for step in &self.steps {
            println!("{}", step.row());
        }
    }
}

impl Step {
    fn verdict(&self) -> (&'static str, &str) {
        match &self.outcome {
            Outcome::Ok(note) => ("ok", note),
            Outcome::Failed(reason) => ("FAILED", reason),
            Outcome::NotRun(reason) => ("not run", reason),
        }
    }

    fn summary(&self) -> String {
        let (verdict, _) = self.verdict();
        format!("{}: {verdict}, {:.1} s", self.name, self.time.as_secs_f64())
    }

    fn row(&self) -> String {
        let (verdict, note) = self.verdict();
        // The whole text is above, where the step ran.
        let note = note.lines().next().unwrap_or_default();
        let row = format!(
            "{verdict:<8}{:<24}{:>7.1} s  {note}",
            self.name,
            self.time.as_secs_f64()
        );
        row.trim_end().to_owned()
    }
}

/// The counts as the note of a step.
pub(crate) fn counts(tally: &Tally) -> String {
    format!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_stop_the_next() {
        let mut report = Report::default();
        report.step("first", || Outcome::Failed("broken\nsee above".to_owned()));
        report.step("second", || Outcome::Ok(String::new()));
        report.step("third", || Outcome::NotRun("not installed".to_owned()));
        assert!(report.failed());
        let rows: Vec<String> = report
            .steps
            .iter()
            .map(|step| step.row().split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            rows,
            [
                "FAILED first 0.0 s broken",
                "ok second 0.0 s",
                "not run third 0.0 s not installed"
            ]
        );
    }

    #[test]
    fn a_step_left_out_is_no_failure() {
        let mut report = Report::default();
        report.step("only", || Outcome::NotRun(String::new()));
        assert!(!report.failed());
    }
}
