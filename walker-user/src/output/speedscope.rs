//! speedscope's JSON (<https://www.speedscope.app/file-format-schema.json>): one profile of all
//! threads, in which equal stacks are one and the root is the process, then one for each thread, in
//! the order of time.
//!
//! Weights are samples, occurrences of the event (both without a unit, as the format has none for
//! them) or nanoseconds. The format has no place for more than frames: a walk that did not reach the
//! end of the stack has its reason as the outermost frame, such as `[truncated]`, and the event is a
//! frame where there are several. Losses are in the name of the first profile.

use std::io::{self, Write};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::{
    entries::{Entry, entries},
    json_text, place, printable, recording,
    streamed::Each,
    sum,
    threads::{Thread, threads},
    whereabouts,
};
use crate::numbered::Numbered;
use crate::profile::{NOT_UNWOUND, Profile, SymbolId, Unit, WeightedStack, timeline::Timeline};

/// How to write the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether to write a change of stack as a frame of its own, such as `[IRQ]`.
    pub markers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { markers: true }
    }
}

/// Writes the profiles.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let document = Document {
        timeline,
        stacks: Stacks::of(&timeline.profile, options.markers),
        threads: threads(timeline),
    };
    json_text::write(&document, out)
}

/// A frame: what is shown, and the file and line it is from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
struct Shown {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

/// All distinct stacks, as indices of frames.
#[derive(Debug, Default)]
struct Stacks {
    shown: Numbered<Shown>,
    /// The frames of each of [`Profile::stacks`], root first, with the process and without.
    frames: Vec<(u32, Vec<u32>)>,
}

impl Stacks {
    fn of(profile: &Profile, markers: bool) -> Self {
        let mut stacks = Self::default();
        for stack in profile.stacks() {
            let process = stacks.name(profile.text(stack.process));
            let frames = stacks.frames_of(profile, stack, markers);
            stacks.frames.push((process, frames));
        }
        stacks
    }

    fn frames_of(&mut self, profile: &Profile, stack: &WeightedStack, markers: bool) -> Vec<u32> {
        let mut frames = Vec::with_capacity(stack.frames.len());
        if profile.meta.events.len() > 1 {
            let event = profile.meta.events.get(stack.event);
            frames.push(self.name(event.map_or("", String::as_str)));
        }
        if !stack.complete {
            frames.push(self.name(&format!("[{}]", stack.stop)));
        }
        for entry in entries(profile, stack, markers) {
            match entry {
                Entry::Marker(kind) => frames.push(self.name(&format!("[{}]", kind.name()))),
                Entry::NotUnwound(_) => frames.push(self.name(NOT_UNWOUND)),
                Entry::Note(id) => frames.push(self.name(profile.text(profile.label(id).name))),
                Entry::Code(ids) => frames.extend(ids.iter().map(|&id| {
                    let name = profile.text(profile.label(id).name);
                    self.frame(profile, name, profile.frame(id).source)
                })),
            }
        }
        frames
    }

    fn name(&mut self, name: &str) -> u32 {
        self.shown.number(Shown {
            name: printable(name),
            file: None,
            line: None,
        })
    }

    fn frame(&mut self, profile: &Profile, name: &str, source: Option<(SymbolId, u32)>) -> u32 {
        self.shown.number(Shown {
            name: printable(name),
            file: source.map(|(file, _)| place(profile, (file, 0))),
            line: source.map(|(_, line)| line).filter(|line| *line > 0),
        })
    }
}

struct Document<'a> {
    timeline: &'a Timeline,
    stacks: Stacks,
    threads: Vec<Thread>,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shared<'a> {
            frames: &'a [Shown],
        }
        let title = printable(&self.timeline.profile.meta.title);
        let mut document = serializer.serialize_struct("File", 6)?;
        document.serialize_field(
            "$schema",
            "https://www.speedscope.app/file-format-schema.json",
        )?;
        document.serialize_field("exporter", concat!("stackwalk ", env!("CARGO_PKG_VERSION")))?;
        document.serialize_field("name", &title)?;
        document.serialize_field("activeProfileIndex", &0)?;
        let frames = self.stacks.shown.rows();
        document.serialize_field("shared", &Shared { frames })?;
        let profiles = || {
            let threads = self.threads.iter().map(Some);
            [None].into_iter().chain(threads).map(|thread| Sampled {
                document: self,
                thread,
            })
        };
        document.serialize_field("profiles", &Each(profiles))?;
        document.end()
    }
}

/// The profile of a thread, or of all together.
struct Sampled<'a> {
    document: &'a Document<'a>,
    thread: Option<&'a Thread>,
}

