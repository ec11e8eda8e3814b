//! Whether two sets can be compared: of the same workload, measured under the same conditions, with
//! next to nothing lost.

use super::{facts::Change, load::Loaded, set::SetHead, stats::median};

/// The most that may be in code of the kernel without a name, such as what a module had that is gone.
const MAX_NAMELESS: f64 = 0.05;
/// By how much the machine's speed may differ.
const SPEED: f64 = 0.1;

/// What is another in the second set, though the sets can be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is tested: the kernel.
    pub tested: Vec<Change>,
    /// What could be the reason for a difference, and was allowed.
    pub allowed: Vec<Change>,
}

/// Compares what two sets are of.
///
/// # Errors
/// With the reasons why they cannot be compared, a line each.
pub fn heads(
    before: &SetHead,
    after: &SetHead,
    allow_env_change: bool,
) -> Result<Changes, Vec<String>> {
    let mut reasons = Vec::new();
    if before.workload != after.workload {
        reasons.push(format!(
            "the sets are of different workloads, `{}` and `{}`; record the same command, or give both \
             the same --name",
            before.workload, after.workload
        ));
    }
    if before.work_unit != after.work_unit {
        let unit = |head: &SetHead| match &head.work_unit {
            Some(unit) => format!("by `{unit}`"),
            None => "by run".to_owned(),
        };
        reasons.push(format!(
            "the sets count work in different units, {} and {}; record both with the same --work-unit",
            unit(before),
            unit(after)
        ));
    }
    for (head, name) in [(before, "first"), (after, "second")] {
        let runs = (1..).zip(&head.runs);
        for (number, run) in runs.filter(|(_, run)| run.status != 0) {
            let status = run.status;
            reasons.push(format!(
                "run {number} of the {name} set failed with status {status}"
            ));
        }
        let worked = |work: &f64| work.is_finite() && *work > 0.0;
        let runs = (1..).zip(&head.runs);
        for (number, _) in runs.filter(|(_, run)| {
            head.work_unit.is_some() && run.work.as_ref().is_none_or(|work| !worked(work))
        }) {
            reasons.push(format!(
                "run {number} of the {name} set does not say how much work it did"
            ));
        }
    }
    let [tested, mut others] = before.facts.changes(&after.facts);
    others.extend(speed(before, after));
    if !others.is_empty() && !allow_env_change {
        reasons.extend(others.iter().map(|change| {
            format!(
                "{} differs: `{}` and `{}`; --allow-env-change compares all the same",
                change.fact, change.before, change.after
            )
        }));
    }
    match reasons.is_empty() {
        true => Ok(Changes {
            tested,
            allowed: others,
        }),
        false => Err(reasons),
    }
}

/// The machine's speed, if it was another.
fn speed(before: &SetHead, after: &SetHead) -> Option<Change> {
    let [first, second] = [before, after].map(|head| {
        let times = head.runs.iter().map(|run| run.calibration_ns as f64);
        median(&times.filter(|time| *time > 0.0).collect::<Vec<_>>())
    });
    let differs = (first - second).abs() > SPEED * first.min(second);
    let text = |time: f64| format!("{:.2} ms for a fixed computation", time / 1e6);
    (first > 0.0 && second > 0.0 && differs).then(|| Change {
        fact: "the machine's speed".to_owned(),
        before: text(first),
        after: text(second),
    })
}

