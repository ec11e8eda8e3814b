//! Which samples of a recording to look at.
//!
//! A filter only leaves samples out: what is left is a recording like any other, whose totals say
//! how many were left out and why. How a filter is written on a command line is the business of
//! [`crate::cli`].

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use regex::Regex;
use rustc_hash::FxHashMap;
use walker_common::StackKind;

use super::{
    FrameClass, Meta, Missing, Profile, SymbolId, WeightedStack,
    timeline::{Point, Timeline},
};

/// How many of the values that would have been right an error names.
const NAMED: usize = 8;

/// Which samples to keep: those that meet every criterion. A criterion with several values is met
/// by each of them, one without any by every sample.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Names of processes, exactly.
    pub comm: Vec<String>,
    /// Process ids.
    pub pid: Vec<u32>,
    /// Thread ids.
    pub tid: Vec<u32>,
    /// Ranges of CPUs.
    pub cpu: Vec<RangeInclusive<u32>>,
    /// Ranges of time.
    pub time: Vec<TimeRange>,
    /// Kinds of stack of which the sample has a frame.
    pub stack_kind: Vec<StackKind>,
    /// Matches the name of a function of the sample, as it is shown.
    pub grep: Option<Regex>,
    /// Names of events, exactly.
    pub event: Vec<String>,
}

/// An end of a [`TimeRange`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeBound {
    /// Nanoseconds since the recording began.
    Nanoseconds(u64),
    /// In percent of the recording, from 0 to 100.
    Percent(f64),
}

/// A range of time that begins with `from` and ends before `to`, so that ranges that follow each
/// other have no sample in common. The end of the recording is part of its 100 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeRange {
    /// `None` for the beginning of the recording.
    pub from: Option<TimeBound>,
    /// `None` for its end.
    pub to: Option<TimeBound>,
}

impl TimeBound {
    fn nanoseconds(self, whole: u64) -> u64 {
        match self {
            Self::Nanoseconds(nanoseconds) => nanoseconds,
            Self::Percent(percent) if percent >= 100.0 => whole,
            Self::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }
}

/// A criterion that no sample of the recording can meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} `{value}` in this recording; {there_is}")]
pub struct NoSuch {
    what: &'static str,
    value: String,
    there_is: String,
}

impl Filter {
    /// Whether every sample meets it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.criteria().is_empty()
    }

    /// What it leaves of `timeline`: all of it, as it is, if there are no criteria.
    #[must_use]
    pub fn leave(&self, timeline: Timeline) -> Timeline {
        match self.is_empty() {
            true => timeline,
            false => timeline.filtered(self),
        }
    }

