//! `output::speedscope`, read with the types of speedscope's file format and nothing but those
//! (`src/lib/file-format-spec.ts` of github.com/jlfwong/speedscope).

use std::fs;

use libtest_mimic::Completion;
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "$schema")]
    schema: String,
    shared: Shared,
    profiles: Vec<SampledProfile>,
    name: String,
    active_profile_index: usize,
    exporter: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    name: String,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SampledProfile {
    r#type: String,
    name: String,
    unit: String,
    start_value: u64,
    end_value: u64,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// Every field is one that the format has, and every profile adds up.
pub(crate) fn follows_the_schema(folder: &TempDir) -> Completion {
    let text = fs::read_to_string(folder.path().join("run.speedscope.json")).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    assert_eq!(
        file.schema,
        "https://www.speedscope.app/file-format-schema.json"
    );
    assert_eq!(file.name, "make -j2_<evil>");
    assert!(file.exporter.starts_with("stackwalk "));
    let active = &file.profiles[file.active_profile_index];
    assert!(active.name.starts_with("all threads: "), "{}", active.name);
    assert!(active.name.contains("3 lost"), "{}", active.name);
    assert_eq!(active.samples.len(), 5);
    let names: Vec<_> = file.profiles[1..].iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["make 7/7", "cc1 42/42", "cc1 42/43"]);
    for profile in &file.profiles {
        assert_eq!(
            (profile.r#type.as_str(), profile.unit.as_str()),
            ("sampled", "none")
        );
        assert_eq!(profile.samples.len(), profile.weights.len());
        let sum = profile.weights.iter().sum::<u64>();
        assert_eq!(profile.end_value - profile.start_value, sum);
        let frames = profile.samples.iter().flatten();
        assert!({ frames }.all(|&frame| frame < file.shared.frames.len()));
    }
    let peek = file.shared.frames.iter().find(|frame| frame.name == "peek");
    let peek = peek.unwrap();
    assert_eq!(
        (peek.file.as_deref(), peek.line),
        (Some("/src/parse.cc"), Some(18))
    );
    Completion::Completed
}
