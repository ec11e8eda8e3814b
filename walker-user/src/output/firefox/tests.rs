//! Tests of [`super`]. Whether the Firefox Profiler reads what is written was tried with its own
//! code, which converts the format; `tests/exports` follows every reference as that does.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CATEGORIES, Options, write};
use crate::profile::{Unit, fixture, timeline::Timeline};

fn written(timeline: &Timeline) -> Value {
    let mut out = Vec::new();
    write(timeline, &Options::default(), &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn at(column: &Value, index: &Value) -> Value {
    column[usize::try_from(index.as_u64().unwrap()).unwrap()].clone()
}

/// The functions of a stack with their categories, root first.
fn stack(file: &Value, leaf: &Value) -> Vec<String> {
    let shared = &file["shared"];
    let mut names = Vec::new();
    let mut next = leaf.clone();
    while !next.is_null() {
        let frame = at(&shared["stackTable"]["frame"], &next);
        let function = at(&shared["frameTable"]["func"], &frame);
        let name = at(&shared["funcTable"]["name"], &function);
        let category = at(&shared["frameTable"]["category"], &frame);
        let (category, _) = CATEGORIES[category.as_u64().unwrap() as usize];
        let name = at(&shared["stringArray"], &name);
        names.push(format!("{} {category}", name.as_str().unwrap()));
        next = at(&shared["stackTable"]["prefix"], &next);
    }
    names.reverse();
    names
}

#[test]
fn threads_have_samples_in_categories() {
    let file = written(&fixture::timeline());
    let threads = file["threads"].as_array().unwrap();
    let about: Vec<_> = threads
        .iter()
        .map(|t| {
            json!([
                t["name"],
                t["processName"],
                t["pid"],
                t["tid"],
                t["isMainThread"]
            ])
        })
        .collect();
    assert_eq!(
        about,
        [
            json!(["cc1", "cc1", "42", 42, true]),
            json!(["cc1", "cc1", "42", 43, false])
        ]
    );
    let samples = &threads[1]["samples"];
    assert_eq!(samples["length"], 36);
    assert_eq!(samples["time"][1], 45.0);
    assert_eq!(samples["weight"][1], 1);
    assert_eq!(samples["threadCPUDelta"][1], 1_003_009);
    assert_eq!(
        stack(&file, &samples["stack"][1])[4..],
        [
            "asm_sysvec_apic_timer_interrupt Kernel",
            "[IRQ] IRQ",
            "__sysvec_apic_timer_interrupt IRQ",
            "[NMI] NMI",
            "asm_exc_nmi NMI",
            "perf_event_nmi_handler NMI",
        ]
    );
    let markers = &threads[0]["markers"];
    assert_eq!(
        markers["data"][0],
        json!({ "type": "lost", "reason": "ring buffer full", "samples": 5 })
    );
    let stopped = threads
        .iter()
        .flat_map(|t| t["markers"]["data"].as_array().unwrap());
    let stopped = stopped.filter(|data| data["stop"] == "no unwind information");
    assert_eq!(stopped.count(), 8);
}

#[test]
fn inlined_functions_have_depths_and_lines() {
    let mut timeline = fixture::timeline();
    timeline.profile = fixture::inlined();
    timeline.points.retain(|point| point.stack < 3);
    timeline.profile.meta.unit = Unit::Nanoseconds;
    timeline.points[0].weight = 2_500_000;
    let file = written(&timeline);
    let frames = &file["shared"]["frameTable"];
    assert_eq!(frames["inlineDepth"], json!([0, 1, 0, 0, 0]));
    assert_eq!(frames["line"], json!([7, 3, 9, null, 1]));
    let samples = &file["threads"][0]["samples"];
    assert_eq!(samples["weightType"], "tracing-ms");
    assert_eq!(samples["weight"][0], 2.5);
    assert!(samples.get("threadCPUDelta").is_none());
    let sources = &file["shared"]["sources"];
    let names = sources["filename"].as_array().unwrap().iter();
    let names: Vec<_> = names
        .map(|name| at(&file["shared"]["stringArray"], name))
        .collect();
    assert_eq!(names, ["/src/a.c", "/src/a.h"]);
}

/// Columns of a table with equal lengths, and references that have their targets.
fn check_table(table: &Value, references: &[(&str, usize)]) -> Result<(), TestCaseError> {
    let length = table["length"].as_u64().unwrap() as usize;
    for (name, column) in table.as_object().unwrap() {
        if let Some(column) = column.as_array() {
            prop_assert_eq!(column.len(), length, "column {}", name);
        }
    }
    for (name, limit) in references {
        for index in table[*name].as_array().unwrap() {
            let reaches = index.as_i64().unwrap_or(-1) < *limit as i64;
            prop_assert!(reaches, "{} of {}", name, limit);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_reference_has_its_target(timeline in fixture::any_timeline()) {
        let file = written(&timeline);
        let shared = &file["shared"];
        let length = |table: &str| shared[table]["length"].as_u64().unwrap() as usize;
        let strings = shared["stringArray"].as_array().unwrap().len();
        check_table(&shared["stackTable"], &[("prefix", length("stackTable")), ("frame", length("frameTable"))])?;
        check_table(&shared["frameTable"], &[
            ("func", length("funcTable")), ("category", CATEGORIES.len()), ("nativeSymbol", length("nativeSymbols")),
        ])?;
        check_table(&shared["funcTable"], &[
            ("name", strings), ("resource", length("resourceTable")), ("source", length("sources")),
        ])?;
        check_table(&shared["resourceTable"], &[("name", strings), ("lib", file["libs"].as_array().unwrap().len())])?;
        check_table(&shared["nativeSymbols"], &[("name", strings)])?;
        check_table(&shared["sources"], &[("filename", strings)])?;
        // A stack comes after the one it continues.
        for (index, prefix) in shared["stackTable"]["prefix"].as_array().unwrap().iter().enumerate() {
            prop_assert!(prefix.is_null() || prefix.as_u64().unwrap() < index as u64);
        }
        let mut samples = 0;
        for thread in file["threads"].as_array().unwrap() {
            check_table(&thread["samples"], &[("stack", length("stackTable"))])?;
            check_table(&thread["markers"], &[("name", strings)])?;
            samples += thread["samples"]["length"].as_u64().unwrap() as usize;
        }
        prop_assert_eq!(samples, timeline.points.len());
    }
}
