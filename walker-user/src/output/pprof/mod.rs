//! A gzipped `profile.proto`, which `go tool pprof`, pprof and many services read.
//!
//! Samples of equal stacks are one, as the format has no times. Values are `samples` and what the
//! recording weighs by: CPU time where the frequency is known, occurrences of the event, or time
//! waited. Labels: `process` and `pid`, `comm` (the thread's name), `stack` (what was running: `USER`, `TASK`, `IRQ`, …), `event`
//! where there are several, and `stop`, the reason, where a walk did not reach the end of the stack.
//! What was lost is in the comments.
//!
//! An inlined function is a line of the location it is inlined into. User addresses are as linked,
//! so the ranges of mappings may overlap. The first mapping is that of the main program, as pprof takes
//! it for that. `[IRQ]` and the like, and `[not unwound]`, are locations without an address.

mod message;

use std::{
    cmp::Reverse,
    io::{self, Write},
    time::UNIX_EPOCH,
};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;
use rustc_hash::FxHashMap;

use super::{
    entries::{Entry, entries, running_on},
    recording, whereabouts,
};
use crate::profile::{
    Frame, FrameClass, FrameId, NOT_UNWOUND, ObjectIndex, Profile, Unit, timeline::Timeline,
};

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

/// Writes the profile.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let message = Builder::new(&timeline.profile).build(timeline, options.markers);
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&message.encode_to_vec())?;
    gzip.finish()?;
    Ok(())
}

/// What a location is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place<'a> {
    /// A function and those inlined into it.
    Code(&'a [FrameId]),
    /// No code: a name alone.
    Name(i64),
}

/// Numbers what there is of each kind. Places in the tables and ids are the same but for the 1
/// that ids begin with.
struct Builder<'a> {
    profile: &'a Profile,
    message: message::Profile,
    strings: FxHashMap<String, i64>,
    /// By file name and build ID.
    mappings: FxHashMap<(i64, i64), u64>,
    /// By name and source file.
    functions: FxHashMap<(i64, i64), u64>,
    locations: FxHashMap<Place<'a>, u64>,
}

impl<'a> Builder<'a> {
    fn new(profile: &'a Profile) -> Self {
        let mut builder = Self {
            profile,
            message: message::Profile::default(),
            strings: FxHashMap::default(),
            mappings: FxHashMap::default(),
            functions: FxHashMap::default(),
            locations: FxHashMap::default(),
        };
        builder.string("");
        builder
    }

    fn build(mut self, timeline: &'a Timeline, markers: bool) -> message::Profile {
        let profile = self.profile;
        self.describe(timeline);
        if let Some(frame) = main_program(profile) {
            self.mapping(profile.frame(frame));
        }
        let period = self.message.period;
        let types = self.message.sample_type.len();
        for stack in profile.stacks() {
            let (samples, weight) = (stack.samples, stack.weight);
            if samples == 0 {
                continue;
            }
            let mut location_id: Vec<u64> = entries(profile, stack, markers)
                .into_iter()
                .map(|entry| self.location(entry))
                .collect();
            location_id.reverse();
            let value = match profile.meta.unit {
                Unit::Samples => [samples, samples.saturating_mul(period.unsigned_abs())],
                Unit::Events | Unit::Nanoseconds => [samples, weight],
            };
            let mut label = vec![
                self.label("process", profile.text(stack.process)),
                self.label("comm", profile.text(stack.comm)),
            ];
            if let Some(pid) = stack.pid {
                label.push(message::Label {
                    key: self.string("pid"),
                    text: 0,
                    number: pid.into(),
                    number_unit: self.string("pid"),
                });
            }
            label.push(self.label("stack", running_on(profile, stack).name()));
            if profile.meta.events.len() > 1 {
                let event = profile.meta.events.get(stack.event);
                label.push(self.label("event", event.map_or("", String::as_str)));
            }
            if !stack.complete {
                label.push(self.label("stop", stack.stop));
            }
            self.message.sample.push(message::Sample {
                location_id,
                value: value.into_iter().take(types).map(signed).collect(),
                label,
            });
        }
        self.message
    }

