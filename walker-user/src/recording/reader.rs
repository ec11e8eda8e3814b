//! Reads a recording, or what is whole of one.
//!
//! A file is hostile input: what it takes in memory is bounded by its length, every number is
//! checked before it is used, and what cannot be used is damage that is told, not an error, as
//! long as there is a head.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek},
    sync::Arc,
};

use serde::de::DeserializeOwned;
use walker_common::StackKind;

use super::{
    chunk::{ChunkHeader, ChunkReader, Damage, FileError, Kind, Next},
    head::{Counts, Head},
    rows::{
        CodeRow, Entry, FrameRow, MappingRow, NameRow, NodeRow, ObjectRow, OrcChunk, PlacedAt,
        ProcessEvent, SampleChunk,
    },
};
use crate::{
    classify::StackUse,
    kernel::sampled::SampledKernel,
    process::object::ObjectId,
    resolve::{Names, holder},
    stack_tree::{Code, Place, Process, RawFrame},
    symbolize::KernelSymbol,
    unwind::orc::{OrcEntry, OrcTable},
};

/// What tables may take when they are unpacked, besides their share of the file's length: more than
/// honest files have, less than a machine that looks at them.
const UNPACKED: u64 = 64 << 20;
/// How much of that a byte of the file may stand for.
const RATIO: u64 = 64;
/// Most damages that are told one by one.
const MAX_DAMAGES: usize = 100;
/// Most numbers of each kind; the recorder gives out fewer.
const MAX_NUMBER: usize = 1 << 20;
/// Most bytes of a sample's record: the header, the stacks, the kernel's own chain, and padding.
pub const MAX_RECORD: usize = 256 << 10;

/// A sample as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The number of its record.
    pub record: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// What it weighs.
    pub weight: u64,
    /// Where its stack is kept; `None` if that was damaged.
    pub place: Option<Place>,
    /// The thread.
    pub tid: u32,
    /// The CPU.
    pub cpu: u32,
    /// Where its stack uses begin.
    pub first_use: u32,
    /// The event, by number.
    pub event: u16,
    /// How many it has.
    pub use_count: u8,
    /// Why its walk ended, by number.
    pub stop: u8,
    /// How many frames at the leaf were left out.
    pub reporting: u8,
}

/// Code of a process that is in no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeBytes {
    /// The record from which on it holds.
    pub since: u64,
    /// The process.
    pub pid: u32,
    /// Its address.
    pub address: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A recording, without the bytes of its stacks.
#[derive(Debug)]
pub struct Recording {
    /// What it says of itself.
    pub head: Head,
    /// Where the events went, as far as is known.
    pub counts: Counts,
    /// Whether it ended properly.
    pub ended: bool,
    /// What is not whole.
    pub damages: Vec<Damage>,
    /// Further damages.
    pub more_damages: u64,
    /// Chunks that are not there.
    pub missing_chunks: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of its chunks by kind.
    pub bytes_by_kind: BTreeMap<Kind, u64>,
    /// Processes, by number.
    pub processes: Vec<Process>,
    /// Object files, by number; `None` where damaged.
    pub objects: Vec<Option<ObjectRow>>,
    /// Names of mapped files that were not at hand, by number.
    pub no_files: Vec<String>,
    /// Notes, by number.
    pub notes: Vec<String>,
    /// Frames, by number; each is kept below one with a smaller number. `None` where damaged.
    pub nodes: Vec<Option<(Place, RawFrame)>>,
    /// The samples, in the order of time.
    pub rows: Vec<Row>,
    /// The stacks in use at the samples.
    pub uses: Vec<StackUse>,
    /// Names of addresses.
    pub names: Names,
    /// What processes had mapped, in the order in which it was seen.
    pub mappings: Vec<MappingRow>,
    /// Code that is in no file, likewise.
    pub code: Vec<CodeBytes>,
    /// What happened to processes.
    pub events: Vec<ProcessEvent>,
    /// The kernel as walks need it.
    pub kernel: SampledKernel,
    /// Where the records are: the number of the first of each chunk, in order.
    evidence: Vec<ChunkHeader>,
}

/// What takes the place of something damaged.
const DAMAGED: &str = "[damaged]";

