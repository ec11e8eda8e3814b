//! Real samples, walked again without the kernel they were taken on.
//!
//! `golden/samples.json` holds them with what they need. Each walk must give exactly the frames
//! that are written there, and must agree with what the kernel's own unwinder found at the same
//! event. The file is made anew by
//!
//! ```text
//! sudo UPDATE_GOLDEN=1 cargo test -p walker-user --test golden -- --ignored
//! ```
//!
//! on a kernel whose ORC entries have format V3 (6.4 to 7.0).

#[path = "golden/data.rs"]
mod data;
#[path = "golden/load.rs"]
mod load;
#[path = "golden/regenerate.rs"]
mod regenerate;

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index};
use walker_user::{
    capture::record::Sample,
    unwind::{Frame, FrameSource},
    verify::{Outcome, compare},
};

use data::Golden;

/// A frame in one line.
fn line(frame: &Frame) -> String {
    format!(
        "{:016x} sp {:016x} {} {}{}",
        frame.ip,
        frame.sp,
        frame.stack.name(),
        frame.source.name(),
        if frame.reliable { "" } else { " ?" }
    )
}

#[test]
fn real_samples_give_the_frames_they_gave() {
    let golden = Golden::read().unwrap();
    let machine = golden.machine().unwrap();
    let mut frames = Vec::new();
    for case in &golden.samples {
        let record = case.record_bytes().unwrap();
        let sample = Sample::parse(&record).unwrap();
        let stop = machine.walk(&sample, &mut frames);
        let expected: Vec<&str> = case
            .frames
            .iter()
            .map(|line| line.split(" | ").next().unwrap_or_default())
            .collect();
        let found: Vec<String> = frames.iter().map(line).collect();
        assert_eq!(found, expected, "{}", case.what);
        assert_eq!(stop.to_string(), case.stop, "{}", case.what);
        let kernel: Vec<u64> = sample.kernel_chain().collect();
        assert!(kernel.iter().eq(case.kernel.iter().map(|ip| &ip.0)));
        let outcome = compare(&frames, &kernel, &|_| false);
        assert_eq!(outcome, Outcome::Agree, "{}", case.what);
    }
}

#[test]
fn the_samples_show_what_they_are_kept_for() {
    let golden = Golden::read().unwrap();
    let machine = golden.machine().unwrap();
    let mut frames = Vec::new();
    let (mut sources, mut stops) = (BTreeSet::new(), BTreeSet::new());
    let mut longest = 0;
    for case in &golden.samples {
        let record = case.record_bytes().unwrap();
        let sample = Sample::parse(&record).unwrap();
        stops.insert(machine.walk(&sample, &mut frames).name());
        sources.extend(frames.iter().map(|frame| frame.source));
        longest = longest.max(frames.len());
    }
    for source in [FrameSource::Orc, FrameSource::OrcRegs, FrameSource::Thunk] {
        assert!(sources.contains(&source), "{source:?}");
    }
    assert!(stops.contains("user-mode") && stops.contains("end-of-stack"));
    assert!(longest >= regenerate::LONG, "{longest}");
    for (what, ..) in regenerate::KINDS {
        assert!(
            golden.samples.iter().any(|case| case.what == *what),
            "{what}"
        );
    }
}

/// Makes the file anew. Ignored, because it needs the privileges to sample, and because another
/// kernel's samples are another file.
#[test]
#[ignore = "run with UPDATE_GOLDEN=1 to make the file of samples anew"]
fn regenerate_golden_samples() {
    if std::env::var_os("UPDATE_GOLDEN").is_none() {
        return;
    }
    let golden = regenerate::golden().unwrap();
    let text = serde_json::to_string_pretty(&golden).unwrap();
    std::fs::write(Golden::path(), text + "\n").unwrap();
}

/// What is done to a record.
#[derive(Debug, Clone)]
enum Change {
    /// Another byte anywhere, or in the header.
    Byte(Index, u8),
    HeaderByte(Index, u8),
    /// A word taken from another place, so that it is a likely address.
    Word(Index, Index),
    /// The end cut off, with the header's size as it was or made to fit.
    Cut(Index, bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::HeaderByte(at, byte)),
        4 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Word(from, to)),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(at, fit)| Change::Cut(at, fit)),
    ]
}

impl Change {
    fn apply(&self, record: &mut Vec<u8>) {
        match self {
            _ if record.len() < 16 => {}
            Self::Byte(at, byte) => {
                let at = at.index(record.len());
                record[at] = *byte;
            }
            Self::HeaderByte(at, byte) => {
                let at = at.index(record.len().min(336));
                record[at] = *byte;
            }
            Self::Word(from, to) => {
                let (from, to) = (from.index(record.len() / 8), to.index(record.len() / 8));
                record.copy_within(8 * from..8 * from + 8, 8 * to);
            }
            Self::Cut(at, fit) => {
                record.truncate(at.index(record.len()));
                if let (true, Some(size)) = (fit, u32::try_from(record.len()).ok())
                    && let Some(field) = record.first_chunk_mut()
                {
                    *field = size.to_le_bytes();
                }
            }
        }
    }
}

#[test]
fn changed_records_are_refused_or_walked_within_their_bounds() {
    let golden = Golden::read().unwrap();
    let machine = golden.machine().unwrap();
    let records: Vec<Vec<u8>> = golden
        .samples
        .iter()
        .map(|case| case.record_bytes().unwrap())
        .collect();
    let changes = prop::collection::vec(change(), 1..20);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let input = (any::<Index>(), changes);
    let result = runner.run(&input, |(which, changes)| {
        let mut record = which.get(&records).clone();
        for change in changes {
            change.apply(&mut record);
        }
        let Ok(sample) = Sample::parse(&record) else {
            return Ok(());
        };
        let mut frames = Vec::new();
        machine.walk(&sample, &mut frames);
        // The stacks of a CPU do not overlap, so that no word is found by the scan twice; a task
        // stack whose address was changed can lie over one of them.
        let words = record.len() / 8;
        let exact = frames.iter().filter(|frame| frame.reliable).count();
        prop_assert!(exact <= words + 1);
        prop_assert!(frames.len() - exact <= 2 * words);
        Ok(())
    });
    result.unwrap();
}
