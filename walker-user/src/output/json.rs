//! The whole profile as JSON, for programs that are written for it; `docs/json.md` describes it.
//!
//! Nothing is left out and nothing is merged, other than in the formats of other tools. It is
//! written as it is made: writing takes no memory to speak of.

use std::{
    io::{self, Write},
    time::UNIX_EPOCH,
};

use serde::Serialize;

use super::{json_text, streamed::Each};
use crate::profile::{
    FrameClass, FrameId, Missing, ObjectIndex, Profile, Unit,
    timeline::{Point, Timeline},
};

/// How to write the profile. There is one way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {}

/// What [`Document::version`] is. It changes when a reader of the version before would go wrong, not
/// when fields are added.
const VERSION: u32 = 1;

/// What the numbers of a sample are, in order.
const SAMPLE_FIELDS: [&str; 7] = [
    "time_ns",
    "stack",
    "tid",
    "cpu",
    "number",
    "weight",
    "stacks_in_use",
];

/// Writes the profile.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(timeline: &Timeline, _options: &Options, out: &mut impl Write) -> io::Result<()> {
    let profile = &timeline.profile;
    let meta = &profile.meta;
    let began = timeline
        .began
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let document = Document {
        format: "stackwalk-profile",
        version: VERSION,
        meta: Meta {
            title: &meta.title,
            events: &meta.events,
            unit: match meta.unit {
                Unit::Samples => "samples",
                Unit::Events => "events",
                Unit::Nanoseconds => "nanoseconds",
            },
            frequency: meta.frequency,
            began: began.map(|since| since.as_secs_f64()),
            duration: meta.duration.as_secs_f64(),
        },
        totals: Totals {
            taken: meta.totals.taken,
            delivered: meta.totals.delivered,
            lost: Each(|| meta.totals.lost.iter().map(Reason::of)),
            filtered: Each(|| meta.totals.filtered.iter().map(Reason::of)),
        },
        objects: Each(|| {
            profile.objects().iter().map(|object| Object {
                path: object.path.to_string_lossy(),
                build_id: object.build_id.map(|id| id.to_string()),
            })
        }),
        frames: Each(|| profile.frames().map(|id| Frame::of(profile, id))),
        stacks: Each(|| {
            profile.stacks().iter().map(|stack| Stack {
                process: profile.text(stack.process),
                comm: profile.text(stack.comm),
                pid: stack.pid,
                event: stack.event,
                samples: stack.samples,
                weight: stack.weight,
                stop: stack.stop,
                complete: stack.complete,
                frames: Each(|| stack.frames.iter().map(|id| id.index())),
            })
        }),
        sample_fields: SAMPLE_FIELDS,
        samples: Each(|| timeline.points.iter().map(|point| sample(timeline, point))),
    };
    json_text::write(&document, out)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Document<'a, L, F, O, R, S, P> {
    format: &'static str,
    version: u32,
    meta: Meta<'a>,
    totals: Totals<L, F>,
    objects: O,
    frames: R,
    stacks: S,
    sample_fields: [&'static str; 7],
    samples: P,
}

#[derive(Serialize)]
struct Meta<'a> {
    title: &'a str,
    events: &'a [String],
    unit: &'static str,
    frequency: Option<u64>,
    began: Option<f64>,
    duration: f64,
}

#[derive(Serialize)]
struct Totals<L, F> {
    taken: u64,
    delivered: u64,
    lost: L,
    filtered: F,
}

#[derive(Serialize)]
struct Reason<'a> {
    reason: &'a str,
    samples: u64,
}

impl<'a> Reason<'a> {
    fn of(missing: &'a Missing) -> Self {
        Self {
            reason: &missing.reason,
            samples: missing.samples,
        }
    }
}

#[derive(Serialize)]
struct Object<'a> {
    path: std::borrow::Cow<'a, str>,
    build_id: Option<String>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: Option<&'a str>,
    label: &'a str,
    module: Option<&'a str>,
    class: &'static str,
    stack: Option<&'static str>,
    reliable: bool,
    inlined: bool,
    file: Option<&'a str>,
    line: Option<u32>,
    address: String,
    offset: u64,
    size: u64,
    object: Option<usize>,
}

