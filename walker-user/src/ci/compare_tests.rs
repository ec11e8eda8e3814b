//! Comparisons of which the truth is known.

use super::*;
use crate::ci::{
    fixture::{Stacks, run},
    stats::Random,
    sums::Scope,
};
use walker_common::StackKind;

struct Compared {
    comparison: Comparison,
}

fn compare_with(
    before: Stacks<'_>,
    after: Stacks<'_>,
    speed: f64,
    scope: Scope,
) -> Result<Compared, Refusal> {
    let mut space = Space::new(scope);
    let mut random = Random::new(3);
    let mut runs = |stacks, speed: f64| -> Vec<Run> {
        (0..10)
            .map(|_| run(&mut space, &mut random, stacks, speed))
            .collect()
    };
    let sides = [runs(before, 1.0), runs(after, speed)];
    let comparison = Comparison::new(&space, [&sides[0], &sides[1]], Options::default())?;
    Ok(Compared { comparison })
}

fn compare(before: Stacks<'_>, after: Stacks<'_>) -> Compared {
    compare_with(before, after, 1.0, Scope::default()).unwrap()
}

impl Compared {
    fn names(&self, causes: &[Cause]) -> Vec<&str> {
        let name = |cause: &Cause| self.comparison.function(cause.function).name.as_str();
        causes.iter().map(name).collect()
    }

    fn causes(&self) -> Vec<&str> {
        self.names(&self.comparison.causes)
    }

    fn status(&self, name: &str, measure: Measure) -> Status {
        let comparison = &self.comparison;
        let found = comparison.findings.iter().find(|finding| {
            comparison.function(finding.function).name == name && finding.measure == measure
        });
        found.map_or(Status::Unchanged, |finding| finding.status)
    }
}

const BEFORE: Stacks<'_> = &[
    ("app;main;parse", 4000.0),
    ("app;main;[k]syscall;[k]read;[k]copy", 3000.0),
    ("app;main;[k]syscall;[k]write;[k]copy", 1500.0),
    ("app;main;[k]syscall;[k]write;[k]lock", 500.0),
    ("app;main;[k]syscall;[k]open", 1000.0),
];

/// The same with other weights for some of the stacks.
fn changed(changes: Stacks<'static>) -> Vec<(&'static str, f64)> {
    let mut stacks: Vec<_> = BEFORE.to_vec();
    for (path, weight) in changes {
        match stacks.iter_mut().find(|(known, _)| known == path) {
            Some(known) => known.1 = *weight,
            None => stacks.push((path, *weight)),
        }
    }
    stacks
}

#[test]
fn nothing_is_found_where_nothing_changed() {
    let compared = compare(BEFORE, BEFORE);
    assert!(!compared.comparison.has(Status::Regression));
    assert!(!compared.comparison.has(Status::Improvement));
    assert!(compared.causes().is_empty());
}

#[test]
fn the_function_that_got_slower_is_named_not_its_callers() {
    let slower = changed(&[("app;main;[k]syscall;[k]write;[k]lock", 1000.0)]);
    let compared = compare(BEFORE, &slower);
    assert_eq!(compared.causes(), ["lock"]);
    let cause = &compared.comparison.causes[0];
    let path: Vec<&str> = { cause.path.iter() }
        .map(|number| compared.comparison.function(*number).name.as_str())
        .collect();
    assert_eq!(path, ["app", "main", "syscall", "write", "lock"]);
    assert!((cause.of_whole - 0.05).abs() < 0.005, "{cause:?}");
    // The way to it is tested, too.
    let way = compared
        .comparison
        .paths
        .iter()
        .find(|found| found.path == cause.path);
    assert_eq!(way.unwrap().status, Status::Regression);
    assert!((way.unwrap().effect.of_whole - 0.05).abs() < 0.005);
    let lock = compared.comparison.findings.iter();
    let lock = lock.max_by(|a, b| {
        a.effect
            .relative()
            .unwrap()
            .total_cmp(&b.effect.relative().unwrap())
    });
    let Effect { interval, q, .. } = lock.unwrap().effect;
    assert!(
        interval.low > 0.045 && interval.high < 0.055,
        "{interval:?}"
    );
    assert!(q < 0.001, "{q}");
    // 5 % of all, but less than 5 % of what main is without noise.
    assert_eq!(compared.status("parse", Measure::Own), Status::Unchanged);
}

#[test]
fn a_call_that_is_new_is_named_where_it_begins_to_spread() {
    let slower = changed(&[
        (
            "app;main;stat;[k]syscall;[k]newstat;[k]statx;[k]lookup",
            300.0,
        ),
        (
            "app;main;stat;[k]syscall;[k]newstat;[k]statx;[k]getattr",
            200.0,
        ),
    ]);
    let compared = compare(BEFORE, &slower);
    assert_eq!(compared.causes(), ["statx"]);
}