impl Serialize for Sampled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document {
            timeline, stacks, ..
        } = self.document;
        let profile = &timeline.profile;
        let unit = match profile.meta.unit {
            Unit::Samples | Unit::Events => "none",
            Unit::Nanoseconds => "nanoseconds",
        };
        let mut sampled = serializer.serialize_struct("SampledProfile", 7)?;
        sampled.serialize_field("type", "sampled")?;
        sampled.serialize_field("unit", unit)?;
        sampled.serialize_field("startValue", &0)?;
        let end;
        match self.thread {
            Some(thread) => {
                sampled.serialize_field("name", &thread.title(profile))?;
                let points = thread.points(timeline);
                end = points
                    .clone()
                    .map(|point| point.weight)
                    .fold(0, u64::saturating_add);
                let samples = || {
                    let points = points.clone();
                    points.map(|point| &stacks.frames[point.stack as usize].1)
                };
                sampled.serialize_field("samples", &Each(samples))?;
                let weights = || points.clone().map(|point| point.weight);
                sampled.serialize_field("weights", &Each(weights))?;
            }
            None => {
                let mut sums = vec![0_u64; stacks.frames.len()];
                for point in &timeline.points {
                    let sum = &mut sums[point.stack as usize];
                    *sum = sum.saturating_add(point.weight);
                }
                end = sums.iter().copied().fold(0, u64::saturating_add);
                let seen = || {
                    let stacks = stacks.frames.iter().zip(&sums);
                    stacks.filter(|(_, sum)| **sum > 0)
                };
                let name = match sum(&profile.meta.totals.lost) {
                    0 => format!("all threads: {}", recording(profile)),
                    _ => format!(
                        "all threads: {}; {}",
                        recording(profile),
                        whereabouts(&profile.meta.totals)
                    ),
                };
                sampled.serialize_field("name", &name)?;
                let samples = || {
                    seen().map(|((comm, frames), _)| Each(move || [comm].into_iter().chain(frames)))
                };
                sampled.serialize_field("samples", &Each(samples))?;
                sampled.serialize_field("weights", &Each(|| seen().map(|(_, sum)| sum)))?;
            }
        }
        sampled.serialize_field("endValue", &end)?;
        sampled.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Options, write};
    use crate::profile::{Unit, fixture, timeline::Timeline};

    fn written(timeline: &Timeline) -> Value {
        let mut out = Vec::new();
        write(timeline, &Options::default(), &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    /// The stacks of a profile, root first, each with its weight.
    fn stacks(file: &Value, profile: usize) -> Vec<String> {
        let profile = &file["profiles"][profile];
        let samples = profile["samples"].as_array().unwrap().iter();
        let stacks = samples.zip(profile["weights"].as_array().unwrap());
        let lines = stacks.map(|(sample, weight)| {
            let frames = sample.as_array().unwrap().iter().map(|index| {
                let frame = &file["shared"]["frames"][index.as_u64().unwrap() as usize];
                frame["name"].as_str().unwrap()
            });
            format!("{} {weight}", frames.collect::<Vec<_>>().join(";"))
        });
        lines.collect()
    }

    #[test]
    fn the_first_profile_has_all_stacks_and_each_thread_its_own() {
        let file = written(&fixture::timeline());
        assert_eq!(file["profiles"].as_array().unwrap().len(), 3);
        let all = stacks(&file, 0);
        assert_eq!(all[0], "cc1;_start;parse<int; char>(a) 50");
        assert_eq!(
            all[2],
            "cc1;_start;parse<int; char>(a);entry_SYSCALL_64_after_hwframe;do_syscall_64;\
             asm_sysvec_apic_timer_interrupt;[IRQ];__sysvec_apic_timer_interrupt 7"
        );
        assert!(
            all[4].ends_with(";do_syscall_64;[not unwound] 5"),
            "{all:?}"
        );
        assert_eq!(all[5], "make;[no unwind information];libc.so.6+0x1d 3");
        assert_eq!(file["profiles"][0]["endValue"], 100);
        assert_eq!(file["profiles"][1]["name"], "cc1 42/42");
        let thread = stacks(&file, 1);
        assert_eq!(thread.len(), 64);
        assert_eq!(thread[0], "_start;parse<int; char>(a) 1");
    }

    #[test]
    fn lines_are_kept_and_time_has_its_unit() {
        let mut timeline = fixture::timeline();
        timeline.profile = fixture::inlined();
        timeline.points.retain(|point| point.stack < 3);
        timeline.profile.meta.unit = Unit::Nanoseconds;
        let file = written(&timeline);
        assert_eq!(file["profiles"][0]["unit"], "nanoseconds");
        let frames = file["shared"]["frames"].as_array().unwrap();
        let step = frames.iter().find(|frame| frame["name"] == "step").unwrap();
        assert_eq!(step["file"], "/src/a.h");
        assert_eq!(step["line"], 3);
    }

    proptest! {
        #[test]
        fn every_profile_adds_up(timeline in fixture::any_timeline()) {
            let file = written(&timeline);
            let frames = file["shared"]["frames"].as_array().unwrap().len() as u64;
            let mut samples = 0;
            for (index, profile) in file["profiles"].as_array().unwrap().iter().enumerate() {
                let weights = profile["weights"].as_array().unwrap();
                let stacks = profile["samples"].as_array().unwrap();
                prop_assert_eq!(weights.len(), stacks.len());
                let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
                prop_assert_eq!(profile["endValue"].as_u64().unwrap(), sum);
                for stack in stacks {
                    prop_assert!(stack.as_array().unwrap().iter().all(|f| f.as_u64().unwrap() < frames));
                }
                samples += if index > 0 { stacks.len() } else { 0 };
            }
            prop_assert_eq!(samples, timeline.points.len());
        }
    }
}
