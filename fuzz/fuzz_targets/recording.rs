//! Reads bytes as a recording, and shows it with the names it has. None of that may panic, and what it
//! takes in memory is bounded (the fuzzer's own limit finds it if not).

#![no_main]

use std::io::{Seek as _, Write as _};

use libfuzzer_sys::fuzz_target;
use walker_user::{
    output::folded,
    recording::{
        chunk::{Kind, Packer, file_header},
        reader::Recording,
    },
};

/// Fuzzers do not find checksums. The bytes are lengths and contents of chunks instead: a byte for the
/// kind, one for the number of the first row, two for the length.
fn recording(mut data: &[u8]) -> Option<Vec<u8>> {
    const KINDS: [Kind; 8] = [
        Kind::Orc,
        Kind::Tables,
        Kind::Nodes,
        Kind::Samples,
        Kind::Evidence,
        Kind::Names,
        Kind::Counters,
        Kind::End,
    ];
    const HEAD: &[u8] = br#"{"tool":"","title":"","wire_version":3,"evidence":true,"host":{"name":"",
        "kernel_release":"","kernel_version":"","boot_id":"","cpus":1},"began_realtime_ns":0,
        "began_monotonic_ns":0,"events":[{"name":"e","weight":{"events":1},"frequency":0,"entry":null,
        "traced":false}],"options":{"kernel":true,"user_stack_max":0,"idle":false},"kernel":{
        "thread_size":16384,"stext":0,"kallsyms_digest":0,"text":[],"dynamic_text":null,
        "orc":[[0,2]],"cpus":[],"offsets":null}}"#;
    let mut packer = Packer::new().ok()?;
    let mut bytes = file_header().to_vec();
    bytes.extend(packer.pack(Kind::Head, 0, HEAD).ok()?);
    while let [kind, first, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (raw, behind) = rest.split_at(length);
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        bytes.extend(packer.pack(kind, u64::from(*first), raw).ok()?);
        data = behind;
    }
    Some(bytes)
}

fn read(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    file.rewind().expect("a file has a beginning");
    let Ok((recording, mut open)) = Recording::read(file) else {
        return;
    };
    let timeline = recording.timeline();
    assert_eq!(timeline.points.len(), recording.rows.len());
    let _unnamed = recording.unnamed();
    let _defects = recording.defects();
    let options = folded::Options { markers: true };
    folded::write(&timeline.profile, &options, &mut Vec::new()).expect("memory is written to");
    let mut some = 1000;
    let _damages = open.records(&recording, |_, _| {
        some -= 1;
        some > 0
    });
    let _record = open.record(&recording, 3);
}

fuzz_target!(|data: &[u8]| {
    read(data);
    if let Some(bytes) = recording(data) {
        read(&bytes);
    }
});
