//! The Firefox Profiler's processed format (<https://profiler.firefox.com>: "Load a profile from
//! file"), as version 60 of it; newer ones convert it as they load it.
//!
//! Follows `docs-developer/CHANGELOG-formats.md` and `src/types/profile.ts` of
//! github.com/firefox-devtools/profiler. Stacks are shared by all threads, so a file is as large as
//! the distinct stacks and one number for each sample.
//!
//! Kinds of stacks are categories, which have the colours. A walk that did not reach the end of its
//! stack is a marker `incomplete stack` with the reason, at the time of the sample and in its thread;
//! losses are a marker of the first thread. Weights are samples, occurrences of the event (as
//! samples, for want of a name) or time. Where the frequency is known, each sample also is CPU time
//! of its thread, of which the profiler draws a graph.

mod tables;

use std::{
    io::{self, Write},
    time::UNIX_EPOCH,
};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::json;

use self::tables::Tables;
use super::{
    json_text,
    palette::Group,
    printable, recording,
    streamed::Each,
    threads::{Thread, threads},
    whereabouts,
};
use crate::profile::{
    Missing, Profile, Unit,
    timeline::{Point, Timeline},
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

/// The version of the format that is written.
const FORMAT_VERSION: u32 = 60;

/// The categories with the format's names of their colours; the first one is for everything else,
/// and grey, as the format wants it.
const CATEGORIES: [(&str, &str); 9] = [
    ("Other", "grey"),
    ("User", "yellow"),
    ("Kernel", "orange"),
    ("Kernel entry", "green"),
    ("IRQ", "blue"),
    ("Softirq", "lightblue"),
    ("NMI", "purple"),
    ("Exception", "magenta"),
    ("Unknown stack", "darkgrey"),
];

/// The place of a frame's category in [`CATEGORIES`].
fn category(group: Group) -> usize {
    match group {
        Group::Process | Group::Marker | Group::Note => 0,
        Group::User => 1,
        Group::Task => 2,
        Group::Entry => 3,
        Group::Irq => 4,
        Group::SoftIrq => 5,
        Group::Nmi => 6,
        Group::Exception => 7,
        Group::Unknown => 8,
    }
}

/// Writes the profile.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let profile = &timeline.profile;
    let mut tables = Tables::default();
    let leaves = profile.stacks().iter();
    let leaves = leaves
        .map(|stack| tables.stack(profile, stack, options.markers))
        .collect();
    let document = Document {
        timeline,
        incomplete: tables.string("incomplete stack"),
        lost: tables.string("lost samples"),
        tables,
        leaves,
        threads: threads(timeline),
    };
    json_text::write(&document, out)
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

struct Document<'a> {
    timeline: &'a Timeline,
    tables: Tables,
    /// The stack of each of [`Profile::stacks`].
    leaves: Vec<Option<u32>>,
    threads: Vec<Thread>,
    /// Names of markers.
    incomplete: u32,
    lost: u32,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Profile", 4)?;
        document.serialize_field("meta", &meta(self.timeline))?;
        document.serialize_field("libs", self.tables.libraries.rows())?;
        document.serialize_field("shared", &self.tables)?;
        let threads = || {
            let threads = self.threads.iter().enumerate();
            threads.map(|(index, thread)| OneThread {
                document: self,
                thread,
                first: index == 0,
            })
        };
        document.serialize_field("threads", &Each(threads))?;
        document.end()
    }
}

fn meta(timeline: &Timeline) -> serde_json::Value {
    let profile = &timeline.profile;
    let meta = &profile.meta;
    let began = timeline
        .began
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let interval = match meta.frequency {
        Some(frequency) if frequency > 0 => 1e3 / frequency as f64,
        _ => 1.0,
    };
    let categories = CATEGORIES
        .map(|(name, color)| json!({ "name": name, "color": color, "subcategories": ["Other"] }));
    let entry =
        |label: &str, value: &str| json!({ "label": label, "format": "string", "value": value });
    json!({
        "version": 24,
        "preprocessedProfileVersion": FORMAT_VERSION,
        "processType": 0,
        "product": printable(&meta.title),
        "importedFrom": concat!("stackwalk ", env!("CARGO_PKG_VERSION")),
        "oscpu": "Linux x86_64",
        "stackwalk": 1,
        "interval": interval,
        "startTime": began.map_or(0.0, |since| since.as_secs_f64() * 1e3),
        "profilingStartTime": 0,
        "profilingEndTime": end(timeline),
        "symbolicated": true,
        "usesOnlyOneStackType": true,
        "sourceCodeIsNotOnSearchfox": true,
        "sampleUnits": { "time": "ms", "eventDelay": "ms", "threadCPUDelta": "ns" },
        "categories": categories,
        "markerSchema": [
            {
                "name": "incomplete",
                "description": "The walk of this sample did not reach the end of the stack.",
                "display": ["marker-chart", "marker-table"],
                "tooltipLabel": "Incomplete stack",
                "tableLabel": "{marker.data.stop}",
                "chartLabel": "{marker.data.stop}",
                "fields": [{ "key": "stop", "label": "Reason", "format": "string" }],
            },
            {
                "name": "lost",
                "description": "Samples that should have arrived but did not.",
                "display": ["marker-chart", "marker-table"],
                "tooltipLabel": "Lost samples",
                "tableLabel": "{marker.data.samples}: {marker.data.reason}",
                "chartLabel": "{marker.data.samples}: {marker.data.reason}",
                "fields": [
                    { "key": "reason", "label": "Reason", "format": "string" },
                    { "key": "samples", "label": "Samples", "format": "integer" },
                ],
            },
        ],
        "extra": [{
            "label": "Recording",
            "entries": [
                entry("What", &recording(profile)),
                entry("Samples", &whereabouts(&meta.totals)),
            ],
        }],
    })
}

