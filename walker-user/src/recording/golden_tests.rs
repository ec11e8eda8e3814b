//! A recording that was written by the first version of the format, with every kind of row: it has to
//! be read for as long as the major version is the same. If this fails, the format has changed, and
//! `docs/format.md` says what that means.

use std::{collections::HashMap, fs, io::Cursor, path::Path, sync::Arc};

use serde::Serialize;
use walker_common::StackKind;

use super::{
    chunk::{ChunkReader, Kind, Packer, file_header},
    head::{Counts, EventHead, Head, Host, KernelHead, WeightHead},
    reader::Recording,
    rows::{
        CodeRow, Entry, FrameRow, MappingRow, NameRow, NodeRow, ObjectRow, OrcChunk, PlaceRow,
        PlacedAt, ProcessDid, ProcessEvent, SampleChunk, SampleRow,
    },
};
use crate::{
    kernel::sampled::SampledKernel,
    symbolize::{CodeSymbol, Function, Reason},
    unwind::orc::{OrcEntry, OrcTable},
};

/// Where it is.
const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/recordings/version-1.swk"
);

fn rows<T: Serialize>(rows: &T) -> Vec<u8> {
    postcard::to_stdvec(rows).unwrap()
}

fn entries() -> Vec<Entry> {
    let event = |what| {
        Entry::Event(ProcessEvent {
            time_ns: 5,
            pid: 7,
            tid: 8,
            what,
        })
    };
    let mapping = |start, place| {
        Entry::Mapping(MappingRow {
            since: 1,
            pid: 7,
            start,
            end: start + 0x1000,
            place,
        })
    };
    vec![
        Entry::Process {
            number: 0,
            pid: 7,
            comm: *b"golden\0\0\0\0\0\0\0\0\0\0",
        },
        Entry::Object(
            0,
            ObjectRow {
                path: b"/usr/bin/golden".to_vec(),
                build_id: vec![1, 2, 3],
                state: Some((4096, 5, 6)),
            },
        ),
        Entry::NoFile(0, "gone".to_owned()),
        Entry::Note(0, "[woken by init]".to_owned()),
        mapping(0x1000, PlaceRow::Object { object: 0, bias: 1 }),
        mapping(0x2000, PlaceRow::NoFile { bias: 2 }),
        mapping(0x3000, PlaceRow::Memory),
        mapping(0x4000, PlaceRow::Gone),
        mapping(0x5000, PlaceRow::Unknown),
        Entry::Code {
            since: 1,
            pid: 7,
            address: 0x3000,
            bytes: vec![0xc3],
        },
        event(ProcessDid::Forked {
            parent_pid: 1,
            parent_tid: 2,
        }),
        event(ProcessDid::Executed(b"golden".to_vec())),
        event(ProcessDid::Named(b"worker".to_vec())),
        event(ProcessDid::Mapped {
            start: 0x1000,
            len: 0x1000,
            offset: 0,
            path: b"/usr/bin/golden".to_vec(),
            build_id: vec![1, 2, 3],
        }),
        event(ProcessDid::Exited),
        event(ProcessDid::Lost(3)),
    ]
}

fn nodes() -> Vec<NodeRow> {
    let user = |code| FrameRow::User {
        code,
        address: 0x1234,
        after: 1,
        reliable: true,
    };
    let kernel = |stack: StackKind, reliable| FrameRow::Kernel {
        ip: 0xffff_ffff_8100_0010,
        after: 0,
        stack: stack as u8,
        reliable,
    };
    let frames = [
        user(CodeRow::Object(0)),
        user(CodeRow::NoFile(0)),
        user(CodeRow::Memory),
        user(CodeRow::Unmapped),
        kernel(StackKind::Task, false),
        kernel(StackKind::Irq, true),
        FrameRow::Note(0),
    ];
    (0..)
        .zip(frames)
        .map(|(number, frame)| NodeRow {
            parent: match number {
                0 => PlacedAt::Process(0),
                number => PlacedAt::Node(number - 1),
            },
            frame,
        })
        .collect()
}

fn names() -> Vec<NameRow> {
    let function = |name: &str, inlined| Function {
        name: name.to_owned(),
        inlined,
        file: Some("golden.c".to_owned()),
        line: Some(12),
    };
    vec![
        NameRow::Kernel {
            lookup: 0xffff_ffff_8100_0010,
            name: "net_rx_action".to_owned(),
            module: Some("net".to_owned()),
            offset: 0x10,
            size: 0x100,
        },
        NameRow::User {
            code: CodeRow::Object(0),
            pid: 0,
            lookup: 0x1233,
            symbol: CodeSymbol {
                functions: vec![function("main", false), function("step", true)],
                module: "golden".to_owned(),
                named: true,
                offset: 3,
                size: 40,
                reason: None,
            },
        },
        NameRow::User {
            code: CodeRow::Memory,
            pid: 7,
            lookup: 0x1233,
            symbol: CodeSymbol::unnamed("[jit]", 0x1233, Reason::NoPerfMap),
        },
    ]
}

