//! Which interrupts, softirqs and exceptions ran, for how long, and whom they interrupted.
//!
//! Recordings with `--irq` have measured each of them. In others, samples that were taken in one
//! are counted, and what each stands for is taken as the time: an estimate, which the report says.
//! A sample counts for the innermost handler that it is in, so that times add up.

use std::io::{self, Write};

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::super::{
    duration, grouped,
    heading::{self, Recording},
    json_text, percent, printable,
    table::{Side, Table},
};
use crate::profile::{
    FrameClass, Profile, Unit, WeightedStack, handlers::Handling, timeline::Timeline,
};

/// The event that measures interrupts.
const MEASURED: &str = "irq";
/// Events whose frequency is one of time.
const CLOCKS: [&str; 4] = ["cpu-clock", "task-clock", "cycles", "cpu-cycles"];
/// What a victim is called that nothing is known of.
const NOTHING: &str = "[nothing below]";

/// What to show.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many handlers to show; `None` for all of them.
    pub limit: Option<usize>,
    /// How many victims of each.
    pub victims: usize,
    /// Columns of the terminal; `None` to shorten nothing.
    pub width: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit: None,
            victims: 3,
            width: None,
        }
    }
}

/// Where the times of a report are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Times {
    /// Each interrupt was measured.
    Measured,
    /// From how often samples were taken.
    Estimated,
    /// Nobody knows what time a sample stands for.
    Unknown,
}

/// How often, and how long together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    samples: u64,
    time_ns: u64,
}

/// A process and the function in it that was interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Victim<'a> {
    comm: &'a str,
    function: &'a str,
    samples: u64,
    time_ns: Option<u64>,
}

/// What is known of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Handler<'a> {
    handler: String,
    samples: u64,
    time_ns: Option<u64>,
    mean_ns: Option<u64>,
    max_ns: Option<u64>,
    victims: Vec<Victim<'a>>,
    victims_left_out: usize,
}

/// The JSON object of a report.
#[derive(Debug, Serialize)]
struct Object<'a> {
    format: &'static str,
    version: u32,
    recording: Recording<'a>,
    by: &'static str,
    times: Times,
    rows: Vec<Handler<'a>>,
    rows_left_out: usize,
}

/// A stack that is in a handler.
struct Interrupt<'a> {
    handler: String,
    victim: (&'a str, &'a str),
}

struct Report<'a> {
    times: Times,
    handlers: Vec<Handler<'a>>,
    left_out: usize,
    /// What all samples in handlers are together.
    all: Sum,
}

impl<'a> Report<'a> {
    fn new(timeline: &'a Timeline, options: &Options) -> Self {
        let profile = &timeline.profile;
        let meta = &profile.meta;
        let measured = meta.events.iter().position(|event| event == MEASURED);
        let times = match (measured, meta.unit) {
            (Some(_), _) => Times::Measured,
            (None, Unit::Nanoseconds) => Times::Estimated,
            (None, Unit::Samples) if period_ns(profile).is_some() => Times::Estimated,
            _ => Times::Unknown,
        };
        let time_of = |weight| match (times, meta.unit) {
            (Times::Unknown, _) => 0,
            (_, Unit::Nanoseconds) => weight,
            _ => weight * period_ns(profile).unwrap_or(0),
        };
        let interrupts: Vec<Option<Interrupt<'a>>> = profile
            .stacks()
            .iter()
            .map(|stack| match measured {
                Some(event) if stack.event != event => None,
                Some(_) => measured_interrupt(profile, stack),
                None => sampled_interrupt(profile, stack),
            })
            .collect();

        let mut longest: FxHashMap<&str, u64> = FxHashMap::default();
        for point in &timeline.points {
            if let Some(interrupt) = &interrupts[point.stack as usize] {
                let longest = longest.entry(&interrupt.handler).or_default();
                *longest = point.weight.max(*longest);
            }
        }
        let mut sums: FxHashMap<&str, FxHashMap<(&str, &str), Sum>> = FxHashMap::default();
        let mut all = Sum::default();
        for (interrupt, stack) in interrupts.iter().zip(profile.stacks()) {
            if let Some(interrupt) = interrupt {
                let victims = sums.entry(&interrupt.handler).or_default();
                for sum in [victims.entry(interrupt.victim).or_default(), &mut all] {
                    sum.samples += stack.samples;
                    sum.time_ns += time_of(stack.weight);
                }
            }
        }

        let known = |time_ns| (times != Times::Unknown).then_some(time_ns);
        let mut handlers: Vec<Handler<'a>> = sums
            .into_iter()
            .map(|(name, victims)| {
                let mut victims: Vec<_> = victims.into_iter().collect();
                victims.sort_by(|(name, sum), (other_name, other)| {
                    let key = |sum: &Sum| (sum.time_ns, sum.samples);
                    key(other).cmp(&key(sum)).then(name.cmp(other_name))
                });
                let samples = victims.iter().map(|(_, sum)| sum.samples).sum();
                let time_ns = victims.iter().map(|(_, sum)| sum.time_ns).sum();
                let is_measured = times == Times::Measured;
                let shown = victims.len().min(options.victims);
                let victims_left_out = victims.len() - shown;
                victims.truncate(shown);
                let victims = victims.into_iter();
                Handler {
                    handler: name.to_owned(),
                    samples,
                    time_ns: known(time_ns),
                    mean_ns: is_measured.then(|| time_ns / samples.max(1)),
                    max_ns: longest.get(name).copied().filter(|_| is_measured),
                    victims: victims
                        .map(|((comm, function), sum)| Victim {
                            comm,
                            function,
                            samples: sum.samples,
                            time_ns: known(sum.time_ns),
                        })
                        .collect(),
                    victims_left_out,
                }
            })
            .collect();
        handlers.sort_by(|a, b| {
            let key = |handler: &Handler<'_>| (handler.time_ns, handler.samples);
            key(b).cmp(&key(a)).then_with(|| a.handler.cmp(&b.handler))
        });
        let shown = options.limit.unwrap_or(handlers.len()).min(handlers.len());
        let left_out = handlers.len() - shown;
        handlers.truncate(shown);
        Self {
            times,
            handlers,
            left_out,
            all,
        }
    }
}

