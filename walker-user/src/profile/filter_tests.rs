use std::collections::BTreeMap;

use proptest::prelude::*;
use walker_common::StackKind;

use super::{Filter, TimeBound, TimeRange};
use crate::{
    output::folded,
    profile::{fixture, timeline::Timeline},
};

const fn seconds(from: Option<u64>, to: Option<u64>) -> TimeRange {
    const fn bound(seconds: Option<u64>) -> Option<TimeBound> {
        match seconds {
            Some(seconds) => Some(TimeBound::Nanoseconds(seconds * 1_000_000_000)),
            None => None,
        }
    }
    TimeRange {
        from: bound(from),
        to: bound(to),
    }
}

const fn percent(from: f64, to: f64) -> TimeRange {
    TimeRange {
        from: Some(TimeBound::Percent(from)),
        to: Some(TimeBound::Percent(to)),
    }
}

fn left(filter: &Filter) -> u64 {
    fixture::timeline().filtered(filter).profile.samples()
}

/// What the stacks of a recording weigh, by how they are shown.
fn weights(timeline: &Timeline) -> BTreeMap<String, u64> {
    let mut out = Vec::new();
    folded::write(&timeline.profile, &folded::Options::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().map(|line| line.rsplit_once(' ').unwrap());
    lines
        .map(|(stack, weight)| (stack.to_owned(), weight.parse().unwrap()))
        .collect()
}

#[test]
fn every_criterion_leaves_what_meets_it() {
    let default = Filter::default;
    for (samples, filter) in [
        (100, default()),
        (
            8,
            Filter {
                comm: vec!["make".to_owned()],
                ..default()
            },
        ),
        (
            100,
            Filter {
                pid: vec![42],
                ..default()
            },
        ),
        (
            64,
            Filter {
                tid: vec![42],
                ..default()
            },
        ),
        (
            50,
            Filter {
                cpu: vec![1..=7],
                ..default()
            },
        ),
        (
            27,
            Filter {
                stack_kind: vec![StackKind::Irq],
                ..default()
            },
        ),
        (
            20,
            Filter {
                grep: Some(regex::Regex::new("^asm_exc_").unwrap()),
                ..default()
            },
        ),
        (
            0,
            Filter {
                event: vec!["page-faults".to_owned()],
                ..default()
            },
        ),
    ] {
        assert_eq!(left(&filter), samples, "{filter:?}");
    }
}

#[test]
fn times_begin_with_their_begin_and_end_before_their_end() {
    // A sample each 15 ms.
    for (samples, ranges) in [
        (67, vec![seconds(None, Some(1))]),
        (33, vec![seconds(Some(1), None)]),
        (10, vec![percent(10.0, 20.0)]),
        (10, vec![percent(90.0, 100.0)]),
        (20, vec![percent(10.0, 20.0), percent(90.0, 100.0)]),
        (15, vec![percent(10.0, 20.0), percent(15.0, 25.0)]),
        (0, vec![seconds(Some(5), None)]),
    ] {
        let filter = Filter {
            time: ranges,
            ..Filter::default()
        };
        assert_eq!(left(&filter), samples, "{filter:?}");
    }
    let filter = Filter {
        time: vec![percent(10.0, 20.0), percent(15.0, 25.0)],
        ..Filter::default()
    };
    let covered = filter.duration(&fixture::timeline());
    assert_eq!(covered.as_millis(), 225);
}

#[test]
fn the_totals_say_what_was_left_out() {
    let all = fixture::timeline();
    let some = all.filtered(&Filter {
        comm: vec!["make".to_owned()],
        cpu: vec![0..=0],
        ..Filter::default()
    });
    let totals = &some.profile.meta.totals;
    assert_eq!(totals.delivered, some.points.len() as u64);
    let line = totals.filtered.last().unwrap();
    assert_eq!(line.samples, 100 - totals.delivered);
    assert_eq!(line.reason, "of another process name, CPU than asked for");
    let filtered: u64 = totals.filtered.iter().map(|line| line.samples).sum();
    let lost: u64 = totals.lost.iter().map(|line| line.samples).sum();
    assert_eq!(totals.taken, totals.delivered + lost + filtered);
}

#[test]
fn samples_keep_their_number_stack_and_stacks_in_use() {
    let all = fixture::timeline();
    let some = all.filtered(&Filter {
        stack_kind: vec![StackKind::Nmi],
        ..Filter::default()
    });
    assert_eq!(some.points.len(), 20);
    for point in &some.points {
        let before = &all.points[point.number as usize - 1];
        assert_eq!(before.number, point.number);
        assert_eq!(some.uses_of(point), all.uses_of(before));
        assert_eq!(
            some.profile.stacks()[point.stack as usize].frames,
            all.profile.stacks()[before.stack as usize].frames
        );
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let timeline = fixture::timeline();
    let error = |filter: Filter| filter.check(&timeline).unwrap_err().to_string();
    assert_eq!(
        error(Filter {
            comm: vec!["make".to_owned(), "cc".to_owned()],
            ..Filter::default()
        }),
        "no process or thread of the name `cc` in this recording; it has cc1, make"
    );
    assert_eq!(
        error(Filter {
            tid: vec![41],
            ..Filter::default()
        }),
        "no thread `41` in this recording; it has 42, 43"
    );
    assert_eq!(
        error(Filter {
            event: vec!["irq".to_owned()],
            ..Filter::default()
        }),
        "no event `irq` in this recording; it has cpu-clock"
    );
    let right = Filter {
        pid: vec![42],
        tid: vec![43],
        comm: vec!["make".to_owned()],
        event: vec!["cpu-clock".to_owned()],
        ..Filter::default()
    };
    assert_eq!(right.check(&timeline), Ok(()));
}

proptest! {
    /// What is before a time and what is not are together everything, stack by stack.
    #[test]
    fn left_and_left_out_are_all(at in 0..=100_u32, cpu in 0..2_u32) {
        let mut all = fixture::timeline();
        let mut stacks = all.profile.stacks().to_vec();
        stacks.iter_mut().for_each(|stack| stack.weight = 0);
        for point in &mut all.points {
            point.weight = u64::from(point.number);
            stacks[point.stack as usize].weight += point.weight;
        }
        all.profile = all.profile.with_stacks(all.profile.meta.clone(), stacks);
        let time = |range| Filter { time: vec![range], ..Filter::default() };
        let at = f64::from(at);
        let halves = [time(percent(0.0, at)), time(percent(at, 100.0))];
        let cpus = [0..=cpu, cpu + 1..=u32::MAX];
        let cpus = cpus.map(|cpus| Filter { cpu: vec![cpus], ..Filter::default() });
        for filters in [halves, cpus] {
            let parts = filters.map(|filter| all.filtered(&filter));
            let mut sum: BTreeMap<String, u64> = BTreeMap::new();
            for part in &parts {
                let samples = part.profile.samples();
                prop_assert_eq!(samples, part.points.len() as u64);
                prop_assert_eq!(part.profile.meta.totals.delivered, samples);
                for (stack, weight) in weights(part) {
                    *sum.entry(stack).or_default() += weight;
                }
            }
            prop_assert_eq!(sum, weights(&all));
        }
    }
}