/// What is being read.
struct Loader {
    recording: Recording,
    orc: BTreeMap<u32, Vec<(u32, OrcEntry)>>,
    unpacked: u64,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn read(file: File) -> Result<(Self, RecordingFile), FileError> {
        let mut chunks = ChunkReader::open(BufReader::with_capacity(256 << 10, file))?;
        let recording = Self::load(&mut chunks, &mut |_, _| {})?;
        Ok((recording, RecordingFile { chunks }))
    }

    /// Reads all but the bytes of stacks. `progress` is told the position and the length.
    ///
    /// # Errors
    /// If the file cannot be read or has no head.
    pub fn load<R: Read + Seek>(
        chunks: &mut ChunkReader<R>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, FileError> {
        let mut loader: Option<Loader> = None;
        let mut before: Vec<Damage> = Vec::new();
        loop {
            progress(chunks.position(), chunks.len());
            let next = chunks.next()?;
            let Some(loader) = &mut loader else {
                match next {
                    Next::Chunk(header) if header.kind == Some(Kind::Head) => {
                        let head = match chunks.payload(&header)? {
                            Ok(bytes) => serde_json::from_slice(&bytes)
                                .map_err(|error| FileError::Head(format!("is no head: {error}")))?,
                            Err(damage) => return Err(FileError::Head(damage.what)),
                        };
                        loader = Some(Loader::new(head, chunks.len(), std::mem::take(&mut before)));
                    }
                    Next::Chunk(_) | Next::Missing(_) => {}
                    Next::Damage(damage) if before.is_empty() => before.push(damage),
                    Next::Damage(_) => {}
                    Next::End => {
                        let why = match before.first() {
                            Some(damage) => format!("is damaged: {}", damage.what),
                            None => "is missing: the recording ended before it was written".into(),
                        };
                        return Err(FileError::Head(why));
                    }
                }
                continue;
            };
            match next {
                Next::Chunk(header) => loader.chunk(chunks, &header)?,
                Next::Damage(damage) => loader.damaged(damage),
                Next::Missing(count) => loader.recording.missing_chunks += u64::from(count),
                Next::End => break,
            }
        }
        let Some(loader) = loader else {
            return Err(FileError::Empty);
        };
        Ok(loader.finish())
    }

    /// Whether everything that was written is there and whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.ended && self.damages.is_empty() && self.missing_chunks == 0
    }

    /// What of the recording is not whole, a line each.
    #[must_use]
    pub fn defects(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .damages
            .iter()
            .map(|damage| {
                format!(
                    "damaged at byte {} ({} bytes): {}",
                    damage.at, damage.bytes, damage.what
                )
            })
            .collect();
        if self.more_damages > 0 {
            lines.push(format!("{} more places are damaged", self.more_damages));
        }
        if self.missing_chunks > 0 {
            lines.push(format!("{} chunks are missing", self.missing_chunks));
        }
        if !self.ended {
            let seconds = self.counts.duration_ns as f64 / 1e9;
            lines.push(format!(
                "the recording did not end properly (its recorder was killed, or the disk was \
                 full): what was sampled after {seconds:.1} s and the last names are missing"
            ));
        }
        lines
    }

    /// The frames of a stack, root first, and its process; `None` if it is damaged.
    #[must_use]
    pub fn stack(&self, place: Place, frames: &mut Vec<RawFrame>) -> Option<Process> {
        frames.clear();
        let mut at = place;
        loop {
            match at {
                Place::Process(number) => {
                    frames.reverse();
                    return self.processes.get(number as usize).copied();
                }
                Place::Node(number) => {
                    let (parent, frame) = (*self.nodes.get(number as usize)?)?;
                    frames.push(frame);
                    at = parent;
                }
            }
        }
    }

    /// Whether the bytes of stacks are in the file.
    #[must_use]
    pub fn has_evidence(&self) -> bool {
        self.head.evidence
    }
}

/// The open file of a recording, for the bytes of its stacks.
#[derive(Debug)]
pub struct RecordingFile {
    chunks: ChunkReader<BufReader<File>>,
}

impl RecordingFile {
    /// The file of a recording that was [loaded](Recording::load).
    #[must_use]
    pub const fn new(chunks: ChunkReader<BufReader<File>>) -> Self {
        Self { chunks }
    }