/// The time that a sample stands for, if it is one of a clock.
fn period_ns(profile: &Profile) -> Option<u64> {
    let meta = &profile.meta;
    let is_clock = matches!(meta.events.as_slice(), [event] if CLOCKS.contains(&event.as_str()));
    let frequency = meta
        .frequency
        .filter(|frequency| is_clock && *frequency > 0);
    frequency.map(|frequency| 1_000_000_000 / frequency)
}

/// The interrupt that a stack of the event [`MEASURED`] is of.
fn measured_interrupt<'a>(profile: &'a Profile, stack: &WeightedStack) -> Option<Interrupt<'a>> {
    let (&leaf, frames) = stack.frames.split_last()?;
    let label = profile.label(leaf);
    if label.class != FrameClass::Note {
        return None;
    }
    // Without a known entry on the stack, the whole of it is what was interrupted.
    let interrupted = profile
        .handling(stack)
        .map_or(frames.len(), |handling| handling.interrupted);
    Some(Interrupt {
        handler: profile.text(label.name).to_owned(),
        victim: victim(profile, stack, interrupted),
    })
}

fn sampled_interrupt<'a>(profile: &'a Profile, stack: &WeightedStack) -> Option<Interrupt<'a>> {
    let Handling {
        handler,
        interrupted,
    } = profile.handling(stack)?;
    Some(Interrupt {
        handler,
        victim: victim(profile, stack, interrupted),
    })
}

/// The process, and the innermost of its functions that were interrupted.
fn victim<'a>(
    profile: &'a Profile,
    stack: &WeightedStack,
    interrupted: usize,
) -> (&'a str, &'a str) {
    let frames = &stack.frames[..interrupted];
    let innermost = frames.last().map(|&id| profile.label(id).name);
    let function = innermost.map_or(NOTHING, |name| profile.text(name));
    (profile.text(stack.process), function)
}

/// Writes the table.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let report = Report::new(timeline, options);
    heading::write(&timeline.profile, options.width, out)?;
    if report.handlers.is_empty() {
        return writeln!(
            out,
            "no sample is in an interrupt; `stackwalk record --irq` measures them"
        );
    }
    writeln!(
        out,
        "{}",
        match report.times {
            Times::Measured => "times are measured",
            Times::Estimated =>
                "times are estimated from how often samples were taken; `stackwalk record --irq` \
                 measures them",
            Times::Unknown =>
                "what time a sample stands for is not known; `stackwalk record --irq` measures times",
        }
    )?;
    writeln!(out)?;
    let all = report.all;
    let share = |samples: u64, time_ns: Option<u64>| match time_ns {
        Some(time_ns) => format!("{:.2}", percent(time_ns, all.time_ns)),
        None => format!("{:.2}", percent(samples, all.samples)),
    };
    let time = |time_ns: Option<u64>| time_ns.map_or_else(|| "-".to_owned(), duration);
    let mut table = Table::new(vec![
        ("Share %", Side::Right),
        ("Time", Side::Right),
        ("Count", Side::Right),
        ("Mean", Side::Right),
        ("Max", Side::Right),
        ("Handler, and whom it interrupted", Side::Left),
    ]);
    for handler in &report.handlers {
        table.push(vec![
            share(handler.samples, handler.time_ns),
            time(handler.time_ns),
            grouped(handler.samples),
            time(handler.mean_ns),
            time(handler.max_ns),
            printable(&handler.handler),
        ]);
        for victim in &handler.victims {
            table.push(vec![
                share(victim.samples, victim.time_ns),
                time(victim.time_ns),
                grouped(victim.samples),
                String::new(),
                String::new(),
                format!(
                    "  {}: {}",
                    printable(victim.comm),
                    printable(victim.function)
                ),
            ]);
        }
        if handler.victims_left_out > 0 {
            let more = grouped(handler.victims_left_out as u64);
            let mut row = vec![String::new(); 5];
            row.push(format!("  {more} more"));
            table.push(row);
        }
    }
    table.write(options.width, out)?;
    match report.left_out {
        0 => Ok(()),
        left_out => writeln!(out, "{} more handlers", grouped(left_out as u64)),
    }
}

/// Writes the table as one JSON object.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write_json(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let report = Report::new(timeline, options);
    let object = Object {
        format: "stackwalk-report",
        version: 1,
        recording: Recording::of(&timeline.profile),
        by: "irq",
        times: report.times,
        rows: report.handlers,
        rows_left_out: report.left_out,
    };
    json_text::write_pretty(&object, out)
}

#[cfg(test)]
#[path = "irq_tests.rs"]
mod tests;
