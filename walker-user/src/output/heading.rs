//! What every report says first of a recording: what was recorded, where the samples went, and how
//! many walks did not end where a stack ends; for people, and for programs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{grouped, percent, printable, recording, svg::wrapped, whereabouts};
use crate::profile::{Meta, Missing, Profile, Unit};

/// Writes it in lines of at most `width` columns, and an empty line.
pub(super) fn write(
    profile: &Profile,
    width: Option<usize>,
    out: &mut impl Write,
) -> io::Result<()> {
    let meta = &profile.meta;
    let mut lines = vec![
        printable(&meta.title),
        recording(profile),
        whereabouts(&meta.totals),
    ];
    let incomplete = incomplete(profile);
    if !incomplete.is_empty() {
        let samples = incomplete.iter().map(|(_, samples)| samples).sum();
        let share = percent(samples, profile.samples());
        let reasons = incomplete.iter();
        let reasons = reasons.map(|(reason, samples)| format!("{} {reason}", grouped(*samples)));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let samples = grouped(samples);
        lines.push(format!(
            "{samples} walks incomplete ({share:.2} %): {reasons}"
        ));
    }
    for line in lines.iter().filter(|line| !line.is_empty()) {
        for line in wrapped(line, width.unwrap_or(usize::MAX)) {
            writeln!(out, "{line}")?;
        }
    }
    writeln!(out)
}

/// The samples whose walks did not end where a stack ends, by reason, the most frequent first.
fn incomplete(profile: &Profile) -> Vec<(&'static str, u64)> {
    let mut reasons: BTreeMap<&'static str, u64> = BTreeMap::new();
    for stack in profile.stacks().iter().filter(|stack| !stack.complete) {
        *reasons.entry(stack.stop).or_default() += stack.samples;
    }
    let mut reasons: Vec<_> = reasons.into_iter().filter(|reason| reason.1 > 0).collect();
    reasons.sort_by_key(|reason| Reverse(reason.1));
    reasons
}

/// A recording, in the JSON objects of all reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Recording<'a> {
    title: &'a str,
    events: &'a [String],
    unit: &'static str,
    frequency: Option<u64>,
    duration_ns: u64,
    samples: u64,
    weight: u64,
    taken: u64,
    delivered: u64,
    lost: Vec<Count<'a>>,
    filtered: Vec<Count<'a>>,
    walks_complete: u64,
    walks_incomplete: Vec<Count<'a>>,
}

/// So many samples for a reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Count<'a> {
    reason: &'a str,
    samples: u64,
}

impl<'a> Recording<'a> {
    /// What is said of `profile`.
    #[must_use]
    pub(super) fn of(profile: &'a Profile) -> Self {
        let Meta {
            title,
            events,
            unit,
            frequency,
            duration,
            totals,
        } = &profile.meta;
        let counts = |missing: &'a [Missing]| {
            let counts = missing.iter().map(|missing| Count {
                reason: &missing.reason,
                samples: missing.samples,
            });
            counts.collect()
        };
        let incomplete = incomplete(profile).into_iter();
        let incomplete = incomplete.map(|(reason, samples)| Count { reason, samples });
        Self {
            title,
            events,
            unit: unit_name(*unit),
            frequency: *frequency,
            duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            samples: profile.samples(),
            weight: profile.weight(),
            taken: totals.taken,
            delivered: totals.delivered,
            lost: counts(&totals.lost),
            filtered: counts(&totals.filtered),
            walks_complete: profile.complete_samples(),
            walks_incomplete: incomplete.collect(),
        }
    }
}

/// What weights are in, in one word.
pub(super) const fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Samples => "samples",
        Unit::Events => "events",
        Unit::Nanoseconds => "nanoseconds",
    }
}

#[cfg(test)]
mod tests {
    use super::{Recording, write};
    use crate::profile::fixture;

    #[test]
    fn what_was_recorded_lost_and_not_walked_is_said() {
        let mut out = Vec::new();
        write(&fixture::profile(), Some(60), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
make -j2
cpu-clock, 997 Hz, 1.5 s, 100 samples, 92.00 % walked to the
end
110 taken, 100 delivered; 6 lost (5.45 %): 5 ring buffer
full, 1 no memory; 4 filtered out: 4 idle
8 walks incomplete (8.00 %): 8 no unwind information

"
        );
    }

    #[test]
    fn programs_are_told_the_same() {
        let profile = fixture::profile();
        let recording = serde_json::to_value(Recording::of(&profile)).unwrap();
        assert_eq!(recording["unit"], "samples");
        assert_eq!(recording["duration_ns"], 1_500_000_000);
        assert_eq!(recording["lost"][1]["reason"], "no memory");
        assert_eq!(recording["walks_complete"], 92);
        assert_eq!(recording["walks_incomplete"][0]["samples"], 8);
    }
}