    /// Hands every record, with its number, to `each`, in order, until that returns `false`.
    /// Returns what is damaged.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn records(
        &mut self,
        recording: &Recording,
        mut each: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<Vec<Damage>> {
        let mut damages = Vec::new();
        for header in &recording.evidence {
            let bytes = match self.chunks.payload(header)? {
                Ok(bytes) => bytes,
                Err(damage) => {
                    damages.push(damage);
                    continue;
                }
            };
            let mut number = header.first;
            let mut rest = bytes.as_slice();
            while let Some((record, behind)) = split_record(rest) {
                if !each(number, record) {
                    return Ok(damages);
                }
                number += 1;
                rest = behind;
            }
        }
        Ok(damages)
    }

    /// One record by its number; `None` if it is not there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn record(&mut self, recording: &Recording, number: u64) -> io::Result<Option<Vec<u8>>> {
        let evidence = &recording.evidence;
        let behind = evidence.partition_point(|header| header.first <= number);
        let Some(header) = behind.checked_sub(1).and_then(|index| evidence.get(index)) else {
            return Ok(None);
        };
        let Ok(bytes) = self.chunks.payload(header)? else {
            return Ok(None);
        };
        let mut rest = bytes.as_slice();
        for _ in header.first..number {
            match split_record(rest) {
                Some((_, behind)) => rest = behind,
                None => return Ok(None),
            }
        }
        Ok(split_record(rest).map(|(record, _)| record.to_vec()))
    }
}

/// The first record of some bytes, and what is behind it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let size = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    (8..=MAX_RECORD)
        .contains(&size)
        .then(|| bytes.split_at_checked(size))
        .flatten()
}

impl Loader {
    fn new(head: Head, bytes: u64, damages: Vec<Damage>) -> Self {
        Self {
            recording: Recording {
                head,
                counts: Counts::default(),
                ended: false,
                damages,
                more_damages: 0,
                missing_chunks: 0,
                bytes,
                bytes_by_kind: BTreeMap::new(),
                processes: Vec::new(),
                objects: Vec::new(),
                no_files: Vec::new(),
                notes: Vec::new(),
                nodes: Vec::new(),
                rows: Vec::new(),
                uses: Vec::new(),
                names: Names::default(),
                mappings: Vec::new(),
                code: Vec::new(),
                events: Vec::new(),
                kernel: SampledKernel::default(),
                evidence: Vec::new(),
            },
            orc: BTreeMap::new(),
            unpacked: 0,
        }
    }

    fn damaged(&mut self, damage: Damage) {
        match self.recording.damages.len() < MAX_DAMAGES {
            true => self.recording.damages.push(damage),
            false => self.recording.more_damages += 1,
        }
    }

    fn chunk<R: Read + Seek>(
        &mut self,
        chunks: &mut ChunkReader<R>,
        header: &ChunkHeader,
    ) -> io::Result<()> {
        // What a newer version added is of no interest to this one.
        let Some(kind) = header.kind else {
            return Ok(());
        };
        *self.recording.bytes_by_kind.entry(kind).or_default() += u64::from(header.stored);
        if kind == Kind::Evidence {
            let after = |last: &ChunkHeader| header.first > last.first;
            if self.recording.evidence.last().is_none_or(after) {
                self.recording.evidence.push(*header);
            }
            return Ok(());
        }
        self.unpacked += u64::from(header.raw);
        if self.unpacked > UNPACKED + RATIO * self.recording.bytes {
            self.damaged(Damage {
                at: header.at,
                bytes: u64::from(header.stored),
                what: format!("{} unpack to more than any recording has", kind.name()),
            });
            return Ok(());
        }
        let bytes = match chunks.payload(header)? {
            Ok(bytes) => bytes,
            Err(damage) => {
                self.damaged(damage);
                return Ok(());
            }
        };
        if let Err(what) = self.payload(kind, header, &bytes) {
            self.damaged(Damage {
                at: header.at,
                bytes: u64::from(header.stored),
                what: format!("{} {what}", kind.name()),
            });
        }
        Ok(())
    }