impl<'a> Frame<'a> {
    fn of(profile: &'a Profile, id: FrameId) -> Self {
        let frame = profile.frame(id);
        let (class, stack) = match frame.class {
            FrameClass::User => ("user", None),
            FrameClass::Kernel(kind) => ("kernel", Some(kind.name())),
            FrameClass::Note => ("note", None),
            FrameClass::Process => ("process", None),
            FrameClass::Event => ("event", None),
            FrameClass::Marker(kind) => ("marker", Some(kind.name())),
        };
        Self {
            name: frame.name.map(|name| profile.text(name)),
            label: profile.text(profile.label(id).name),
            module: frame.module.map(|module| profile.text(module)),
            class,
            stack,
            reliable: frame.reliable,
            inlined: frame.inlined,
            file: frame.source.map(|(file, _)| profile.text(file)),
            line: frame.source.map(|(_, line)| line).filter(|line| *line > 0),
            // JavaScript and jq have 53 bits for a number.
            address: format!("{:#x}", frame.address),
            offset: frame.offset,
            size: frame.size,
            object: frame.object.map(ObjectIndex::index),
        }
    }
}

#[derive(Serialize)]
struct Stack<'a, F> {
    process: &'a str,
    comm: &'a str,
    pid: Option<u32>,
    event: usize,
    samples: u64,
    weight: u64,
    stop: &'static str,
    complete: bool,
    frames: F,
}

/// A sample as [`SAMPLE_FIELDS`] name it.
fn sample<'a>(timeline: &'a Timeline, point: &'a Point) -> impl Serialize + use<'a> {
    let uses = move || {
        let uses = timeline.uses_of(point).iter();
        uses.map(|used| (used.kind.name(), used.used, used.size))
    };
    (
        point.time_ns,
        point.stack,
        point.tid,
        point.cpu,
        point.number,
        point.weight,
        Each(uses),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Options, SAMPLE_FIELDS, write};
    use crate::profile::{fixture, timeline::Timeline};

    fn written(timeline: &Timeline) -> Value {
        let mut out = Vec::new();
        write(timeline, &Options::default(), &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn everything_is_there() {
        let json = written(&fixture::timeline());
        assert_eq!(json["format"], "stackwalk-profile");
        assert_eq!(
            json["meta"],
            json!({ "title": "make -j2", "events": ["cpu-clock"], "unit": "samples",
                "frequency": 997, "began": 1_700_000_000.0, "duration": 1.5 })
        );
        assert_eq!(
            json["totals"]["lost"][0],
            json!({ "reason": "ring buffer full", "samples": 5 })
        );
        assert_eq!(
            json["frames"][5],
            json!({ "name": "ext4_file_read_iter", "label": "ext4_file_read_iter",
                "module": "ext4", "class": "kernel", "stack": "TASK", "reliable": false,
                "inlined": false, "file": null, "line": null, "address": "0xffffffff8100001d",
                "offset": 29, "size": 64, "object": null })
        );
        assert_eq!(
            json["stacks"][5],
            json!({ "process": "make", "comm": "make", "pid": 42, "event": 0, "samples": 3, "weight": 3,
                "stop": "no unwind information", "complete": false, "frames": [2] })
        );
        assert_eq!(
            json["samples"][3],
            json!([
                45_000_000,
                3,
                43,
                1,
                4,
                1,
                [
                    ["NMI", 200, 16384],
                    ["IRQ", 100, 16384],
                    ["TASK", 300, 16384]
                ]
            ])
        );
    }

    #[test]
    fn the_description_names_every_field() {
        let description = include_str!("../../../docs/json.md");
        let json = written(&fixture::timeline());
        let mut names: Vec<&str> = SAMPLE_FIELDS.to_vec();
        for part in [
            &json,
            &json["meta"],
            &json["totals"],
            &json["frames"][0],
            &json["stacks"][0],
        ] {
            names.extend(part.as_object().unwrap().keys().map(String::as_str));
        }
        for name in names {
            assert!(
                description.contains(&format!("`{name}`")),
                "no word of `{name}`"
            );
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_as_it_was(timeline in fixture::any_timeline()) {
            let json = written(&timeline);
            prop_assert_eq!(json["samples"].as_array().unwrap().len(), timeline.points.len());
            let profile = &timeline.profile;
            for (id, frame) in profile.frames().zip(json["frames"].as_array().unwrap()) {
                let name = profile.frame(id).name.map(|name| profile.text(name));
                prop_assert_eq!(frame["name"].as_str(), name);
            }
            prop_assert_eq!(json["frames"].as_array().unwrap().len(), profile.frames().len());
            prop_assert_eq!(json["stacks"].as_array().unwrap().len(), profile.stacks().len());
        }
    }
}