/// When the recording ended, in milliseconds.
fn end(timeline: &Timeline) -> f64 {
    let duration = timeline.profile.meta.duration.as_secs_f64() * 1e3;
    duration.max(milliseconds(timeline.end_ns()))
}

/// One thread, with its samples and markers.
struct OneThread<'a> {
    document: &'a Document<'a>,
    thread: &'a Thread,
    /// Whether it is the first one, which also has what is said about all of them.
    first: bool,
}

impl Serialize for OneThread<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document { timeline, .. } = self.document;
        let profile = &timeline.profile;
        let Thread {
            pid,
            tid,
            process,
            comm,
            ..
        } = self.thread;
        let name = printable(profile.text(*comm));
        let began = self.thread.points(timeline).next();
        let began = began.map_or(0.0, |point| milliseconds(point.time_ns));

        let mut thread = serializer.serialize_struct("Thread", 14)?;
        thread.serialize_field("name", &name)?;
        thread.serialize_field("processName", &printable(profile.text(*process)))?;
        thread.serialize_field("processType", "default")?;
        thread.serialize_field("processStartupTime", &0)?;
        thread.serialize_field("processShutdownTime", &None::<f64>)?;
        thread.serialize_field("registerTime", &began)?;
        thread.serialize_field("unregisterTime", &None::<f64>)?;
        thread.serialize_field("pausedRanges", &[0; 0])?;
        thread.serialize_field("isMainThread", &(*pid == Some(*tid)))?;
        thread.serialize_field("showMarkersInTimeline", &self.first)?;
        let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
        thread.serialize_field("pid", &pid)?;
        thread.serialize_field("tid", tid)?;
        thread.serialize_field("samples", &Samples(self))?;
        thread.serialize_field("markers", &self.markers())?;
        thread.end()
    }
}

/// The samples of a thread, as columns.
struct Samples<'a>(&'a OneThread<'a>);

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let OneThread {
            document, thread, ..
        } = self.0;
        let meta = &document.timeline.profile.meta;
        let points = || thread.points(document.timeline);
        let mut samples = serializer.serialize_struct("Samples", 6)?;
        samples.serialize_field("length", &points().len())?;
        let stack = |point: &Point| document.leaves[point.stack as usize];
        samples.serialize_field("stack", &Each(|| points().map(stack)))?;
        let time = |point: &Point| milliseconds(point.time_ns);
        samples.serialize_field("time", &Each(|| points().map(time)))?;
        if meta.unit == Unit::Nanoseconds {
            samples.serialize_field("weightType", "tracing-ms")?;
            let weight = |point: &Point| milliseconds(point.weight);
            samples.serialize_field("weight", &Each(|| points().map(weight)))?;
        } else {
            samples.serialize_field("weightType", "samples")?;
            samples.serialize_field("weight", &Each(|| points().map(|point| point.weight)))?;
        }
        if let (Unit::Samples, Some(frequency @ 1..)) = (meta.unit, meta.frequency) {
            let delta = |_| 1_000_000_000 / frequency;
            samples.serialize_field("threadCPUDelta", &Each(|| points().map(delta)))?;
        }
        samples.end()
    }
}

/// Markers, as columns.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Markers<'a> {
    length: usize,
    category: Vec<usize>,
    data: Vec<MarkerData<'a>>,
    name: Vec<u32>,
    start_time: Vec<f64>,
    end_time: Vec<Option<f64>>,
    /// 0 for what has a time, 1 for what has a start and an end.
    phase: Vec<u8>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum MarkerData<'a> {
    Incomplete { stop: &'a str },
    Lost { reason: &'a str, samples: u64 },
}

impl<'a> OneThread<'a> {
    fn markers(&self) -> Markers<'a> {
        let timeline = self.document.timeline;
        let Profile { meta, .. } = &timeline.profile;
        let mut markers = Markers::default();
        if self.first {
            for Missing { reason, samples } in meta.totals.lost.iter().filter(|m| m.samples > 0) {
                markers.data.push(MarkerData::Lost {
                    reason,
                    samples: *samples,
                });
                markers.name.push(self.document.lost);
                markers.start_time.push(0.0);
                markers.end_time.push(Some(end(timeline)));
                markers.phase.push(1);
            }
        }
        for point in self.thread.points(timeline) {
            let stack = &timeline.profile.stacks()[point.stack as usize];
            if !stack.complete {
                markers
                    .data
                    .push(MarkerData::Incomplete { stop: stack.stop });
                markers.name.push(self.document.incomplete);
                markers.start_time.push(milliseconds(point.time_ns));
                markers.end_time.push(None);
                markers.phase.push(0);
            }
        }
        markers.length = markers.data.len();
        markers.category = vec![0; markers.length];
        markers
    }
}

#[cfg(test)]
mod tests;