    /// Fills in what is said about the recording as a whole.
    fn describe(&mut self, timeline: &Timeline) {
        let meta = &self.profile.meta;
        let samples = self.value_type("samples", "count");
        self.message.sample_type.push(samples);
        let event = match meta.events.as_slice() {
            [event] => event.as_str(),
            _ => "events",
        };
        match (meta.unit, meta.frequency) {
            (Unit::Samples, Some(frequency)) if frequency > 0 => {
                let time = self.value_type("cpu", "nanoseconds");
                self.message.sample_type.push(time);
                self.message.period_type = Some(time);
                self.message.period = signed(1_000_000_000 / frequency);
            }
            (Unit::Samples, _) => {
                self.message.period_type = Some(samples);
                self.message.period = 1;
            }
            (Unit::Events, _) => {
                let events = self.value_type(event, "count");
                self.message.sample_type.push(events);
                self.message.period_type = Some(events);
            }
            (Unit::Nanoseconds, _) => {
                let time = self.value_type(event, "nanoseconds");
                self.message.sample_type.push(time);
                self.message.period_type = Some(time);
            }
        }
        if let Some(last) = self.message.sample_type.last() {
            self.message.default_sample_type = last.kind;
        }
        if let Some(began) = timeline.began
            && let Ok(since) = began.duration_since(UNIX_EPOCH)
        {
            self.message.time_nanos = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        }
        self.message.duration_nanos = i64::try_from(meta.duration.as_nanos()).unwrap_or(i64::MAX);
        for text in [
            format!("stackwalk: {}", meta.title),
            recording(self.profile),
            whereabouts(&meta.totals),
        ] {
            let comment = self.string(&text);
            self.message.comment.push(comment);
        }
    }

    /// The number of a string, without control characters: pprof prints names as they are.
    fn string(&mut self, text: &str) -> i64 {
        let text = &super::printable(text);
        if let Some(&index) = self.strings.get(text) {
            return index;
        }
        let index = self.message.string_table.len() as i64;
        self.message.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> message::ValueType {
        message::ValueType {
            kind: self.string(kind),
            unit: self.string(unit),
        }
    }

    fn label(&mut self, key: &str, text: &str) -> message::Label {
        message::Label {
            key: self.string(key),
            text: self.string(text),
            number: 0,
            number_unit: 0,
        }
    }

    fn location(&mut self, entry: Entry<'a>) -> u64 {
        let place = match entry {
            Entry::Code(frames) => Place::Code(frames),
            Entry::NotUnwound(_) => Place::Name(self.string(NOT_UNWOUND)),
            Entry::Marker(kind) => Place::Name(self.string(&format!("[{}]", kind.name()))),
            Entry::Note(id) => {
                let name = self.profile.label(id).name;
                Place::Name(self.string(self.profile.text(name)))
            }
        };
        if let Some(&id) = self.locations.get(&place) {
            return id;
        }
        let id = self.message.location.len() as u64 + 1;
        let location = match place {
            Place::Name(name) => message::Location {
                id,
                mapping_id: 0,
                address: 0,
                line: vec![message::Line {
                    function_id: self.function(name, 0),
                    line: 0,
                }],
            },
            Place::Code(frames) => {
                let frame = self.profile.frame(frames[0]);
                message::Location {
                    id,
                    mapping_id: self.mapping(frame),
                    address: frame.address,
                    line: frames.iter().rev().map(|&id| self.line(id)).collect(),
                }
            }
        };
        self.message.location.push(location);
        self.locations.insert(place, id);
        id
    }

    fn line(&mut self, id: FrameId) -> message::Line {
        let profile = self.profile;
        let (file, line) = match profile.frame(id).source {
            Some((file, line)) => (self.string(profile.text(file)), line),
            None => (0, 0),
        };
        let name = self.string(profile.text(profile.label(id).name));
        message::Line {
            function_id: self.function(name, file),
            line: line.into(),
        }
    }

    fn function(&mut self, name: i64, filename: i64) -> u64 {
        let next = self.message.function.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.message
                .function
                .push(message::Function { id, name, filename });
        }
        id
    }