    fn payload(
        &mut self,
        kind: Kind,
        header: &ChunkHeader,
        bytes: &[u8],
    ) -> Result<(), Cow<'static, str>> {
        match kind {
            Kind::Head => Err("stand a second time".into()),
            Kind::Orc => self.orc(decode(bytes)?),
            Kind::Tables => decode_list(bytes, |entry| self.entry(entry)),
            Kind::Nodes => self.nodes(header.first, bytes),
            Kind::Samples => self.samples(decode(bytes)?),
            Kind::Evidence => Ok(()),
            Kind::Names => decode_list(bytes, |name| self.name(name)),
            Kind::Counters | Kind::End => {
                let counts = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
                self.recording.counts = counts;
                self.recording.ended |= kind == Kind::End;
                Ok(())
            }
        }
    }

    fn orc(&mut self, chunk: OrcChunk) -> Result<(), Cow<'static, str>> {
        let entries = self.orc.entry(chunk.table).or_default();
        let mut start = entries.last().map_or(0, |(start, _)| *start);
        for (distance, entry) in chunk.entries {
            start = start.checked_add(distance).ok_or("reach too far")?;
            entries.push((start, entry));
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Cow<'static, str>> {
        let recording = &mut self.recording;
        match entry {
            Entry::Process { number, pid, comm } => put(
                &mut recording.processes,
                number,
                Process { pid, comm },
                || Process {
                    pid: 0,
                    comm: *b"[damaged]\0\0\0\0\0\0\0",
                },
            ),
            Entry::Object(number, object) => {
                put(&mut recording.objects, number, Some(object), || None)
            }
            Entry::NoFile(number, name) => put(&mut recording.no_files, number, name, damaged),
            Entry::Note(number, note) => put(&mut recording.notes, number, note, damaged),
            Entry::Mapping(mapping) => {
                recording.mappings.push(mapping);
                Ok(())
            }
            Entry::Code {
                since,
                pid,
                address,
                bytes,
            } => {
                recording.code.push(CodeBytes {
                    since,
                    pid,
                    address,
                    bytes,
                });
                Ok(())
            }
            Entry::Event(event) => {
                recording.events.push(event);
                Ok(())
            }
        }
    }

    fn nodes(&mut self, first: u64, bytes: &[u8]) -> Result<(), Cow<'static, str>> {
        let mut number = usize::try_from(first).map_err(|_| "have impossible numbers")?;
        decode_list(bytes, |row: NodeRow| {
            let parent = place(row.parent);
            let below = match parent {
                Place::Node(parent) => (parent as usize) < number,
                Place::Process(_) => true,
            };
            let node = frame(row.frame).filter(|_| below);
            put(
                &mut self.recording.nodes,
                u32::try_from(number).map_err(|_| "have impossible numbers")?,
                node.map(|frame| (parent, frame)),
                || None,
            )?;
            number += 1;
            Ok(())
        })
    }

    fn samples(&mut self, chunk: SampleChunk) -> Result<(), Cow<'static, str>> {
        let (mut record, mut time_ns) = (chunk.record, chunk.time_ns);
        self.recording.rows.reserve(chunk.rows.len());
        for row in chunk.rows {
            record = record.wrapping_add_signed(row.record);
            time_ns = time_ns.wrapping_add_signed(row.time_ns);
            let uses = &mut self.recording.uses;
            let first_use = u32::try_from(uses.len()).map_err(|_| "are too many")?;
            for (kind, used, size) in row.uses.into_iter().take(usize::from(u8::MAX)) {
                let kind = StackKind::from_number(kind).ok_or("have an unknown stack kind")?;
                uses.push(StackUse { kind, used, size });
            }
            self.recording.rows.push(Row {
                record,
                time_ns,
                weight: row.weight,
                place: Some(place(row.place)),
                tid: row.tid,
                cpu: row.cpu,
                first_use,
                use_count: (uses.len() - first_use as usize) as u8,
                event: u16::try_from(row.event).map_err(|_| "are of an unknown event")?,
                stop: row.stop,
                reporting: row.reporting,
            });
        }
        Ok(())
    }

    fn name(&mut self, name: NameRow) -> Result<(), Cow<'static, str>> {
        let names = &mut self.recording.names;
        match name {
            NameRow::Kernel {
                lookup,
                name,
                module,
                offset,
                size,
            } => {
                let symbol = KernelSymbol {
                    name,
                    module,
                    offset,
                    size,
                };
                names.kernel.insert(lookup, symbol);
            }
            NameRow::User {
                code: row,
                pid,
                lookup,
                symbol,
            } => {
                let names = names.user.entry(holder(code(row), pid)).or_default();
                names.insert(lookup, Arc::new(symbol));
            }
        }
        Ok(())
    }

    /// Brings rows into order and checks what refers to what.
    fn finish(mut self) -> Recording {
        if let Some(head) = &self.recording.head.kernel {
            self.recording.kernel = head.sampled();
            for (number, &(base, count)) in (0..).zip(&head.orc) {
                let entries = self.orc.remove(&number).unwrap_or_default();
                if entries.len() as u64 == count
                    && let Ok(table) = OrcTable::from_entries(base, entries)
                {
                    self.recording.kernel.tables.orc.push(table);
                }
            }
        }
        let recording = &mut self.recording;
        recording.rows.sort_by_key(|row| row.time_ns);
        // A frame is as good as the frames it is kept below; those come first.
        for number in 0..recording.nodes.len() {
            let good = match recording.nodes[number] {
                Some((Place::Node(parent), _)) => recording.nodes[parent as usize].is_some(),
                Some((Place::Process(process), _)) => {
                    (process as usize) < recording.processes.len()
                }
                None => false,
            };
            if !good {
                recording.nodes[number] = None;
            }
        }
        for row in &mut recording.rows {
            let good = match row.place {
                Some(Place::Node(node)) => recording
                    .nodes
                    .get(node as usize)
                    .is_some_and(Option::is_some),
                Some(Place::Process(process)) => (process as usize) < recording.processes.len(),
                None => false,
            };
            if !good {
                row.place = None;
            }
        }
        self.recording
    }
}