    /// The criteria that it has, in words.
    fn criteria(&self) -> Vec<&'static str> {
        let all = [
            (!self.comm.is_empty(), "process name"),
            (!self.pid.is_empty(), "process"),
            (!self.tid.is_empty(), "thread"),
            (!self.cpu.is_empty(), "CPU"),
            (!self.time.is_empty(), "time"),
            (!self.stack_kind.is_empty(), "stack kind"),
            (self.grep.is_some(), "function"),
            (!self.event.is_empty(), "event"),
        ];
        let some = all.into_iter().filter(|(is_there, _)| *is_there);
        some.map(|(_, name)| name).collect()
    }

    /// Whether the recording has something of every process, thread and event that is asked for: a
    /// name that is mistyped should not look like a recording without samples.
    ///
    /// # Errors
    ///
    /// The first that it has nothing of, with what it has.
    pub fn check(&self, timeline: &Timeline) -> Result<(), NoSuch> {
        let profile = &timeline.profile;
        let events = profile.meta.events.iter();
        let events = events.map(|name| (name.clone(), 1)).collect();
        missing("event", self.event.iter().cloned(), &events)?;
        let by_stack = |text: fn(&Profile, &WeightedStack) -> Option<String>| {
            let mut samples: BTreeMap<String, u64> = BTreeMap::new();
            for stack in profile.stacks() {
                if let Some(text) = text(profile, stack) {
                    *samples.entry(text).or_default() += stack.samples;
                }
            }
            samples
        };
        if !self.comm.is_empty() {
            let mut there = by_stack(|profile, stack| Some(profile.text(stack.process).to_owned()));
            there.extend(by_stack(|profile, stack| {
                Some(profile.text(stack.comm).to_owned())
            }));
            missing(
                "process or thread of the name",
                self.comm.iter().cloned(),
                &there,
            )?;
        }
        if !self.pid.is_empty() {
            let there = by_stack(|_, stack| stack.pid.map(|pid| pid.to_string()));
            missing("process", self.pid.iter().map(u32::to_string), &there)?;
        }
        if !self.tid.is_empty() {
            let mut samples: FxHashMap<u32, u64> = FxHashMap::default();
            for point in &timeline.points {
                *samples.entry(point.tid).or_default() += 1;
            }
            let there = samples.into_iter();
            let there = there.map(|(tid, samples)| (tid.to_string(), samples));
            let asked_for = self.tid.iter().map(u32::to_string);
            missing("thread", asked_for, &there.collect())?;
        }
        Ok(())
    }

    /// How much of a recording its ranges of time cover.
    #[must_use]
    pub fn duration(&self, timeline: &Timeline) -> Duration {
        match self.time.as_slice() {
            [] => timeline.profile.meta.duration,
            _ => {
                let ranges = self.times(timeline).into_iter();
                Duration::from_nanos(ranges.map(|(from, to)| to - from).sum())
            }
        }
    }

    /// The ranges of time, in order, that no other is part of.
    fn times(&self, timeline: &Timeline) -> Vec<(u64, u64)> {
        let duration = timeline.profile.meta.duration.as_nanos();
        let whole = u64::try_from(duration).unwrap_or(u64::MAX);
        let whole = whole.max(timeline.end_ns().saturating_add(1));
        let bound = |bound: Option<TimeBound>, otherwise| {
            bound.map_or(otherwise, |bound| bound.nanoseconds(whole).min(whole))
        };
        let ranges = self.time.iter();
        let ranges = ranges.map(|range| (bound(range.from, 0), bound(range.to, whole)));
        let mut ranges: Vec<_> = ranges.filter(|(from, to)| from < to).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, to) in ranges {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged
    }

    /// Of each stack, whether its samples meet what does not depend on the sample.
    fn stacks(&self, profile: &Profile) -> Vec<bool> {
        let mut matches: FxHashMap<SymbolId, bool> = FxHashMap::default();
        let mut greps = |stack: &WeightedStack| {
            let Some(regex) = &self.grep else {
                return true;
            };
            stack.frames.iter().any(|&id| {
                let label = profile.label(id);
                let name = label.name;
                let is_function = matches!(label.class, FrameClass::User | FrameClass::Kernel(_));
                is_function
                    && *matches
                        .entry(name)
                        .or_insert_with(|| regex.is_match(profile.text(name)))
            })
        };
        let on_kind = |stack: &WeightedStack| {
            self.stack_kind.is_empty()
                || stack.frames.iter().any(|&id| {
                    let kind = match profile.frame(id).class {
                        FrameClass::Kernel(kind) => kind,
                        FrameClass::User => StackKind::User,
                        _ => return false,
                    };
                    self.stack_kind.contains(&kind)
                })
        };
        let of_event = |stack: &WeightedStack| {
            let name = profile.meta.events.get(stack.event);
            self.event.is_empty() || name.is_some_and(|name| self.event.contains(name))
        };
        let of_process = |stack: &WeightedStack| {
            let names = [stack.process, stack.comm].map(|name| profile.text(name));
            (self.comm.is_empty() || self.comm.iter().any(|name| names.contains(&&**name)))
                && (self.pid.is_empty() || stack.pid.is_some_and(|pid| self.pid.contains(&pid)))
        };
        let stacks = profile.stacks().iter();
        stacks
            .map(|stack| of_process(stack) && of_event(stack) && on_kind(stack) && greps(stack))
            .collect()
    }
}