    /// The mapping that a frame is in, which is made larger if need be; 0 if it is not known.
    fn mapping(&mut self, frame: &Frame) -> u64 {
        let profile = self.profile;
        let module = frame.module.map(|module| profile.text(module));
        let (filename, build_id) = match (frame.class, frame.object, module) {
            (FrameClass::Kernel(_), _, None) => ("[kernel.kallsyms]".to_owned(), String::new()),
            (FrameClass::Kernel(_), _, Some(module)) if !module.starts_with('[') => {
                (format!("[{module}]"), String::new())
            }
            (_, Some(object), _) => {
                let object = profile.object(object);
                let build_id = object.build_id.map(|id| id.to_string());
                (
                    object.path.display().to_string(),
                    build_id.unwrap_or_default(),
                )
            }
            (_, None, Some(module)) => (module.to_owned(), String::new()),
            (_, None, None) => return 0,
        };
        let (filename, build_id) = (self.string(&filename), self.string(&build_id));
        let next = self.message.mapping.len() as u64 + 1;
        let id = *self.mappings.entry((filename, build_id)).or_insert(next);
        let limit = frame.address.saturating_add(1);
        if id == next {
            self.message.mapping.push(message::Mapping {
                id,
                memory_start: frame.address,
                memory_limit: limit,
                filename,
                build_id,
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            });
        }
        let mapping = &mut self.message.mapping[id as usize - 1];
        mapping.memory_start = mapping.memory_start.min(frame.address);
        mapping.memory_limit = mapping.memory_limit.max(limit);
        id
    }
}

/// A frame of the main program: the executable of the process with the most weight. A profile does
/// not say which object that is, so it is the one with the name of its process where there is one,
/// and otherwise the outermost object of most stacks that is no library.
fn main_program(profile: &Profile) -> Option<FrameId> {
    let mut weights: FxHashMap<ObjectIndex, (FrameId, [u64; 2])> = FxHashMap::default();
    for stack in profile.stacks() {
        let objects = stack.frames.iter().filter_map(|&id| {
            let object = profile.frame(id).object?;
            Some((id, object))
        });
        let process = profile.text(stack.process);
        let (mut outermost, mut named) = (true, false);
        for (id, object) in objects {
            let file = profile.object(object).path.file_name();
            let file = file.map_or_else(Default::default, |name| name.to_string_lossy());
            let (_, [by_name, by_place]) = weights.entry(object).or_insert((id, [0; 2]));
            // The kernel cuts names of processes.
            if !named && !process.is_empty() && file.starts_with(process) {
                named = true;
                *by_name = by_name.saturating_add(stack.weight);
            }
            if outermost && !is_library(&file) {
                outermost = false;
                *by_place = by_place.saturating_add(stack.weight);
            }
        }
    }
    let weights = weights.into_iter();
    let weights = weights.filter(|(_, (_, weights))| *weights != [0; 2]);
    // Of equals the first that was seen.
    let best = weights.max_by_key(|(object, (_, weights))| (*weights, Reverse(*object)));
    best.map(|(_, (id, _))| id)
}

/// Whether a file is a shared library by its name: `libc.so.6`, `ld-linux-x86-64.so.2`, `[vdso]`.
fn is_library(file: &str) -> bool {
    file.starts_with('[') || file.ends_with(".so") || file.contains(".so.")
}

/// How many samples a profile holds that was written.
#[cfg(test)]
pub(crate) fn samples(written: &[u8]) -> i64 {
    let mut bytes = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(written);
    io::Read::read_to_end(&mut gzip, &mut bytes).unwrap();
    let profile = message::Profile::decode(&bytes[..]).unwrap();
    profile.sample.iter().map(|sample| sample.value[0]).sum()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
