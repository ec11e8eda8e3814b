//! What is said when a sampling has ended: where every event went, what it interrupted, and how
//! the walks ended.

use std::{collections::BTreeMap, time::Duration};

use walker_common::{StackKind, maps::Counters};

use crate::{
    capture::{
        events::{EventInfo, Weight},
        object::MAX_RATE,
    },
    output::duration,
    profile::{Missing, Totals},
    unwind::StopReason,
};

/// Fewer events than this share of what the frequency promises are worth a note.
const SHORTFALL: f64 = 0.95;

/// All events that were lost, for whatever reason.
pub(super) const fn lost(counters: &Counters) -> u64 {
    counters.lost_ring_full + counters.lost_no_scratch + counters.lost_throttled
}

/// What user space did not keep of the records that arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dropped {
    /// Records that could not be read.
    pub(super) malformed: u64,
    /// Waits that were too short or too long.
    pub(super) filtered_waits: u64,
    /// Waits whose end did not arrive.
    pub(super) lost_waits: u64,
    /// Samples that the disk was too slow for.
    pub(super) slow_disk: u64,
    /// Samples that naming and showing were too slow for.
    pub(super) slow_view: u64,
}

impl Dropped {
    const fn all(&self) -> u64 {
        self.malformed + self.filtered_waits + self.lost_waits + self.slow_disk + self.slow_view
    }
}

/// Where the events went, in the profile's form.
pub(super) fn totals(counters: &Counters, dropped: &Dropped) -> Totals {
    let missing = |reasons: &[(&'static str, u64)]| {
        let some = reasons.iter().filter(|(_, samples)| *samples > 0);
        some.map(|&(reason, samples)| Missing {
            reason: reason.into(),
            samples,
        })
        .collect()
    };
    Totals {
        taken: counters.taken,
        delivered: counters.delivered.saturating_sub(dropped.all()),
        lost: missing(&[
            ("ring buffer full", counters.lost_ring_full),
            ("no buffer for the CPU", counters.lost_no_scratch),
            ("faster than the limit", counters.lost_throttled),
            ("unreadable record", dropped.malformed),
            ("waits whose end was not seen", dropped.lost_waits),
            ("disk too slow", dropped.slow_disk),
            ("live view too slow", dropped.slow_view),
        ]),
        filtered: missing(&[
            ("of other tasks", counters.filtered_target),
            ("idle", counters.filtered_idle),
            ("between samples", counters.filtered_period),
            (
                "waits shorter or longer than asked for",
                dropped.filtered_waits,
            ),
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
pub(super) struct Conditions<'a> {
    pub(super) events: &'a [EventInfo],
    pub(super) cpus: usize,
    pub(super) duration: Duration,
}

/// The lines of the summary.
pub(super) fn lines(
    conditions: &Conditions<'_>,
    totals: &Totals,
    counters: &[Counters],
    walks: &Walks,
) -> Vec<String> {
    let sum = |missing: &[Missing]| missing.iter().map(|entry| entry.samples).sum::<u64>();
    let phrases: Vec<String> = conditions.events.iter().map(phrase).collect();
    let mut lines = vec![
        format!(
            "{} on {} CPUs for {:.1} s",
            phrases.join(", "),
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
    if conditions.events.len() > 1 {
        let each = conditions.events.iter().zip(counters);
        let each = each.map(|(event, counters)| {
            format!(
                "{} {} taken, {} delivered",
                event.name,
                grouped(counters.taken),
                grouped(counters.delivered)
            )
        });
        lines.push(format!("         {}", each.collect::<Vec<_>>().join("; ")));
    }
    let counters: Counters = counters.iter().copied().sum();
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
    let frequencies = conditions.events.iter().filter_map(|event| event.frequency);
    let expected = frequencies.sum::<u64>() as f64
        * conditions.cpus as f64
        * conditions.duration.as_secs_f64();
    if (totals.taken as f64) < expected * SHORTFALL {
        lines.push(format!(
            "note     the event fired less often than {expected:.0} times: it may not on CPUs that \
             sleep or while interrupts are off"
        ));
    }
    if counters.lost_throttled > 0 {
        lines.push(format!(
            "warning  {} events came faster than {} a second on a CPU and were left out, so that \
             the machine stays usable: -c PERIOD samples them evenly",
            grouped(counters.lost_throttled),
            grouped(MAX_RATE)
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

/// An event, and how often it is sampled.
fn phrase(event: &EventInfo) -> String {
    let name = &event.name;
    match (event.frequency, event.weight) {
        (Some(frequency), _) => format!("{name} at {} Hz", grouped(frequency)),
        (None, Weight::Events(period)) if period > 1 => {
            format!("{name} once in {}", grouped(period))
        }
        (None, Weight::Nanoseconds(period)) => format!("{name} every {}", duration(period)),
        (None, _) => name.clone(),
    }
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
            taken: 190,
            delivered: 60,
            filtered_target: 10,
            filtered_idle: 20,
            lost_ring_full: 7,
            lost_no_scratch: 3,
            lost_throttled: 40,
            filtered_period: 50,
            targets_missed: 5,
        };
        let dropped = Dropped {
            malformed: 2,
            filtered_waits: 3,
            lost_waits: 4,
            slow_disk: 6,
            slow_view: 6,
        };
        let totals = totals(&counters, &dropped);
        let sum = |missing: &[Missing]| missing.iter().map(|entry| entry.samples).sum::<u64>();
        assert_eq!(totals.delivered, 39);
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