/// An error for the first of `asked_for` that is not `there`, whose values are what they weigh.
fn missing(
    what: &'static str,
    mut asked_for: impl Iterator<Item = String>,
    there: &BTreeMap<String, u64>,
) -> Result<(), NoSuch> {
    let Some(value) = asked_for.find(|value| !there.contains_key(value)) else {
        return Ok(());
    };
    let mut heaviest: Vec<_> = there.iter().collect();
    heaviest.sort_by(|a, b| b.1.cmp(a.1));
    let names = heaviest.iter().take(NAMED).map(|(name, _)| name.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    let there_is = match there.len() {
        0 => "it has none".to_owned(),
        count if count > NAMED => format!("it has {names} and {} more", count - NAMED),
        _ => format!("it has {names}"),
    };
    Err(NoSuch {
        what,
        value,
        there_is,
    })
}

impl Profile {
    /// Other stacks of the same frames.
    pub(super) fn with_stacks(&self, meta: Meta, stacks: Vec<WeightedStack>) -> Self {
        Self {
            meta,
            strings: self.strings.clone(),
            root: self.root,
            events: self.events.clone(),
            not_unwound: self.not_unwound,
            markers: self.markers,
            frames: self.frames.clone(),
            frame_ids: self.frame_ids.clone(),
            objects: self.objects.clone(),
            object_ids: self.object_ids.clone(),
            stacks,
        }
    }
}

impl Timeline {
    /// The samples that meet `filter`, with the stacks that these have. Samples keep their
    /// numbers and times; the totals say how many were left out, and why.
    #[must_use]
    pub fn filtered(&self, filter: &Filter) -> Self {
        let profile = &self.profile;
        let keeps_stack = filter.stacks(profile);
        let times = filter.times(self);
        let keeps = |point: &Point| {
            keeps_stack.get(point.stack as usize) == Some(&true)
                && (filter.tid.is_empty() || filter.tid.contains(&point.tid))
                && (filter.cpu.is_empty() || filter.cpu.iter().any(|r| r.contains(&point.cpu)))
                && (filter.time.is_empty()
                    || times
                        .iter()
                        .any(|&(from, to)| (from..to).contains(&point.time_ns)))
        };

        let mut sums = vec![(0_u64, 0_u64); profile.stacks().len()];
        let mut points = Vec::new();
        let mut uses = Vec::new();
        for point in self.points.iter().filter(|point| keeps(point)) {
            let (samples, weight) = &mut sums[point.stack as usize];
            *samples += 1;
            *weight = weight.saturating_add(point.weight);
            let own = self.uses_of(point);
            points.push(Point {
                first_use: uses.len() as u32,
                use_count: own.len() as u8,
                ..*point
            });
            uses.extend_from_slice(own);
        }

        let mut stacks = Vec::new();
        let mut new_index = vec![0; sums.len()];
        for (index, (stack, &(samples, weight))) in profile.stacks().iter().zip(&sums).enumerate() {
            if samples > 0 {
                new_index[index] = stacks.len() as u32;
                stacks.push(WeightedStack {
                    samples,
                    weight,
                    ..stack.clone()
                });
            }
        }
        for point in &mut points {
            point.stack = new_index[point.stack as usize];
        }

        let mut meta = profile.meta.clone();
        let left_out = (self.points.len() - points.len()) as u64;
        if left_out > 0 {
            meta.totals.delivered = meta.totals.delivered.saturating_sub(left_out);
            let criteria = filter.criteria().join(", ");
            meta.totals.filtered.push(Missing {
                reason: format!("of another {criteria} than asked for").into(),
                samples: left_out,
            });
        }
        Self {
            profile: profile.with_stacks(meta, stacks),
            points,
            uses,
            began: self.began,
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
