//! What is said when a sampling has ended: where every event went, what it interrupted, and how
//! the walks ended.

use std::{collections::BTreeMap, time::Duration};

use walker_common::{StackKind, maps::Counters};

use crate::{
    profile::{Missing, Totals},
    sys::perf::SamplingClock,
    unwind::StopReason,
};

/// Fewer events than this share of what the frequency promises are worth a note.
const SHORTFALL: f64 = 0.95;

/// All events that were lost, for whatever reason.
pub(super) const fn lost(counters: &Counters) -> u64 {
    counters.lost_ring_full + counters.lost_no_scratch
}

/// Where the events went, in the profile's form. `malformed` are records that could not be read.
pub(super) fn totals(counters: &Counters, malformed: u64) -> Totals {
    let missing = |reasons: &[(&'static str, u64)]| {
        let some = reasons.iter().filter(|(_, samples)| *samples > 0);
        some.map(|&(reason, samples)| Missing { reason, samples })
            .collect()
    };
    Totals {
        taken: counters.taken,
        delivered: counters.delivered - malformed.min(counters.delivered),
        lost: missing(&[
            ("ring buffer full", counters.lost_ring_full),
            ("no buffer for the CPU", counters.lost_no_scratch),
            ("unreadable record", malformed),
        ]),
        filtered: missing(&[
            ("of other tasks", counters.filtered_target),
            ("idle", counters.filtered_idle),
        ]),
    }
}

/// Counts of walks.
#[derive(Debug, Default)]
pub(super) struct Walks {
    user: u64,
    kernel: BTreeMap<StackKind, u64>,
    stops: BTreeMap<&'static str, u64>,
    incomplete: u64,
    no_cpu_table: u64,
    user_stops: BTreeMap<&'static str, u64>,
    user_incomplete: u64,
}

impl Walks {
    /// Counts one walk, by the stack that was interrupted and how it ended.
    pub(super) fn add(&mut self, interrupted: StackKind, stop: &StopReason, no_cpu_table: bool) {
        if *stop == StopReason::UserSample {
            self.user += 1;
            return;
        }
        *self.kernel.entry(interrupted).or_default() += 1;
        *self.stops.entry(stop.name()).or_default() += 1;
        self.incomplete += u64::from(!stop.is_complete());
        self.no_cpu_table += u64::from(no_cpu_table);
    }

    /// Counts the walk of a user stack.
    pub(super) fn add_user(&mut self, stop: &StopReason) {
        *self.user_stops.entry(stop.name()).or_default() += 1;
        self.user_incomplete += u64::from(!stop.is_complete());
    }

    /// Kernel-mode samples.
    pub(super) fn kernel_samples(&self) -> u64 {
        self.kernel.values().sum()
    }

    /// Samples that interrupted this kind of stack.
    pub(super) fn on_stack(&self, kind: StackKind) -> u64 {
        self.kernel.get(&kind).copied().unwrap_or(0)
    }

    /// How the walks of kernel-mode samples ended.
    pub(super) const fn stops(&self) -> &BTreeMap<&'static str, u64> {
        &self.stops
    }
}

/// How it was sampled.
pub(super) struct Conditions {
    pub(super) clock: SamplingClock,
    pub(super) frequency: u64,
    pub(super) cpus: usize,
    pub(super) duration: Duration,
}

