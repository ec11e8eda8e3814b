//! What [`reader`](super::reader) makes of the chunks of a file: every number is checked before it is
//! used, and what all of them together take is bounded by the length of the file.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Read, Seek},
    sync::Arc,
};

use serde::de::DeserializeOwned;
use walker_common::StackKind;

use super::{
    DAMAGED, DAMAGED_PROCESS,
    chunk::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkReader, Damage, Kind},
    head::{Counts, Head},
    reader::{CodeBytes, Recording, Row},
    rows::{
        CodeRow, Entry, FrameRow, MappingRow, NameRow, NodeRow, OrcChunk, PlacedAt, SampleChunk,
    },
};
use crate::{
    classify::StackUse,
    kernel::sampled::SampledKernel,
    process::object::ObjectId,
    resolve::{Names, holder},
    stack_tree::{Code, Place, Process, RawFrame},
    symbolize::{CodeSymbol, Function, KernelSymbol},
    unwind::orc::{OrcEntry, OrcTable},
};

/// What tables may take when they are unpacked, and again what is made of them in memory, besides
/// their share of the file's length: more than honest files have, less than a machine that looks at
/// them.
const ALLOWANCE: u64 = 64 << 20;
/// How many bytes of unpacked tables a byte of the file may stand for.
const UNPACKED_RATIO: u64 = 16;
/// How many bytes in memory.
const MEMORY_RATIO: u64 = 64;
/// Most damages that are told one by one.
const MAX_DAMAGES: usize = 100;
/// Most numbers of each kind; the recorder gives out fewer.
const MAX_NUMBER: usize = 1 << 20;
/// Most frames of a stack: more than fit into all the bytes of stacks that a sample can have.
const MAX_DEPTH: u32 = 1 << 15;
/// Most functions at one address, the inlined ones included.
const MAX_FUNCTIONS: usize = 1 << 10;
/// What the weights of all samples can add up to, and all counts of events, so that no sum of some
/// of them overflows.
const MAX_SUM: u64 = i64::MAX as u64;

/// What is said of a chunk that would take more than its file may.
const TOO_MUCH: &str = "there is more of it than in any recording of this length";

/// What is being read.
pub(super) struct Loader {
    pub(super) recording: Recording,
    orc: BTreeMap<u32, Vec<(u32, OrcEntry)>>,
    unpacked: u64,
    /// About how many bytes were made of them, but for numbered tables, whose length is bounded.
    memory: u64,
    /// What all samples weigh.
    weight: u64,
}

/// What is wrong with a chunk.
type Wrong = Cow<'static, str>;

