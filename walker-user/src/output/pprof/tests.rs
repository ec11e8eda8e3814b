//! Tests of [`super`]: what is written is read back with the same messages. Whether pprof reads it
//! is tested in `tests/exports`.

use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use prost::Message as _;

use super::{Options, message, write};
use crate::profile::{Frame, ProfileObject, Unit, WeightedStack, fixture, timeline::Timeline};

fn written(timeline: &Timeline) -> message::Profile {
    let mut out = Vec::new();
    write(timeline, &Options::default(), &mut out).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(&out[..]).read_to_end(&mut bytes).unwrap();
    message::Profile::decode(&bytes[..]).unwrap()
}

fn string(profile: &message::Profile, index: i64) -> &str {
    &profile.string_table[usize::try_from(index).unwrap()]
}

/// The functions of a sample, leaf first; those of one location in brackets if there are several.
fn stack(profile: &message::Profile, sample: &message::Sample) -> Vec<String> {
    let locations = sample.location_id.iter().map(|id| {
        let location = &profile.location[*id as usize - 1];
        let names = location.line.iter().map(|line| {
            let function = &profile.function[line.function_id as usize - 1];
            string(profile, function.name).to_owned()
        });
        names.collect::<Vec<_>>().join(" < ")
    });
    locations.collect()
}

fn labels(profile: &message::Profile, sample: &message::Sample) -> Vec<String> {
    let labels = sample.label.iter().map(|label| {
        let key = string(profile, label.key);
        match label.text {
            0 => format!("{key}={}", label.number),
            text => format!("{key}={}", string(profile, text)),
        }
    });
    labels.collect()
}

#[test]
fn stacks_have_values_and_labels() {
    let profile = written(&fixture::timeline());
    let types = profile.sample_type.iter();
    let types: Vec<_> = types
        .map(|t| (string(&profile, t.kind), string(&profile, t.unit)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(profile.period, 1_003_009);
    assert_eq!(profile.time_nanos, 1_700_000_000_000_000_000);
    assert_eq!(profile.duration_nanos, 1_500_000_000);

    let nmi = &profile.sample[3];
    assert_eq!(nmi.value, [20, 20 * 1_003_009]);
    assert_eq!(
        stack(&profile, nmi)[..4],
        [
            "perf_event_nmi_handler",
            "asm_exc_nmi",
            "[NMI]",
            "__sysvec_apic_timer_interrupt"
        ]
    );
    assert_eq!(
        labels(&profile, nmi),
        ["process=cc1", "comm=cc1", "pid=42", "stack=NMI"]
    );
    assert_eq!(stack(&profile, &profile.sample[4])[0], "[not unwound]");
    assert_eq!(
        labels(&profile, &profile.sample[5]),
        [
            "process=make",
            "comm=make",
            "pid=42",
            "stack=USER",
            "stop=no unwind information"
        ]
    );

    let files = profile.mapping.iter().map(|m| string(&profile, m.filename));
    assert_eq!(
        files.collect::<Vec<_>>(),
        ["cc1", "[kernel.kallsyms]", "libc.so.6"]
    );
    let comments = profile.comment.iter().map(|&c| string(&profile, c));
    let comments = comments.collect::<Vec<_>>().join("\n");
    assert!(
        comments.contains("6 lost (5.45 %): 5 ring buffer full"),
        "{comments}"
    );
}

#[test]
fn the_first_mapping_is_the_main_program() {
    let mut timeline = fixture::timeline();
    let profile = &mut timeline.profile;
    let stack = profile.stacks()[0].clone();
    let mut frame_in = |path: &str, address: u64| {
        let object = profile.intern_object(ProfileObject {
            path: path.into(),
            build_id: None,
        });
        let frame = *profile.frame(stack.frames[0]);
        profile.intern_frame(Frame {
            object: Some(object),
            address,
            ..frame
        })
    };
    let library = frame_in("/usr/lib/libc.so.6", 0x10);
    let other = frame_in("/usr/bin/cc", 0x20);
    let main = frame_in("/usr/lib/gcc/cc1", 0x30);
    // A thread begins in the C library; `cc` is the outermost program of more samples, but the
    // process is called `cc1`.
    for (frames, weight) in [
        (vec![library, main], 5),
        (vec![library], 1000),
        (vec![other, library], 500),
    ] {
        profile.push(WeightedStack {
            frames,
            samples: weight,
            weight,
            ..stack.clone()
        });
    }
    let written = written(&timeline);
    let files = written.mapping.iter().map(|m| string(&written, m.filename));
    assert_eq!(files.collect::<Vec<_>>()[0], "/usr/lib/gcc/cc1");
    assert!(written.mapping[0].memory_start <= 0x30);
}

#[test]
fn the_innermost_of_inlined_functions_is_first() {
    let mut timeline = fixture::timeline();
    timeline.profile = fixture::inlined();
    timeline.points.retain(|point| point.stack < 3);
    let profile = written(&timeline);
    assert_eq!(stack(&profile, &profile.sample[0]), ["step < main"]);
    let lines: Vec<_> = profile.location[0].line.iter().map(|l| l.line).collect();
    assert_eq!(lines, [3, 7]);
    assert_eq!(stack(&profile, &profile.sample[2]), ["step", "main"]);
    // Without a frequency there is no time.
    assert_eq!(profile.sample_type.len(), 1);
}

#[test]
fn time_waited_is_in_nanoseconds() {
    let mut timeline = fixture::timeline();
    timeline.profile.meta.unit = Unit::Nanoseconds;
    timeline.profile.meta.events = vec!["off-cpu".to_owned()];
    for point in &mut timeline.points {
        point.weight = 1_000;
    }
    fixture::weigh(&mut timeline);
    let profile = written(&timeline);
    let time = profile.sample_type[1];
    assert_eq!(string(&profile, time.kind), "off-cpu");
    assert_eq!(string(&profile, time.unit), "nanoseconds");
    assert_eq!(profile.sample[0].value, [50, 50_000]);
}

proptest! {
    #[test]
    fn every_reference_has_its_target(timeline in fixture::any_timeline()) {
        let profile = written(&timeline);
        prop_assert_eq!(&profile.string_table[0], "");
        let strings = profile.string_table.len() as i64;
        for (index, location) in (1..).zip(&profile.location) {
            prop_assert_eq!(location.id, index);
            prop_assert!(location.mapping_id <= profile.mapping.len() as u64);
            prop_assert!(!location.line.is_empty());
            for line in &location.line {
                prop_assert!((1..=profile.function.len() as u64).contains(&line.function_id));
            }
            if location.mapping_id > 0 {
                let mapping = &profile.mapping[location.mapping_id as usize - 1];
                prop_assert!((mapping.memory_start..mapping.memory_limit).contains(&location.address));
            }
        }
        for function in &profile.function {
            prop_assert!(function.name < strings && function.filename < strings);
        }
        let mut samples = 0;
        for sample in &profile.sample {
            prop_assert_eq!(sample.value.len(), profile.sample_type.len());
            prop_assert!(sample.location_id.iter().all(|id| (1..=profile.location.len() as u64).contains(id)));
            samples += sample.value[0];
        }
        prop_assert_eq!(samples, timeline.points.len() as i64);
    }
}
