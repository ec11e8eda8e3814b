//! The options that say which events are sampled.

use std::time::Duration;

use clap::Args;

use super::DEFAULT_FREQUENCY;
use crate::{
    capture::{
        clock,
        event::EventSpec,
        events::{EventsWanted, Rates, Waits},
    },
    waits::Bounds,
};

/// Which events, and how often.
#[derive(Debug, Clone, Args)]
pub(super) struct EventArgs {
    /// Sample these events instead of CPU time: perf's names (page-faults, context-switches,
    /// cache-misses, …), CATEGORY:TRACEPOINT, mem:ADDRESS[/BYTES][:rw], kprobe:FUNCTION,
    /// fentry:FUNCTION, fexit:FUNCTION, uprobe:BINARY:SYMBOL
    #[arg(short, long, value_name = "EVENT,…", value_delimiter = ',')]
    event: Vec<EventSpec>,
    /// Samples a second on each CPU, of CPU time and of hardware events [default: 997]
    #[arg(short = 'F', long, value_name = "HZ", conflicts_with = "count",
        value_parser = clap::value_parser!(u64).range(1..))]
    frequency: Option<u64>,
    /// Sample once in so many events (of CPU time: nanoseconds)
    #[arg(short, long, value_name = "PERIOD", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// What a task does that does not run.
#[derive(Debug, Args)]
pub(super) struct TimeArgs {
    /// Show where tasks wait instead of where they run: by the stack that went to sleep, with who
    /// woke it, weighted by time
    #[arg(long)]
    off_cpu: bool,
    /// Show all time: running, waiting, and waiting for a CPU
    #[arg(long, conflicts_with = "off_cpu")]
    wall: bool,
    /// Also show how long interrupts and softirqs took, on the stacks that they interrupted
    #[arg(long)]
    irq: bool,
    /// Leave out waits that are shorter, such as 10us or 1ms
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    min_wait: Option<Duration>,
    /// Leave out waits that are longer
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    max_wait: Option<Duration>,
}

impl EventArgs {
    /// These, at another frequency if none and no period is asked for.
    pub(super) fn or_frequency(&self, frequency: Option<u64>) -> Self {
        let or = frequency.filter(|_| self.count.is_none());
        Self {
            frequency: self.frequency.or(or),
            ..self.clone()
        }
    }

    /// The samples a second of a clock.
    pub(super) fn frequency(&self) -> u64 {
        self.frequency.unwrap_or(DEFAULT_FREQUENCY)
    }

    /// What is asked for besides waits and interrupts; the clock that suits the machine if that is
    /// nothing.
    pub(super) fn wanted(&self) -> EventsWanted {
        let specs = match self.event.is_empty() {
            true => vec![clock::choose()],
            false => self.event.clone(),
        };
        self.with(specs)
    }

    /// These and nothing else.
    fn with(&self, specs: Vec<EventSpec>) -> EventsWanted {
        EventsWanted {
            specs,
            rates: Rates {
                frequency: Some(self.frequency()),
                period: self.count,
            },
            waits: None,
            irqs: false,
        }
    }
}

impl TimeArgs {
    /// The events of a recording.
    pub(super) fn wanted(&self, events: &EventArgs) -> EventsWanted {
        let waits = match (self.off_cpu, self.wall) {
            (true, _) => Some(Waits::Blocked),
            (_, true) => Some(Waits::All),
            _ => None,
        };
        let wanted = if !events.event.is_empty() || waits.is_none() && !self.irq {
            events.wanted()
        } else if self.off_cpu && !self.irq {
            events.with(Vec::new())
        } else {
            // Only a clock measures time.
            events.with(vec![EventSpec::named("cpu-clock")])
        };
        EventsWanted {
            waits,
            irqs: self.irq,
            ..wanted
        }
    }

    /// Which waits are of interest.
    pub(super) fn bounds(&self) -> anyhow::Result<Bounds> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bounds = Bounds {
            min_ns: self.min_wait.map_or(0, nanoseconds),
            max_ns: self.max_wait.map_or(u64::MAX, nanoseconds),
        };
        anyhow::ensure!(
            self.off_cpu || self.wall || self.min_wait.is_none() && self.max_wait.is_none(),
            "--min-wait and --max-wait are for --off-cpu and --wall"
        );
        anyhow::ensure!(
            bounds.min_ns <= bounds.max_ns,
            "--min-wait is longer than --max-wait: nothing would be left"
        );
        Ok(bounds)
    }
}

/// A number with `ns`, `us`, `ms` or `s`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err("not a time with its unit, such as 10us, 1ms or 2s".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        events: EventArgs,
        #[command(flatten)]
        time: TimeArgs,
    }

    fn wanted(arguments: &[&str]) -> EventsWanted {
        let line = Line::try_parse_from([&["x"], arguments].concat()).unwrap();
        line.time.wanted(&line.events)
    }

    fn names(wanted: &EventsWanted) -> Vec<&str> {
        wanted.specs.iter().map(|spec| spec.name.as_str()).collect()
    }

    #[test]
    fn what_is_asked_for_is_what_is_sampled() {
        let two = wanted(&["-e", "page-faults,sched:sched_switch", "-c", "5"]);
        assert_eq!(names(&two), ["page-faults", "sched:sched_switch"]);
        assert_eq!(two.rates.period, Some(5));
        assert_eq!(names(&wanted(&[])).len(), 1);
        let blocked = wanted(&["--off-cpu"]);
        assert_eq!(
            (names(&blocked).len(), blocked.waits),
            (0, Some(Waits::Blocked))
        );
        let wall = wanted(&["--wall", "-F", "99"]);
        assert_eq!(names(&wall), ["cpu-clock"]);
        assert_eq!(
            (wall.waits, wall.rates.frequency),
            (Some(Waits::All), Some(99))
        );
        let irq = wanted(&["--irq"]);
        assert_eq!(
            (names(&irq).as_slice(), irq.irqs),
            (&["cpu-clock"][..], true)
        );
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!(parse_time("10us"), Ok(Duration::from_micros(10)));
        for wrong in ["", "5", "ms", "-1s", "1e400s", "5m"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_that_leave_nothing_are_refused() {
        for (arguments, right) in [
            (&["--off-cpu", "--min-wait", "1ms"][..], true),
            (
                &["--off-cpu", "--min-wait", "2ms", "--max-wait", "1ms"],
                false,
            ),
            (&["--min-wait", "1ms"], false),
        ] {
            let line = Line::try_parse_from([&["x"], arguments].concat()).unwrap();
            assert_eq!(line.time.bounds().is_ok(), right, "{arguments:?}");
        }
    }
}
