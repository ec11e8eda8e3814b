//! The options that say which samples of a recording to look at, for every command that reads one.

use std::ops::RangeInclusive;

use clap::Args;
use regex::{Regex, RegexBuilder};
use walker_common::StackKind;

use crate::profile::{
    filter::{Filter, TimeBound, TimeRange},
    timeline::Timeline,
};

/// The most bytes that a compiled regular expression may take.
const MAX_REGEX: usize = 1 << 20;
/// The latest time that can be asked for, in seconds: a year.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;

/// Which samples to keep. Of a list each value will do, of several options all are to be met.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which samples")]
pub(super) struct FilterArgs {
    /// Only of processes or threads with these names
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    comm: Vec<String>,
    /// Only of these processes
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Only of these threads
    #[arg(long, value_name = "TID,…", value_delimiter = ',')]
    tid: Vec<u32>,
    /// Only of these CPUs, such as 0,4-7
    #[arg(long, value_name = "CPU,…", value_delimiter = ',', value_parser = parse_cpus)]
    cpu: Vec<RangeInclusive<u32>>,
    /// Only from FROM to before TO, in seconds since the recording began (1.5-3, -2, 3-), or in
    /// percent of it (10%-20%)
    #[arg(long, value_name = "FROM-TO,…", value_delimiter = ',', value_parser = parse_time,
        allow_hyphen_values = true)]
    time: Vec<TimeRange>,
    /// Only with a frame on a stack of these kinds: task, irq, softirq, nmi, user, #db, #df, #mc,
    /// #vc
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = parse_kind)]
    stack_kind: Vec<StackKind>,
    /// Only with a function whose name matches this regular expression
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    grep: Option<Regex>,
    /// Only of these events of the recording
    #[arg(long, value_name = "EVENT,…", value_delimiter = ',')]
    event: Vec<String>,
}

impl FilterArgs {
    /// The filter.
    pub(super) fn filter(&self) -> Filter {
        let Self {
            comm,
            pid,
            tid,
            cpu,
            time,
            stack_kind,
            grep,
            event,
        } = self.clone();
        Filter {
            comm,
            pid,
            tid,
            cpu,
            time,
            stack_kind,
            grep,
            event,
        }
    }

    /// What the filter leaves of a recording.
    pub(super) fn apply(&self, timeline: Timeline) -> anyhow::Result<Timeline> {
        let filter = self.filter();
        filter.check(&timeline)?;
        Ok(filter.leave(timeline))
    }
}

/// A CPU or a range of them.
fn parse_cpus(text: &str) -> Result<RangeInclusive<u32>, String> {
    let wrong = || "write a CPU or a range of CPUs, such as 0 or 4-7".to_owned();
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(format!(
            "the range ends before it begins; write {last}-{first}"
        ));
    }
    Ok(first..=last)
}

/// A range of time.
fn parse_time(text: &str) -> Result<TimeRange, String> {
    const HOW: &str =
        "write FROM-TO, in seconds such as 1.5-3, -2 or 3-, or in percent such as 10%-20%";
    let bound = |text: &str| -> Result<Option<TimeBound>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let (digits, is_percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        // Only digits: `parse` takes `inf`, `nan` and `1e9` too.
        let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        match digits.parse::<f64>().ok().filter(|_| plain) {
            None => Err(format!("`{text}` is no time; {HOW}")),
            Some(percent) if is_percent && percent <= 100.0 => {
                Ok(Some(TimeBound::Percent(percent)))
            }
            Some(_) if is_percent => Err(format!("`{text}` is more than 100%")),
            Some(seconds) if seconds <= MAX_SECONDS => {
                let nanoseconds = (seconds * 1e9).round() as u64;
                Ok(Some(TimeBound::Nanoseconds(nanoseconds)))
            }
            Some(_) => Err(format!("`{text}` is more than a year of seconds")),
        }
    };
    let Some((from, to)) = text.split_once('-') else {
        return Err(HOW.to_owned());
    };
    let range = TimeRange {
        from: bound(from)?,
        to: bound(to)?,
    };
    let is_backwards = match (range.from, range.to) {
        (None, None) => return Err(HOW.to_owned()),
        (Some(TimeBound::Nanoseconds(from)), Some(TimeBound::Nanoseconds(to))) => from >= to,
        (Some(TimeBound::Percent(from)), Some(TimeBound::Percent(to))) => from >= to,
        _ => false,
    };
    if is_backwards {
        return Err(format!("it ends before it begins; {HOW}"));
    }
    Ok(range)
}

