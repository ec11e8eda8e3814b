//! What `record` writes: the stacks with their boundaries, in each form.

use std::{collections::BTreeMap, fs};

use roxmltree::Document;
use serde_json::Value;

use crate::{
    Test,
    counters::Events,
    helper::COPY,
    load::{Kind, Load},
    support::Place,
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(the_change_of_stack_is_in_every_form),
    test!(the_change_of_stack_can_be_left_out),
    test!(folded_stacks_can_go_to_standard_output),
    test!(a_recording_is_exported_in_every_form),
];

/// The samples of each command in a folded file, after a check of its form.
pub(crate) fn commands(place: &Place, name: &str) -> BTreeMap<String, u64> {
    let mut commands = BTreeMap::new();
    for (stack, samples) in lines(&fs::read_to_string(place.path(name)).unwrap()) {
        let (command, _) = stack.split_once(';').unwrap_or((stack, ""));
        *commands.entry(command.to_owned()).or_default() += samples;
    }
    commands
}

/// The stacks and counts of folded text.
fn lines(folded: &str) -> Vec<(&str, u64)> {
    let parse = |line| {
        let (stack, samples) = str::rsplit_once(line, ' ')?;
        Some((stack, samples.parse().ok().filter(|samples| *samples > 0)?))
    };
    let lines = folded.lines();
    lines
        .map(|line| parse(line).unwrap_or_else(|| panic!("not folded: {line}")))
        .collect()
}

/// Whether a folded stack goes from the kernel's part of a task stack to the IRQ stack.
fn crosses(stack: &str) -> bool {
    stack.split_once(";[IRQ];").is_some_and(|(before, after)| {
        before.ends_with("_[k]") && after.ends_with("_[k]") && !after.contains("[IRQ]")
    })
}

fn the_change_of_stack_is_in_every_form() {
    let _load = Load::start(&[Kind::Tcp, Kind::Udp]);
    let place = Place::new();
    let run = place.run(&[
        "record",
        "-a",
        "-d",
        "1",
        "-o",
        "run.folded",
        "-o",
        "run.txt",
        "-o",
        "run.svg",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_eq!(place.files(), ["run.folded", "run.svg", "run.txt"]);

    let folded = fs::read_to_string(place.path("run.folded")).unwrap();
    let folded = lines(&folded);
    let events = Events::of(&run.stderr);
    events.assert_sum();
    let samples: u64 = folded.iter().map(|(_, samples)| samples).sum();
    assert_eq!(samples, events.delivered, "{run:?}");
    assert!(folded.iter().any(|(stack, _)| crosses(stack)), "{folded:?}");

    let text = fs::read_to_string(place.path("run.txt")).unwrap();
    let oops = text.split("\nCall Trace:\n").skip(1).any(|stack| {
        let marks: Vec<&str> = stack
            .lines()
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with(" <"))
            .collect();
        marks
            == [
                " <IRQ>", " </IRQ>", " <TASK>", " </TASK>", " <USER>", " </USER>",
            ]
    });
    assert!(oops, "{text}");

    let svg = fs::read_to_string(place.path("run.svg")).unwrap();
    let document = Document::parse(&svg).unwrap();
    assert_eq!(document.root_element().tag_name().name(), "svg");
    assert!(svg.contains("[IRQ]"));
}

fn the_change_of_stack_can_be_left_out() {
    let _load = Load::start(&[Kind::Tcp, Kind::Udp]);
    let place = Place::new();
    let run = place.run(&[
        "record",
        "-a",
        "-d",
        "1",
        "--no-stack-markers",
        "-o",
        "run.folded",
        "-o",
        "run.svg",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let stack = "kernel on IRQ stack";
    assert!(run.stderr.contains(stack), "no `{stack}` in {run:?}");
    for name in ["run.folded", "run.svg"] {
        let content = fs::read_to_string(place.path(name)).unwrap();
        assert!(!content.contains("[IRQ]"), "{content}");
    }
}

fn folded_stacks_can_go_to_standard_output() {
    let place = Place::new();
    let run = place.run(&[&["record", "-d", "0.5", "-o", "-", "--"], &COPY[..]].concat());
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let samples: u64 = lines(&run.stdout).iter().map(|(_, samples)| samples).sum();
    assert_eq!(samples, Events::of(&run.stderr).delivered, "{run:?}");
    assert!(samples > 0, "{run:?}");
    assert_eq!(place.files(), [""; 0]);
}

/// The formats of other programs have the samples that the recording has. What the programs make of
/// them is tested in `tests/exports`.
fn a_recording_is_exported_in_every_form() {
    let place = Place::new();
    let record = ["record", "-d", "0.5", "-o", "run.swk", "--"];
    let run = place.run(&[&record, &COPY[..]].concat());
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let samples = Events::of(&run.stderr).delivered;
    assert!(samples > 0, "{run:?}");
    let export = |format: &str| {
        let run = place.run(&["export", "run.swk", "--format", format]);
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        run.stdout
    };
    let json = |format: &str| serde_json::from_str::<Value>(&export(format)).unwrap();
    let length = |array: &Value| array.as_array().unwrap().len() as u64;

    let folded = export("folded");
    assert_eq!(
        lines(&folded).iter().map(|line| line.1).sum::<u64>(),
        samples
    );
    let perf = export("perf-script");
    let heads = perf
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '\t']));
    assert_eq!(heads.count() as u64, samples);
    assert_eq!(length(&json("json")["samples"]), samples);
    assert_eq!(json("speedscope")["profiles"][0]["endValue"], samples);
    let firefox = json("firefox");
    let threads = firefox["threads"].as_array().unwrap().iter();
    let lengths = threads.map(|thread| length(&thread["samples"]["stack"]));
    assert_eq!(lengths.sum::<u64>(), samples);

    for name in ["run.pb.gz", "run.svg", "run.txt"] {
        let run = place.run(&["export", "run.swk", "-o", name]);
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        assert!(fs::metadata(place.path(name)).unwrap().len() > 100);
    }
    // What says that it is stackwalk's own is written anew, what does not is kept.
    let again = |name| place.run(&["export", "run.swk", "-o", name]);
    assert_eq!(again("run.txt").status.code(), Some(0));
    let kept = again("run.pb.gz");
    assert_eq!(kept.status.code(), Some(2), "{kept:?}");
    assert!(kept.stderr.contains("--force"), "{kept:?}");
}