impl Loader {
    pub(super) fn new(head: Head, bytes: u64, damages: Vec<Damage>) -> Self {
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
            memory: 0,
            weight: 0,
        }
    }

    pub(super) fn damaged(&mut self, damage: Damage) {
        match self.recording.damages.len() < MAX_DAMAGES {
            true => self.recording.damages.push(damage),
            false => self.recording.more_damages += 1,
        }
    }

    pub(super) fn chunk<R: Read + Seek>(
        &mut self,
        chunks: &mut ChunkReader<R>,
        header: &ChunkHeader,
    ) -> io::Result<()> {
        // What a newer version added is of no interest to this one.
        let Some(kind) = header.kind else {
            return Ok(());
        };
        *self.recording.bytes_by_kind.entry(kind).or_default() += u64::from(header.stored);
        let result = self.use_chunk(chunks, kind, header)?;
        if let Err(what) = result {
            let begin = header.at - CHUNK_HEADER_BYTES as u64;
            self.damaged(Damage {
                at: begin,
                bytes: header.end() - begin,
                what: format!("{}: {what}", kind.name()),
            });
        }
        Ok(())
    }

    fn use_chunk<R: Read + Seek>(
        &mut self,
        chunks: &mut ChunkReader<R>,
        kind: Kind,
        header: &ChunkHeader,
    ) -> io::Result<Result<(), Wrong>> {
        if kind == Kind::Evidence {
            let last = self.recording.evidence.last();
            if last.is_some_and(|last| header.first <= last.first) {
                return Ok(Err("they are out of order".into()));
            }
            self.recording.evidence.push(*header);
            return Ok(Ok(()));
        }
        self.unpacked += u64::from(header.raw);
        if self.unpacked > ALLOWANCE + UNPACKED_RATIO * self.recording.bytes {
            return Ok(Err(TOO_MUCH.into()));
        }
        Ok(match chunks.payload(header)? {
            Ok(bytes) => self.payload(kind, header, &bytes),
            Err(damage) => {
                self.damaged(damage);
                Ok(())
            }
        })
    }

    /// Takes note that so many more bytes of memory are in use.
    fn charge(&mut self, bytes: usize) -> Result<(), Wrong> {
        self.memory += bytes as u64;
        match self.memory <= ALLOWANCE + MEMORY_RATIO * self.recording.bytes {
            true => Ok(()),
            false => Err(TOO_MUCH.into()),
        }
    }

    fn payload(&mut self, kind: Kind, header: &ChunkHeader, bytes: &[u8]) -> Result<(), Wrong> {
        match kind {
            Kind::Head => Err("there was one before".into()),
            Kind::Orc => self.orc(decode(bytes)?),
            Kind::Tables => decode_list(bytes, |entry| self.entry(entry)),
            Kind::Nodes => self.nodes(header.first, bytes),
            Kind::Samples => self.samples(decode(bytes)?),
            Kind::Evidence => Ok(()),
            Kind::Names => decode_list(bytes, |name| self.name(name)),
            Kind::Counters | Kind::End => {
                let counts: Counts =
                    serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
                check_counts(&counts)?;
                self.recording.counts = counts;
                self.recording.ended |= kind == Kind::End;
                Ok(())
            }
        }
    }

    fn orc(&mut self, chunk: OrcChunk) -> Result<(), Wrong> {
        let entries = self.orc.entry(chunk.table).or_default();
        let mut start = entries.last().map_or(0, |(start, _)| *start);
        // An entry, and its share of the index that a table has of the code it is for.
        let mut memory = 0;
        for (distance, entry) in chunk.entries {
            start = start.checked_add(distance).ok_or("they reach too far")?;
            memory += size_of::<(u32, OrcEntry)>() * 2 + distance as usize / 64;
            entries.push((start, entry));
        }
        self.charge(memory)
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Wrong> {
        self.charge(match &entry {
            Entry::Mapping(_) => size_of::<MappingRow>(),
            Entry::Code { bytes, .. } => size_of::<CodeBytes>() + bytes.len(),
            // Texts are not longer in memory than they are in the file.
            _ => size_of::<Entry>(),
        })?;
        let recording = &mut self.recording;
        match entry {
            Entry::Process { number, pid, comm } => put(
                &mut recording.processes,
                number,
                Process {
                    pid,
                    comm,
                    name: comm,
                },
                || DAMAGED_PROCESS,
            ),
            Entry::ProcessName { number, name } => {
                if let Some(process) = recording.processes.get_mut(number as usize) {
                    process.name = name;
                }
                Ok(())
            }
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

    fn nodes(&mut self, first: u64, bytes: &[u8]) -> Result<(), Wrong> {
        const NUMBERS: &str = "they have impossible numbers";
        let mut number = u32::try_from(first).map_err(|_| NUMBERS)?;
        let mut unusable = 0u64;
        // A long recording has more frames than a tree; each takes more than a byte of the file.
        let of_length = usize::try_from(self.recording.bytes).unwrap_or(usize::MAX);
        let limit = MAX_NUMBER.saturating_add(of_length);
        decode_list(bytes, |row: NodeRow| {
            let parent = place(row.parent);
            let below = match parent {
                Place::Node(parent) => parent < number,
                Place::Process(_) => true,
            };
            let node = frame(row.frame).filter(|_| below);
            unusable += u64::from(node.is_none());
            put_below(
                limit,
                &mut self.recording.nodes,
                number,
                node.map(|frame| (parent, frame)),
                || None,
            )?;
            number = number.checked_add(1).ok_or(NUMBERS)?;
            Ok(())
        })?;
        match unusable {
            0 => Ok(()),
            _ => Err(format!("{unusable} of them cannot be frames of a stack").into()),
        }
    }

    fn samples(&mut self, chunk: SampleChunk) -> Result<(), Wrong> {
        let (mut record, mut time_ns) = (chunk.record, chunk.time_ns);
        for row in chunk.rows {
            record = record.wrapping_add_signed(row.record);
            time_ns = time_ns.wrapping_add_signed(row.time_ns);
            let event = usize::try_from(row.event).unwrap_or(usize::MAX);
            if event >= self.recording.head.events.len() {
                return Err("they are of an unknown event".into());
            }
            self.weight = self
                .weight
                .checked_add(row.weight)
                .filter(|weight| *weight <= MAX_SUM)
                .ok_or("they weigh more than is possible")?;
            let uses: Option<Vec<StackUse>> = row.uses.into_iter().map(stack_use).collect();
            let uses = uses.ok_or("they have an unknown stack kind")?;
            self.charge(size_of::<Row>() + size_of_val(uses.as_slice()))?;
            let recording = &mut self.recording;
            recording.rows.push(Row {
                record,
                time_ns,
                weight: row.weight,
                place: Some(place(row.place)),
                tid: row.tid,
                cpu: row.cpu,
                first_use: u32::try_from(recording.uses.len()).map_err(|_| TOO_MUCH)?,
                use_count: u8::try_from(uses.len()).map_err(|_| "they are on too many stacks")?,
                event: u16::try_from(event).map_err(|_| "they are of an unknown event")?,
                stop: row.stop,
                reporting: row.reporting,
            });
            recording.uses.extend(uses);
        }
        Ok(())
    }

    fn name(&mut self, name: NameRow) -> Result<(), Wrong> {
        self.charge(name_bytes(&name))?;
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
                if symbol.functions.len() > MAX_FUNCTIONS {
                    return Err("one has too many functions".into());
                }
                let names = names.user.entry(holder(code(row), pid)).or_default();
                names.insert(lookup, Arc::new(symbol));
            }
        }
        Ok(())
    }

    /// Brings rows into order and checks what refers to what.
    pub(super) fn finish(mut self) -> Recording {
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
        let mut depths: Vec<u32> = Vec::with_capacity(recording.nodes.len());
        for node in &mut recording.nodes {
            let depth = match node {
                Some((Place::Node(parent), _)) => match depths[*parent as usize] {
                    0 => 0,
                    depth => depth + 1,
                },
                Some((Place::Process(process), _)) => {
                    u32::from((*process as usize) < recording.processes.len())
                }
                None => 0,
            };
            let good = (1..=MAX_DEPTH).contains(&depth);
            depths.push(if good { depth } else { 0 });
            if !good {
                *node = None;
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

/// About how many bytes a name takes in memory, with its share of the tables it is in.
fn name_bytes(name: &NameRow) -> usize {
    // Tables are up to twice as large as what is in them.
    match name {
        NameRow::Kernel { name, module, .. } => {
            let module = module.as_ref().map_or(0, String::len);
            2 * size_of::<(u64, KernelSymbol)>() + name.len() + module
        }
        NameRow::User { symbol, .. } => {
            let bytes = |function: &Function| {
                let file = function.file.as_ref().map_or(0, String::len);
                size_of::<Function>() + function.name.len() + file
            };
            let functions: usize = symbol.functions.iter().map(bytes).sum();
            2 * size_of::<CodeSymbol>() + symbol.module.len() + functions
        }
    }
}

/// Whether all counts can be added up.
fn check_counts(counts: &Counts) -> Result<(), Wrong> {
    let pairs = counts.lost.iter().chain(&counts.filtered);
    let mut all = pairs
        .map(|(_, samples)| *samples)
        .chain([counts.taken, counts.delivered]);
    let sum = all.try_fold(0u64, u64::checked_add);
    match sum.is_some_and(|sum| sum <= MAX_SUM) {
        true => Ok(()),
        false => Err("they count more than is possible".into()),
    }
}

fn stack_use((kind, used, size): (u8, u32, u32)) -> Option<StackUse> {
    let kind = StackKind::from_number(kind)?;
    Some(StackUse { kind, used, size })
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
) -> Result<(), Wrong> {
    put_below(MAX_NUMBER, values, number, value, missing)
}

/// The same for numbers below a limit.
fn put_below<T>(
    limit: usize,
    values: &mut Vec<T>,
    number: u32,
    value: T,
    missing: impl Fn() -> T,
) -> Result<(), Wrong> {
    let number = number as usize;
    if number >= limit {
        return Err("they have impossible numbers".into());
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

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Wrong> {
    postcard::from_bytes(bytes).map_err(|_| "it cannot be decoded".into())
}

/// Decodes a list without holding all of it.
fn decode_list<T: DeserializeOwned>(
    bytes: &[u8],
    mut each: impl FnMut(T) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    const UNDECODABLE: Wrong = Cow::Borrowed("it cannot be decoded");
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
