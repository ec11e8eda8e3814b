//! `docs/report-json.md` describes what programs are told: each field, and no other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{depth, diff, report};
use crate::profile::fixture;

/// The names of all fields of an object and those in it.
fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.insert(name.clone());
                fields(value, names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

#[test]
fn every_field_is_described_and_nothing_else() {
    let timeline = fixture::timeline();
    let mut objects: Vec<Vec<u8>> = Vec::new();
    let mut object = |write: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        objects.push(out);
    };
    for by in report::By::ALL {
        let options = report::Options {
            by,
            ..Default::default()
        };
        object(&|out| report::write_json(&timeline, &options, out));
    }
    object(&|out| report::irq::write_json(&timeline, &Default::default(), out));
    object(&|out| depth::write_json(&timeline, &Default::default(), out));
    let nmi = timeline.filtered(&crate::profile::filter::Filter {
        stack_kind: vec![walker_common::StackKind::Nmi],
        ..Default::default()
    });
    let [before, after] = [&timeline, &nmi].map(|timeline| diff::Compared {
        profile: &timeline.profile,
        duration: timeline.profile.meta.duration,
    });
    let changes = diff::Diff::new(before, after, diff::Measure::Share).unwrap();
    object(&|out| diff::write_json(&changes, &Default::default(), out));

    let mut written = BTreeSet::new();
    for object in &objects {
        fields(&serde_json::from_slice(object).unwrap(), &mut written);
    }
    // In tables, the first column has the names: | `name` | what it is |
    let text = include_str!("../../../docs/report-json.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let described: BTreeSet<String> = rows
        .filter_map(|row| row.split_once("` |"))
        .flat_map(|(names, _)| names.split("`, `"))
        .map(str::to_owned)
        .collect();
    assert_eq!(described, written);
}