/// A kind of stack by the name that outputs show, in either case and with or without `#`.
fn parse_kind(text: &str) -> Result<StackKind, String> {
    let plain = |name: &str| name.trim_start_matches('#').to_ascii_lowercase();
    let kind = |kind: &StackKind| plain(kind.name()) == plain(text);
    let all = StackKind::ALL.iter().copied();
    let entry = plain(text) == "entry";
    all.into_iter()
        .find(|found| kind(found) || entry && *found == StackKind::Entry)
        .ok_or_else(|| {
            let names = StackKind::ALL.iter().map(|kind| plain(kind.name()));
            format!("there are: {}", names.collect::<Vec<_>>().join(", "))
        })
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            "the regular expression is too large; match a shorter part of the name".to_owned()
        }
        // The reason is the last line, below a picture of where it is.
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            format!("no regular expression: {reason}; a backslash takes the meaning of a sign away")
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn filter(arguments: &[&str]) -> Filter {
        let line = Line::try_parse_from([&["x"], arguments].concat()).unwrap();
        line.filter.filter()
    }

    fn refusal(arguments: &[&str]) -> String {
        let error = Line::try_parse_from([&["x"], arguments].concat()).unwrap_err();
        error.to_string().lines().next().unwrap().to_owned()
    }

    #[test]
    fn options_are_lists() {
        let filter = filter(&[
            "--comm",
            "make,cc1",
            "--pid=1,2",
            "--tid",
            "3",
            "--tid",
            "4",
            "--cpu",
            "0,4-7",
            "--stack-kind",
            "irq,#DB,nmi,user,entry",
            "--grep",
            "^ext4_",
            "--event",
            "cycles",
        ]);
        assert_eq!(filter.comm, ["make", "cc1"]);
        assert_eq!((filter.pid, filter.tid), (vec![1, 2], vec![3, 4]));
        assert_eq!(filter.cpu, [0..=0, 4..=7]);
        assert_eq!(
            filter.stack_kind,
            [
                StackKind::Irq,
                StackKind::Debug,
                StackKind::Nmi,
                StackKind::User,
                StackKind::Entry
            ]
        );
        assert_eq!(filter.grep.unwrap().as_str(), "^ext4_");
        assert_eq!(filter.event, ["cycles"]);
    }

    #[test]
    fn times_are_seconds_or_percent_and_may_be_open() {
        const fn seconds(tenths: u64) -> Option<TimeBound> {
            Some(TimeBound::Nanoseconds(tenths * 100_000_000))
        }
        let percent = |percent| Some(TimeBound::Percent(percent));
        for (text, from, to) in [
            ("1.5-3", seconds(15), seconds(30)),
            ("-2", None, seconds(20)),
            ("3-", seconds(30), None),
            ("10%-20%", percent(10.0), percent(20.0)),
            ("1-50%", seconds(10), percent(50.0)),
        ] {
            assert_eq!(filter(&["--time", text]).time, [TimeRange { from, to }]);
        }
        assert_eq!(filter(&["--time", "-1,3-"]).time.len(), 2);
    }

    #[test]
    fn mistakes_are_told_with_what_would_be_right() {
        for (arguments, what) in [
            (["--time", "-"], "1.5-3"),
            (["--time", "2"], "FROM-TO"),
            (["--time", "3-2"], "before it begins"),
            (["--time", "1e3-"], "`1e3` is no time"),
            (["--time", "nan-"], "`nan` is no time"),
            (["--time", "0%-101%"], "more than 100%"),
            (["--time", "0-99999999999"], "a year"),
            (["--cpu", "x"], "such as 0 or 4-7"),
            (["--cpu", "7-4"], "write 4-7"),
            (["--stack-kind", "irqs"], "task, irq, softirq"),
            (["--grep", "a("], "unclosed group"),
            (["--grep", "(a{1000}){1000}"], "too large"),
            (["--pid", "a"], "invalid digit"),
        ] {
            let text = refusal(&arguments);
            assert!(text.contains(what), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn a_filter_that_asks_for_nothing_changes_nothing() {
        use crate::profile::fixture;
        let all = fixture::timeline();
        let same = FilterArgs::default().apply(all.clone()).unwrap();
        assert_eq!(same.points, all.points);
        let args = Line::parse_from(["x", "--comm", "mak"]).filter;
        let error = args.apply(all).unwrap_err().to_string();
        assert!(
            error.contains("`mak`") && error.contains("it has cc1, make"),
            "{error}"
        );
    }
}