/// Compares how the runs were sampled, and what was lost.
///
/// # Errors
/// With the reasons why they cannot be compared.
pub fn runs(before: &Loaded, after: &Loaded, max_lost: f64) -> Result<(), Vec<String>> {
    let mut reasons = Vec::new();
    let both = !before.runs.is_empty() && !after.runs.is_empty();
    if both && (&before.events, before.unit) != (&after.events, after.unit) {
        reasons.push(format!(
            "the sets were sampled differently, by {} and by {}; record both with the same options",
            before.events.join(" and "),
            after.events.join(" and ")
        ));
    }
    if let [_, _, ..] = before.events.as_slice() {
        reasons.push("the runs have several events: record one".to_owned());
    }
    for (side, name) in [(before, "first"), (after, "second")] {
        let nameless = side.nameless_share();
        if nameless > MAX_NAMELESS {
            reasons.push(format!(
                "{:.0} % of the {name} set is in functions of the kernel without a name: its symbols were \
                 hidden when it was recorded; `stackwalk doctor` says what is missing",
                nameless * 100.0
            ));
        }
        let lost = side.lost_share();
        if lost > max_lost {
            reasons.push(format!(
                "{:.1} % of the samples of the {name} set were lost, more than {:.1} % (--max-lost): a lower \
                 -F loses less",
                lost * 100.0,
                max_lost * 100.0
            ));
        }
    }
    match reasons.is_empty() {
        true => Ok(()),
        false => Err(reasons),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ci::{compare::Run, facts::Facts, set::RunHead, sums::Sums},
        profile::Unit,
    };

    fn head(workload: &str, governor: &str, calibration_ns: u64) -> SetHead {
        let mut facts = Facts::default();
        facts.add("governor", Some(governor.to_owned()));
        facts.add("kernel release", Some(workload.to_owned()));
        let run = RunHead {
            calibration_ns,
            ..RunHead::default()
        };
        SetHead {
            workload: "make".to_owned(),
            facts,
            runs: vec![run; 3],
            ..SetHead::default()
        }
    }

    #[test]
    fn another_kernel_is_what_is_tested_and_another_machine_is_not() {
        let before = head("6.1", "performance", 100);
        let changes = heads(&before, &head("6.2", "performance", 105), false).unwrap();
        assert_eq!(changes.tested.len(), 1);
        assert!(changes.allowed.is_empty());
        for (after, what) in [
            (head("6.2", "powersave", 100), "governor differs"),
            (
                head("6.2", "performance", 120),
                "the machine's speed differs",
            ),
        ] {
            let reasons = heads(&before, &after, false).unwrap_err();
            assert!(
                reasons.len() == 1 && reasons[0].starts_with(what),
                "{reasons:?}"
            );
            assert_eq!(heads(&before, &after, true).unwrap().allowed.len(), 1);
        }
    }

    #[test]
    fn other_workloads_and_failed_runs_are_refused_whatever_is_allowed() {
        let before = head("6.1", "performance", 100);
        let mut after = before.clone();
        after.workload = "make check".to_owned();
        after.work_unit = Some("(.*) requests".to_owned());
        after.runs[1].status = 2;
        after.runs[0].work = Some(3.0);
        after.runs[2].work = Some(f64::NAN);
        let reasons = heads(&before, &after, true).unwrap_err().join("\n");
        for what in [
            "`make` and `make check`",
            "by run and by `(.*) requests`",
            "run 2 of the second set failed with status 2",
            "run 2 of the second set does not say",
            "run 3 of the second set does not say",
        ] {
            assert!(reasons.contains(what), "{what}: {reasons}");
        }
        assert!(!reasons.contains("run 1 "), "{reasons}");
    }

    #[test]
    fn what_was_lost_or_sampled_otherwise_is_told() {
        let loaded = |event: &str, lost| Loaded {
            runs: vec![Run {
                sums: Sums::default(),
                work: 1.0,
                wall_ns: 1.0,
            }],
            events: vec![event.to_owned()],
            unit: Unit::Samples,
            unit_ns: None,
            delivered: 99,
            lost,
        };
        let before = loaded("cpu-clock", 0);
        assert!(runs(&before, &loaded("cpu-clock", 1), 0.01).is_ok());
        let reasons = runs(&before, &loaded("cycles", 3), 0.01)
            .unwrap_err()
            .join("\n");
        assert!(reasons.contains("by cpu-clock and by cycles"), "{reasons}");
        assert!(
            reasons.contains("2.9 % of the samples of the second set"),
            "{reasons}"
        );
    }
}
