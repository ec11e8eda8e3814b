//! Recordings that are written, then cut, damaged or made up.

use std::{
    io::Cursor,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde::Serialize;
use walker_common::{
    StackKind,
    wire::{SampleHeader, WIRE_VERSION},
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::*;
use crate::{
    capture::record::Record,
    output::folded,
    recording::{
        chunk::{FILE_HEADER_BYTES, Packer, file_header},
        head::{EventHead, WeightHead},
        rows::{
            Entry, FrameRow, NameRow, NodeRow, PlacedAt, ProcessDid, ProcessEvent, SampleChunk,
            SampleRow,
        },
        sink::{Sampled, Sink},
        writer::Writer,
    },
    stack_tree::StackTree,
    unwind::StopReason,
};

/// Samples as they are given to the recorder: a process and frames, root first.
type Stack = (Process, Vec<RawFrame>);

fn process(pid: u32) -> Process {
    Process {
        pid,
        name: *b"written\0\0\0\0\0\0\0\0\0",
        comm: *b"written\0\0\0\0\0\0\0\0\0",
    }
}

fn kernel(ip: u64) -> RawFrame {
    RawFrame::Kernel {
        ip,
        lookup: ip - 1,
        stack: StackKind::Irq,
        reliable: ip.is_multiple_of(2),
    }
}

fn head() -> Head {
    Head {
        tool: "test".to_owned(),
        wire_version: WIRE_VERSION,
        evidence: true,
        began_monotonic_ns: 1000,
        events: vec![EventHead {
            name: "cpu-clock".to_owned(),
            weight: WeightHead::Events(1),
            frequency: Some(997),
            entry: None,
            traced: false,
            waits: false,
            interrupts: false,
        }],
        ..Head::default()
    }
}

fn name_of(lookup: u64) -> String {
    format!("function_{lookup}")
}

fn name_row(lookup: u64) -> NameRow {
    NameRow::Kernel {
        lookup,
        name: name_of(lookup),
        module: None,
        offset: 3,
        size: 10,
    }
}

fn record_bytes(time_ns: u64) -> Vec<u8> {
    let mut header = SampleHeader::new_zeroed();
    header.size = size_of::<SampleHeader>() as u32;
    header.data_offset = header.size;
    header.version = WIRE_VERSION;
    header.time_ns = time_ns;
    header.as_bytes().to_vec()
}

/// Writes these samples, a group of chunks for each part of them, and names for all addresses.
fn write(parts: &[Vec<Stack>]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Writer::start(file.reopen().unwrap()).unwrap();
    let mut sink = Sink::begin(writer, true, &[], head).unwrap();
    let mut tree = StackTree::default();
    let (mut time_ns, mut names) = (1000, Vec::new());
    for stacks in parts {
        for (process, frames) in stacks {
            time_ns += 10;
            let bytes = record_bytes(time_ns);
            let record = sink.record(&Record::parse(&bytes).unwrap());
            let leaf_first: Vec<RawFrame> = frames.iter().rev().copied().collect();
            sink.sample(&Sampled {
                record,
                time_ns,
                tid: process.pid,
                cpu: 1,
                event: 0,
                place: tree.place(*process, &leaf_first),
                stop: StopReason::EndOfStack,
                reporting: 0,
                weight: 1,
                uses: &[StackUse {
                    kind: StackKind::Irq,
                    used: 8,
                    size: 16384,
                }],
            });
            names.extend(frames.iter().filter_map(|frame| match frame {
                RawFrame::Kernel { lookup, .. } => Some(*lookup),
                _ => None,
            }));
        }
        let counts = Counts {
            duration_ns: time_ns,
            ..Counts::default()
        };
        sink.flush(&tree, None, &counts).unwrap();
        // As the recorder does when the tree is nearly full.
        assert!(sink.has_written(&tree));
        tree.forget_nodes();
    }
    names.sort_unstable();
    names.dedup();
    let names: Vec<NameRow> = names.into_iter().map(name_row).collect();
    sink.names(&names).unwrap();
    sink.write_rows(&tree, None).unwrap();
    sink.end(&Counts::default()).unwrap();
    std::fs::read(file.path()).unwrap()
}

fn load(bytes: &[u8]) -> Result<Recording, FileError> {
    let mut chunks = ChunkReader::open(Cursor::new(bytes))?;
    Recording::load(&mut chunks, &mut |_, _| {})
}

/// The stack of every sample; `None` where that is damaged.
fn stacks(recording: &Recording) -> Vec<Option<Stack>> {
    let mut frames = Vec::new();
    let rows = recording.rows.iter();
    rows.map(|row| {
        let process = recording.stack(row.place?, &mut frames)?;
        Some((process, frames.clone()))
    })
    .collect()
}

/// Some samples in two groups of chunks.
fn small() -> Vec<Vec<Stack>> {
    vec![
        vec![
            (process(1), vec![kernel(11), kernel(21)]),
            (process(2), vec![kernel(11), kernel(31), kernel(41)]),
        ],
        vec![
            (process(1), vec![kernel(11), kernel(22)]),
            (process(3), vec![]),
        ],
    ]
}

/// Everything that shows a recording: that it neither panics nor takes forever.
fn show(recording: &Recording) -> String {
    let timeline = recording.timeline();
    assert_eq!(timeline.points.len(), recording.rows.len());
    let _all = (
        recording.addresses(),
        recording.unnamed(),
        recording.defects(),
    );
    let mut text = Vec::new();
    folded::write(
        &timeline.profile,
        &folded::Options { markers: true },
        &mut text,
    )
    .unwrap();
    String::from_utf8(text).unwrap()
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        parts in prop::collection::vec(
            prop::collection::vec((1u32..5, prop::collection::vec(1u64..6, 0..8)), 0..8),
            0..5,
        ),
    ) {
        let stack = |(pid, ips): &(u32, Vec<u64>)| {
            (process(*pid), ips.iter().copied().map(kernel).collect())
        };
        let parts: Vec<Vec<Stack>> =
            parts.iter().map(|part| part.iter().map(stack).collect()).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), write(&parts)).unwrap();
        let (recording, mut open) = Recording::read(file.reopen().unwrap()).unwrap();
        prop_assert!(recording.is_whole(), "{:?}", recording.defects());
        prop_assert_eq!(&recording.head, &head());
        let expected: Vec<Option<Stack>> = parts.concat().into_iter().map(Some).collect();
        prop_assert_eq!(stacks(&recording), expected);
        for (number, row) in (0..).zip(&recording.rows) {
            prop_assert_eq!((row.record, row.time_ns), (number, 1010 + 10 * number));
            prop_assert_eq!((row.weight, row.cpu, row.use_count), (1, 1, 1));
            let bytes = open.record(&recording, number).unwrap();
            prop_assert_eq!(bytes, Some(record_bytes(row.time_ns)));
        }
        for (lookup, symbol) in &recording.names.kernel {
            prop_assert_eq!(&symbol.name, &name_of(*lookup));
        }
        prop_assert!(recording.unnamed().kernel.is_empty());
        let mut records = 0;
        open.records(&recording, |number, bytes| {
            assert_eq!((number, bytes), (records, &*record_bytes(1010 + 10 * number)));
            records += 1;
            true
        }).unwrap();
        prop_assert_eq!(records, recording.rows.len() as u64);
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_read_to_its_last_whole_chunk() {
    let bytes = write(&small());
    let mut reader = ChunkReader::open(Cursor::new(&bytes)).unwrap();
    // The ends of the chunks, and how many samples stand before each.
    let mut ends = Vec::new();
    let mut samples = 0;
    while let Next::Chunk(header) = reader.next().unwrap() {
        if header.kind == Some(Kind::Samples) {
            let raw = reader.payload(&header).unwrap().unwrap();
            samples += postcard::from_bytes::<SampleChunk>(&raw)
                .unwrap()
                .rows
                .len();
        }
        ends.push((header.end() as usize, samples));
    }
    let whole = stacks(&load(&bytes).unwrap());
    assert_eq!(whole.len(), 4);
    for length in 0..bytes.len() {
        let result = load(&bytes[..length]);
        if length < ends[0].0 {
            let error = result.unwrap_err();
            match length {
                0 => assert!(matches!(error, FileError::Empty), "{error}"),
                1..FILE_HEADER_BYTES => assert!(matches!(error, FileError::Header), "{error}"),
                _ => assert!(matches!(error, FileError::Head(_)), "{error}"),
            }
            continue;
        }
        let recording = result.unwrap();
        let last = ends.iter().rfind(|(end, _)| *end <= length).unwrap();
        assert_eq!(stacks(&recording), whole[..last.1], "cut at {length}");
        assert!(!recording.ended && !recording.is_whole());
        let torn = usize::from(last.0 != length);
        assert_eq!(recording.damages.len(), torn, "{:?}", recording.damages);
        assert!(
            recording.defects().len() > torn,
            "{:?}",
            recording.defects()
        );
        show(&recording);
    }
}

#[test]
fn no_flipped_bit_shows_what_was_not_written() {
    let mut bytes = write(&small());
    let written: Vec<Stack> = small().concat();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(recording) = load(&bytes) {
            // The bytes of stacks are checked when they are asked for.
            let at = bit as u64 / 8;
            let mut evidence = recording.evidence.iter();
            match evidence.find(|header| (header.at..header.end()).contains(&at)) {
                Some(header) => {
                    let mut chunks = ChunkReader::open(Cursor::new(&bytes)).unwrap();
                    let damage = chunks.payload(header).unwrap().unwrap_err();
                    assert!(damage.what.contains("stack bytes"), "{damage:?}");
                }
                None => assert!(!recording.is_whole(), "bit {bit} is not missed"),
            }
            for (process, frames) in stacks(&recording).into_iter().flatten() {
                let known = |(other, theirs): &Stack| {
                    *theirs == frames && (*other == process || process.pid == 0)
                };
                assert!(
                    written.iter().any(known),
                    "bit {bit}: {process:?} {frames:?}"
                );
            }
            for (lookup, symbol) in &recording.names.kernel {
                assert_eq!(symbol.name, name_of(*lookup), "bit {bit}");
            }
            show(&recording);
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A made-up file: a head and these chunks.
fn made_up(chunks: &[(Kind, u64, Vec<u8>)]) -> Vec<u8> {
    let mut packer = Packer::new().unwrap();
    let mut bytes = file_header().to_vec();
    let head = serde_json::to_vec(&head()).unwrap();
    bytes.extend(packer.pack(Kind::Head, 0, &head).unwrap());
    for (kind, first, raw) in chunks {
        bytes.extend(packer.pack(*kind, *first, raw).unwrap());
    }
    bytes
}

fn encode<T: Serialize + ?Sized>(rows: &T) -> Vec<u8> {
    postcard::to_stdvec(rows).unwrap()
}

fn node(parent: PlacedAt) -> NodeRow {
    NodeRow {
        parent,
        frame: FrameRow::Kernel {
            ip: 0,
            after: 9,
            stack: 0,
            reliable: true,
        },
    }
}

fn row(place: PlacedAt) -> SampleRow {
    SampleRow {
        record: 0,
        time_ns: 1,
        tid: 1,
        cpu: u32::MAX,
        event: 0,
        place,
        stop: 250,
        reporting: 0,
        weight: 1,
        uses: Vec::new(),
    }
}

fn sample_chunk(rows: Vec<SampleRow>) -> (Kind, u64, Vec<u8>) {
    let chunk = SampleChunk {
        record: 0,
        time_ns: 0,
        rows,
    };
    (Kind::Samples, 0, encode(&chunk))
}

fn a_process() -> (Kind, u64, Vec<u8>) {
    let entry = Entry::Process {
        number: 0,
        pid: 7,
        comm: [0xff; 16],
    };
    (Kind::Tables, 0, encode(&[entry][..]))
}

/// The only damage of a made-up file.
fn damage_of(chunks: &[(Kind, u64, Vec<u8>)]) -> String {
    let recording = load(&made_up(chunks)).unwrap();
    show(&recording);
    let [damage] = &recording.damages[..] else {
        panic!("{:?}", recording.damages);
    };
    damage.what.clone()
}

#[test]
fn an_unknown_kind_of_chunk_is_passed_over() {
    let mut bytes = made_up(&[a_process(), sample_chunk(vec![row(PlacedAt::Process(0))])]);
    let mut chunk = Packer::new().unwrap().pack(Kind::Names, 0, b"?").unwrap();
    chunk[4] = 200;
    chunk[8] = 3;
    let sum = crc32fast::hash(&chunk[..CHUNK_HEADER]);
    chunk[CHUNK_HEADER..CHUNK_HEADER + 4].copy_from_slice(&sum.to_le_bytes());
    bytes.extend(chunk);
    let recording = load(&bytes).unwrap();
    assert_eq!((recording.damages.len(), recording.missing_chunks), (0, 0));
    assert_eq!(recording.rows.len(), 1);
}

/// Bytes of a chunk's header before its checksum.
const CHUNK_HEADER: usize = crate::recording::chunk::CHUNK_HEADER_BYTES - 4;

#[test]
fn frames_below_themselves_or_later_ones_are_damaged() {
    for parent in [0, 1, 5, u32::MAX] {
        let nodes = encode(&[node(PlacedAt::Node(parent)), node(PlacedAt::Node(0))][..]);
        let rows = (0..3).map(|number| row(PlacedAt::Node(number))).collect();
        let bytes = made_up(&[a_process(), (Kind::Nodes, 0, nodes), sample_chunk(rows)]);
        let recording = load(&bytes).unwrap();
        assert_eq!(stacks(&recording), [None, None, None]);
        assert!(
            recording.damages[0].what.contains("frames"),
            "{recording:?}"
        );
        assert!(recording.defects().join("\n").contains("3 samples"));
        assert!(show(&recording).contains("[damaged stack]"));
    }
}

#[test]
fn numbers_that_refer_to_nothing_are_told() {
    let recording = load(&made_up(&[
        (Kind::Nodes, 0, encode(&[node(PlacedAt::Process(9))][..])),
        sample_chunk(vec![row(PlacedAt::Node(0)), row(PlacedAt::Process(3))]),
    ]))
    .unwrap();
    assert_eq!(stacks(&recording), [None, None]);
    assert!(!recording.defects().is_empty());
    for first in [1 << 21, u64::from(u32::MAX), u64::MAX] {
        let nodes = encode(&[node(PlacedAt::Process(0))][..]);
        let what = damage_of(&[a_process(), (Kind::Nodes, first, nodes)]);
        assert!(what.contains("impossible numbers"), "{what}");
    }
    let note = encode(&[Entry::Note(u32::MAX, String::new())][..]);
    let what = damage_of(&[(Kind::Tables, 0, note)]);
    assert!(what.contains("impossible numbers"), "{what}");
}

#[test]
fn rows_that_cannot_be_are_told() {
    let place = PlacedAt::Process(0);
    let mut unknown = row(place);
    unknown.event = 1;
    let mut heavy = row(place);
    heavy.weight = u64::MAX;
    let mut odd = row(place);
    odd.uses = vec![(200, 1, 1)];
    for (bad, why) in [
        (unknown, "unknown event"),
        (heavy, "weigh more"),
        (odd, "unknown stack kind"),
    ] {
        let what = damage_of(&[a_process(), sample_chunk(vec![bad])]);
        assert!(what.contains(why), "{what}");
    }
    let counts = Counts {
        lost: vec![("a".to_owned(), u64::MAX), ("b".to_owned(), 1)],
        ..Counts::default()
    };
    let counts = serde_json::to_vec(&counts).unwrap();
    let what = damage_of(&[(Kind::Counters, 0, counts)]);
    assert!(what.contains("more than is possible"), "{what}");
    let what = damage_of(&[(Kind::Names, 0, b"\x05\x01\x02".to_vec())]);
    assert!(what.contains("cannot be decoded"), "{what}");
}

#[test]
fn absurd_times_are_no_more_than_that() {
    let mut before = row(PlacedAt::Process(0));
    before.time_ns = i64::MIN;
    before.record = i64::MIN;
    let recording = load(&made_up(&[
        a_process(),
        sample_chunk(vec![row(PlacedAt::Process(0)), before]),
    ]))
    .unwrap();
    assert_eq!(recording.rows.len(), 2);
    show(&recording);
}

#[test]
fn a_stack_that_is_deeper_than_any_is_damaged() {
    let mut nodes = vec![node(PlacedAt::Process(0))];
    nodes.extend((0..49_999).map(|number| node(PlacedAt::Node(number))));
    let rows = vec![row(PlacedAt::Node(10_000)), row(PlacedAt::Node(49_999))];
    let recording = load(&made_up(&[
        a_process(),
        (Kind::Nodes, 0, encode(&nodes[..])),
        sample_chunk(rows),
    ]))
    .unwrap();
    let depths: Vec<Option<usize>> = stacks(&recording)
        .into_iter()
        .map(|stack| stack.map(|(_, frames)| frames.len()))
        .collect();
    assert_eq!(depths, [Some(10_001), None]);
}

/// A small file whose rows would fill any memory.
#[test]
fn what_unpacks_to_very_much_is_bounded() {
    let event = ProcessEvent {
        time_ns: 0,
        pid: 0,
        tid: 0,
        what: ProcessDid::Exited,
    };
    let entries = vec![Entry::Event(event); 1_000_000];
    let bomb = (Kind::Tables, 0, encode(&entries[..]));
    let rows = sample_chunk(vec![row(PlacedAt::Process(0)); 400_000]);
    for chunk in [bomb, rows] {
        let bytes = made_up(&vec![chunk; 100]);
        let begin = Instant::now();
        let recording = load(&bytes).unwrap();
        let taken = recording.events.len() * size_of::<ProcessEvent>()
            + recording.rows.len() * size_of::<Row>();
        let allowed = (64 << 20) + 64 * bytes.len();
        assert!(taken > 0 && taken <= allowed, "{taken} of {}", bytes.len());
        assert!(
            recording
                .damages
                .last()
                .unwrap()
                .what
                .contains("more of it than")
        );
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}

/// Every frame of a deep tree with a sample of its own: the sum of their stacks is bounded.
#[test]
fn stacks_that_fill_any_memory_are_left_out_and_named() {
    let mut nodes = vec![node(PlacedAt::Process(0))];
    nodes.extend((0..29_999).map(|number| node(PlacedAt::Node(number))));
    let rows = (0..30_000)
        .map(|number| row(PlacedAt::Node(number)))
        .collect();
    let recording = load(&made_up(&[
        a_process(),
        (Kind::Nodes, 0, encode(&nodes[..])),
        sample_chunk(rows),
    ]))
    .unwrap();
    let profile = recording.timeline().profile;
    let frames: usize = profile
        .stacks()
        .iter()
        .map(|stack| stack.frames.len())
        .sum();
    assert!(frames < (1 << 26) + 60_000, "{frames}");
    assert_eq!(profile.samples(), 30_000);
}

#[test]
fn evidence_out_of_order_is_told_and_numbers_may_be_absurd() {
    let mut records = record_bytes(1);
    records.extend(record_bytes(2));
    let bytes = made_up(&[
        (Kind::Evidence, u64::MAX - 1, records.clone()),
        (Kind::Evidence, 0, records),
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let (recording, mut open) = Recording::read(file.reopen().unwrap()).unwrap();
    assert!(recording.damages[0].what.contains("out of order"));
    let mut numbers = Vec::new();
    open.records(&recording, |number, _| {
        numbers.push(number);
        true
    })
    .unwrap();
    assert_eq!(numbers, [u64::MAX - 1, u64::MAX]);
    assert_eq!(open.record(&recording, 5).unwrap(), None);
    assert!(open.record(&recording, u64::MAX).unwrap().is_some());
}

#[test]
fn a_small_file_does_not_fill_the_memory() {
    let trunk: Vec<RawFrame> = (0..3000).map(|n| kernel(0x1000 + n * 16)).collect();
    let stacks = (0..1000).map(|leaf| {
        let mut frames = trunk.clone();
        frames.push(kernel(0x10_0000 + leaf * 16));
        (process(1), frames)
    });
    let bytes = write(&[stacks.collect()]);
    assert!(bytes.len() < 200_000, "{}", bytes.len());
    let profile = load(&bytes).unwrap().timeline().profile;
    let frames: usize = { profile.stacks().iter() }
        .map(|stack| stack.frames.len())
        .sum();
    assert!(frames < 2_500_000, "{frames} of 3 million");
    let last = profile.stacks().last().unwrap();
    let shown = profile.frame(last.frames[0]);
    assert_eq!(
        shown.name.map(|name| profile.text(name)),
        Some("[one of too many stacks]")
    );
}