/// The lines of the summary.
pub(super) fn lines(
    conditions: &Conditions,
    totals: &Totals,
    counters: &Counters,
    walks: &Walks,
) -> Vec<String> {
    let sum = |missing: &[Missing]| missing.iter().map(|entry| entry.samples).sum::<u64>();
    let mut lines = vec![
        format!(
            "{} at {} Hz on {} CPUs for {:.1} s",
            conditions.clock.name(),
            grouped(conditions.frequency),
            conditions.cpus,
            conditions.duration.as_secs_f64()
        ),
        format!(
            "events   {} taken = {} delivered + {} lost{} + {} filtered{}",
            grouped(totals.taken),
            grouped(totals.delivered),
            grouped(sum(&totals.lost)),
            reasons(&totals.lost),
            grouped(sum(&totals.filtered)),
            reasons(&totals.filtered),
        ),
    ];
    let mut contexts = vec![format!("user mode {}", grouped(walks.user))];
    contexts.extend(walks.kernel.iter().map(|(kind, samples)| {
        let kind = if *kind == StackKind::Unknown {
            "unknown"
        } else {
            kind.name()
        };
        format!("kernel on {kind} stack {}", grouped(*samples))
    }));
    lines.push(format!("context  {}", contexts.join(", ")));
    for (side, stops, incomplete) in [
        ("kernel", &walks.stops, walks.incomplete),
        ("user", &walks.user_stops, walks.user_incomplete),
    ] {
        let all: u64 = stops.values().sum();
        if all > 0 {
            let stops = stops
                .iter()
                .map(|(stop, samples)| format!("{stop} {}", grouped(*samples)));
            lines.push(format!(
                "walks    {side} {} complete: {}",
                percent(all - incomplete, all),
                stops.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    let expected =
        conditions.frequency as f64 * conditions.cpus as f64 * conditions.duration.as_secs_f64();
    if (totals.taken as f64) < expected * SHORTFALL {
        lines.push(format!(
            "note     the event fired less often than {expected:.0} times: it may not on CPUs that \
             sleep or while interrupts are off"
        ));
    }
    if counters.targets_missed > 0 {
        lines.push(format!(
            "warning  {} new processes or threads of the target were not followed: too many at once",
            grouped(counters.targets_missed)
        ));
    }
    if walks.no_cpu_table > 0 {
        lines.push(format!(
            "warning  {} samples came from a CPU that was offline at the start: only its task \
             stacks could be walked",
            grouped(walks.no_cpu_table)
        ));
    }
    lines
}

fn reasons(missing: &[Missing]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let each = missing
        .iter()
        .map(|entry| format!("{} {}", grouped(entry.samples), entry.reason));
    format!(" ({})", each.collect::<Vec<_>>().join(", "))
}

/// A share that says 100 % only if it is all, and 0 % only if it is nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if part == whole {
        return "100 %".to_owned();
    }
    let share = part as f64 / whole.max(1) as f64 * 100.0;
    format!("{:.3} %", share.min(99.999))
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    crate::output::grouped(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_in_the_totals() {
        let counters = Counters {
            taken: 100,
            delivered: 60,
            filtered_target: 10,
            filtered_idle: 20,
            lost_ring_full: 7,
            lost_no_scratch: 3,
            targets_missed: 5,
        };
        let totals = totals(&counters, 2);
        let sum = |missing: &[Missing]| missing.iter().map(|entry| entry.samples).sum::<u64>();
        assert_eq!(totals.delivered, 58);
        assert_eq!(
            totals.delivered + sum(&totals.lost) + sum(&totals.filtered),
            totals.taken
        );
    }

    #[test]
    fn a_share_is_not_rounded_to_all() {
        assert_eq!(percent(1, 1), "100 %");
        assert_eq!(percent(9_999_999, 10_000_000), "99.999 %");
        assert_eq!(percent(1, 2), "50.000 %");
    }

    #[test]
    fn user_samples_are_no_walks() {
        let mut walks = Walks::default();
        walks.add(StackKind::Unknown, &StopReason::UserSample, false);
        walks.add(StackKind::Irq, &StopReason::UserMode, false);
        walks.add(StackKind::Irq, &StopReason::NoUnwindInfo { ip: 1 }, false);
        assert_eq!(walks.kernel_samples(), 2);
        assert_eq!(walks.on_stack(StackKind::Irq), 2);
        assert_eq!((walks.user, walks.incomplete), (1, 1));
    }
}