fn damaged() -> String {
    DAMAGED.to_owned()
}

/// Puts a value in its numbered place; what is missing before it is filled up.
fn put<T>(
    values: &mut Vec<T>,
    number: u32,
    value: T,
    missing: impl Fn() -> T,
) -> Result<(), Cow<'static, str>> {
    let number = number as usize;
    if number >= MAX_NUMBER {
        return Err("have impossible numbers".into());
    }
    while values.len() < number {
        values.push(missing());
    }
    match values.get_mut(number) {
        Some(place) => *place = value,
        None => values.push(value),
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Cow<'static, str>> {
    postcard::from_bytes(bytes).map_err(|_| "cannot be decoded".into())
}

/// Decodes a list without holding all of it.
fn decode_list<T: DeserializeOwned>(
    bytes: &[u8],
    mut each: impl FnMut(T) -> Result<(), Cow<'static, str>>,
) -> Result<(), Cow<'static, str>> {
    const UNDECODABLE: Cow<'static, str> = Cow::Borrowed("cannot be decoded");
    let (count, mut rest) = postcard::take_from_bytes::<u32>(bytes).map_err(|_| UNDECODABLE)?;
    for _ in 0..count {
        let (row, behind) = postcard::take_from_bytes(rest).map_err(|_| UNDECODABLE)?;
        each(row)?;
        rest = behind;
    }
    Ok(())
}

const fn place(row: PlacedAt) -> Place {
    match row {
        PlacedAt::Process(number) => Place::Process(number),
        PlacedAt::Node(number) => Place::Node(number),
    }
}

const fn code(row: CodeRow) -> Code {
    match row {
        CodeRow::Object(number) => Code::Object(ObjectId(number)),
        CodeRow::NoFile(number) => Code::NoFile(number),
        CodeRow::Memory => Code::Memory,
        CodeRow::Unmapped => Code::Unmapped,
    }
}

/// The frame of a row; `None` if it is on an unknown stack.
fn frame(row: FrameRow) -> Option<RawFrame> {
    Some(match row {
        FrameRow::Kernel {
            ip,
            after,
            stack,
            reliable,
        } => RawFrame::Kernel {
            ip,
            lookup: ip.wrapping_sub(u64::from(after.min(1))),
            stack: StackKind::from_number(stack)?,
            reliable,
        },
        FrameRow::User {
            code: row,
            address,
            after,
            reliable,
        } => RawFrame::User {
            code: code(row),
            address,
            lookup: address.wrapping_sub(u64::from(after.min(1))),
            reliable,
        },
        FrameRow::Note(note) => RawFrame::Note(note),
    })
}