/// The recording as it is written now.
fn golden() -> Vec<u8> {
    let head = Head {
        tool: "stackwalk 0.1.0".to_owned(),
        title: "stackwalk record -p 7".to_owned(),
        wire_version: 3,
        evidence: true,
        host: Host {
            name: "golden".to_owned(),
            kernel_release: "6.18.0".to_owned(),
            cpus: 2,
            ..Host::default()
        },
        began_realtime_ns: 1_700_000_000_000_000_000,
        began_monotonic_ns: 1000,
        events: vec![EventHead {
            name: "cpu-clock".to_owned(),
            weight: WeightHead::Events(1),
            frequency: Some(997),
            entry: Some((1, 2)),
            traced: true,
            waits: true,
            interrupts: true,
        }],
        kernel: Some(KernelHead {
            orc: vec![(0xffff_ffff_8100_0000, 2)],
            ..KernelHead::of(&SampledKernel::default(), 0xffff_ffff_8100_0000)
        }),
        ..Head::default()
    };
    let orc = OrcChunk {
        table: 0,
        entries: vec![
            (0, OrcEntry::FRAME_POINTER),
            (16, OrcEntry::RETURN_ADDRESS_AT_SP),
        ],
    };
    let samples = SampleChunk {
        record: 1,
        time_ns: 1500,
        rows: vec![SampleRow {
            record: 2,
            time_ns: -100,
            tid: 8,
            cpu: 1,
            event: 0,
            place: PlacedAt::Node(6),
            stop: 4,
            reporting: 1,
            weight: 99,
            uses: vec![(StackKind::Irq as u8, 100, 16384)],
        }],
    };
    let counts = Counts {
        duration_ns: 2_000_000_000,
        taken: 3,
        delivered: 1,
        lost: vec![("ring buffer full".to_owned(), 1)],
        filtered: vec![("idle".to_owned(), 1)],
        bytes_dropped: 1,
        notes: vec!["a note".to_owned()],
        command: None,
    };
    let counts = serde_json::to_vec(&counts).unwrap();
    let chunks = [
        (Kind::Head, 0, serde_json::to_vec(&head).unwrap()),
        (Kind::Orc, 0, rows(&orc)),
        (Kind::Tables, 0, rows(&entries())),
        (Kind::Nodes, 0, rows(&nodes())),
        (Kind::Samples, 0, rows(&samples)),
        (Kind::Evidence, 3, [8u32.to_le_bytes(), [0; 4]].concat()),
        (Kind::Names, 0, rows(&names())),
        (Kind::Counters, 0, counts.clone()),
        (Kind::End, 0, counts),
    ];
    let mut packer = Packer::new().unwrap();
    let mut bytes = file_header().to_vec();
    for (kind, first, raw) in chunks {
        bytes.extend(packer.pack(kind, first, &raw).unwrap());
    }
    bytes
}

fn load(bytes: &[u8]) -> Recording {
    let mut chunks = ChunkReader::open(Cursor::new(bytes)).unwrap();
    Recording::load(&mut chunks, &mut |_, _| {}).unwrap()
}

/// All that is in a recording, as text.
fn contents(recording: &Recording) -> String {
    let mut names: Vec<_> = recording.names.user.iter().collect();
    names.sort_unstable_by_key(|(holder, _)| format!("{holder:?}"));
    let orc: Vec<_> = recording
        .kernel
        .tables
        .orc
        .iter()
        .flat_map(OrcTable::entries)
        .collect();
    let names: Vec<(_, HashMap<_, Arc<_>>)> = names
        .into_iter()
        .map(|(holder, names)| (*holder, names.clone()))
        .collect();
    format!(
        "{:#?}",
        (
            (&recording.head, &recording.counts, recording.ended),
            (&recording.processes, &recording.objects),
            (&recording.no_files, &recording.notes, &recording.nodes),
            (&recording.rows, &recording.uses, &recording.names.kernel),
            (&recording.mappings, &recording.code, &recording.events),
            (names, orc),
        )
    )
}

#[test]
fn a_recording_of_this_major_version_is_read() {
    let committed = load(&fs::read(GOLDEN).unwrap());
    assert_eq!(committed.defects(), [""; 0]);
    assert_eq!(contents(&committed), contents(&load(&golden())));
    assert_eq!(committed.rows.len(), 1);
    assert_eq!(committed.rows[0].time_ns, 1400);
    assert_eq!(committed.mappings.len(), 5);
    assert_eq!(committed.events.len(), 6);
}

#[test]
#[ignore = "writes the golden recording anew, for a new major version"]
fn write_the_golden_recording() {
    let path = Path::new(GOLDEN);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, golden()).unwrap();
}
