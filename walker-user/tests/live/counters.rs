//! Every event is delivered, filtered or lost, and counted as that.

use walker_user::capture::target::{RunningTask, Target};

use crate::{
    Test,
    capture::{Capture, options},
    helper::{COPY, Helper, Role},
    load::{Kind, Load, MIXED},
    support::Place,
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(the_sum_is_right_over_the_whole_system),
    test!(the_sum_is_right_with_a_filter),
    test!(a_ring_that_is_not_read_loses_samples_and_counts_them),
    test!(a_ring_that_is_too_small_loses_samples_and_counts_them),
];

fn the_sum_is_right_over_the_whole_system() {
    let _load = Load::start(&MIXED);
    let mut capture = Capture::start(&options(&Target::System));
    capture.until("1000 samples", |seen| seen.len() >= 1000);
    let counters = capture.stop();
    assert_eq!(counters.filtered_target, 0, "{counters:?}");
    assert_eq!(counters.lost_no_scratch, 0, "{counters:?}");
}

fn the_sum_is_right_with_a_filter() {
    let mine = Helper::start("swmine", Role::Spin(120_000));
    let _other = Helper::start("swother", Role::Spin(120_000));
    let task = RunningTask::process(mine.pid()).unwrap();
    let target = Target::Processes(vec![task]);
    let mut capture = Capture::start(&options(&target));
    capture.until("300 samples", |seen| seen.len() >= 300);
    capture.until_filtered();
    let counters = capture.stop();
    assert_eq!(counters.targets_missed, 0, "{counters:?}");
}

fn a_ring_that_is_not_read_loses_samples_and_counts_them() {
    let _load = Load::start(&[Kind::Tcp, Kind::SystemCalls]);
    let target = Target::System;
    let mut options = options(&target);
    options.ring_bytes = Some(64 << 10);
    let mut capture = Capture::start(&options);
    crate::wait::until("the ring buffer overflows", || {
        capture.session.counters().unwrap()[0].lost_ring_full > 100
    });
    // It goes on where it is read again: what was in the ring, and much more.
    let mut full = 0;
    capture.until("what the ring held", |seen| {
        full = seen.len();
        full > 0
    });
    capture.until("new samples", |seen| seen.len() > full + 200);
    let counters = capture.stop();
    assert!(counters.lost_ring_full > 100, "{counters:?}");
}

fn a_ring_that_is_too_small_loses_samples_and_counts_them() {
    let place = Place::new();
    let record = [
        "record",
        "-d",
        "1",
        "-F",
        "4000",
        "--ring-size",
        "4",
        "-o",
        "run.folded",
        "--",
    ];
    let run = place.run(&[&record, &COPY[..]].concat());
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_eq!(place.files(), ["run.folded"]);
    let events = Events::of(&run.stderr);
    assert!(events.lost > 0, "{run:?}");
    assert!(run.stderr.contains("ring buffer full"), "{run:?}");
    events.assert_sum();
}

/// The figures that a user sees.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) taken: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) filtered: u64,
}

impl Events {
    /// Finds the line `stackwalk: events   1,987 taken = 1,980 delivered + 7 lost (...) + ...`.
    pub(crate) fn of(stderr: &str) -> Self {
        let line = stderr
            .lines()
            .find_map(|line| line.strip_prefix("stackwalk: events "));
        let line = line.unwrap_or_else(|| panic!("no line of events in: {stderr}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let before = |what: &str| -> u64 {
            let at = words.iter().position(|word| *word == what).unwrap();
            words[at - 1].replace(',', "").parse().unwrap()
        };
        Self {
            taken: before("taken"),
            delivered: before("delivered"),
            lost: before("lost"),
            filtered: before("filtered"),
        }
    }

    pub(crate) fn assert_sum(&self) {
        assert!(self.taken > 0);
        assert_eq!(
            self.taken,
            self.delivered + self.lost + self.filtered,
            "{self:?}"
        );
    }
}