#[test]
fn independent_causes_are_all_named() {
    let slower = changed(&[
        ("app;main;[k]syscall;[k]write;[k]lock", 1000.0),
        ("app;main;parse", 4800.0),
        ("app;main;[k]syscall;[k]open", 700.0),
    ]);
    let compared = compare(BEFORE, &slower);
    assert_eq!(compared.causes(), ["lock", "parse"]);
    assert_eq!(compared.names(&compared.comparison.gains), ["open"]);
    assert_eq!(compared.status("open", Measure::Own), Status::Improvement);
}

#[test]
fn a_function_that_is_called_from_many_places_is_named_once() {
    let slower = changed(&[
        ("app;main;[k]syscall;[k]read;[k]copy", 3300.0),
        ("app;main;[k]syscall;[k]write;[k]copy", 1650.0),
    ]);
    assert_eq!(compare(BEFORE, &slower).causes(), ["copy"]);
}

#[test]
fn a_slower_machine_is_no_function_s_fault() {
    let compared = compare_with(BEFORE, BEFORE, 1.2, Scope::default()).unwrap();
    assert_eq!(compared.comparison.whole().status, Status::Regression);
    let findings = &compared.comparison.findings;
    assert!(
        findings
            .iter()
            .all(|finding| finding.status == Status::Unchanged)
    );
    assert!(
        compared.comparison.parts[1..]
            .iter()
            .all(|part| part.status == Status::Unchanged)
    );
    assert!((compared.comparison.wall.relative().unwrap() - 0.2).abs() < 1e-9);
}

#[test]
fn time_in_interrupts_is_told() {
    let slower = changed(&[("app;main;parse;[irq]tick", 300.0)]);
    let compared = compare(BEFORE, &slower);
    let irq = compared.comparison.parts.iter();
    let mut irq = irq.filter(|part| part.class == Some(FrameClass::Kernel(StackKind::Irq)));
    assert_eq!(irq.next().unwrap().status, Status::Regression);
    assert_eq!(compared.causes(), ["tick"]);
}

#[test]
fn user_space_does_not_matter_where_the_kernel_alone_is_compared() {
    let slower = changed(&[("app;main;parse", 6000.0)]);
    let kernel = Scope { kernel_only: true };
    let compared = compare_with(BEFORE, &slower, 1.0, kernel).unwrap();
    assert!(!compared.comparison.has(Status::Regression));
    assert!(compare(BEFORE, &slower).comparison.has(Status::Regression));
}

#[test]
fn what_was_inlined_split_or_renamed_has_moved() {
    let inlined = [
        ("app;main;parse", 4000.0),
        ("app;main;[k]syscall;[k]read;[k]copy", 3000.0),
        ("app;main;[k]syscall;[k]write;[k]copy", 1500.0),
        ("app;main;[k]syscall;[k]write", 500.0),
        ("app;main;[k]syscall;[k]open", 1000.0),
    ];
    let renamed = [
        ("app;main;parse", 4000.0),
        ("app;main;[k]syscall;[k]read;[k]copy", 3000.0),
        ("app;main;[k]syscall;[k]write;[k]copy", 1500.0),
        ("app;main;[k]syscall;[k]write;[k]lock_slow", 500.0),
        ("app;main;[k]syscall;[k]open", 1000.0),
    ];
    for (after, name) in [(&inlined, "write"), (&renamed, "lock_slow")] {
        for (first, second) in [(BEFORE, &after[..]), (&after[..], BEFORE)] {
            let compared = compare(first, second);
            let moved = compared.status(name, Measure::Own);
            assert_eq!(moved, Status::Moved, "{:#?}", compared.comparison.findings);
            assert_eq!(compared.status("lock", Measure::Own), Status::Moved);
            assert!(!compared.comparison.has(Status::Regression), "{name}");
            assert!(!compared.comparison.has(Status::Improvement), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let mut space = Space::new(Scope::default());
    let mut random = Random::new(3);
    let mut runs = |count: usize, stacks: Stacks<'_>| -> Vec<Run> {
        (0..count)
            .map(|_| run(&mut space, &mut random, stacks, 1.0))
            .collect()
    };
    let [four, five, empty, short] = [
        runs(4, BEFORE),
        runs(5, BEFORE),
        runs(5, &[]),
        runs(5, &[("app;main", 90.0)]),
    ];
    let refusal = |before: &[Run], after: &[Run]| {
        let refused = Comparison::new(&space, [before, after], Options::default());
        refused.unwrap_err().to_string()
    };
    assert!(refusal(&four, &four).contains("record at least 5 runs"));
    assert!(refusal(&[], &five).contains("record at least 5 runs"));
    assert!(refusal(&five, &empty).contains("run 1 of the second set has no samples"));
    assert!(refusal(&short, &five).contains("too few to see a change of 1 %"));
    let few = Comparison::new(&space, [&five, &five], Options::default()).unwrap();
    assert!(!few.lone_function_passes);
}
