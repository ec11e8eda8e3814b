//! Reads a recording, or what is whole of one.
//!
//! A file is hostile input: what it takes in memory is bounded by its length, every number is
//! checked before it is used, and what cannot be used is damage that is told, not an error, as
//! long as there is a head.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek},
};

use super::{
    chunk::{ChunkHeader, ChunkReader, Damage, FileError, Kind, Next},
    head::{Counts, Head},
    loader::Loader,
    rows::{MappingRow, ObjectRow, ProcessEvent},
};
use crate::{
    classify::StackUse,
    kernel::sampled::SampledKernel,
    resolve::Names,
    stack_tree::{Place, Process, RawFrame},
};

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
    pub(super) evidence: Vec<ChunkHeader>,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn read(file: File) -> Result<(Self, RecordingFile), FileError> {
        let mut chunks = ChunkReader::open(file)?;
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
                                .map_err(|error| FileError::Head(format!("head: {error}")))?,
                            Err(damage) => return Err(FileError::Head(damage.what)),
                        };
                        loader = Some(Loader::new(head, chunks.len(), std::mem::take(&mut before)));
                    }
                    Next::Chunk(_) | Next::Missing(_) => {}
                    Next::Damage(damage) if before.is_empty() => before.push(damage),
                    Next::Damage(_) => {}
                    Next::End => {
                        let why = match before.first() {
                            Some(damage) => damage.what.clone(),
                            None => "the recording ended before it was written".to_owned(),
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
        let unplaced = self.rows.iter().filter(|row| row.place.is_none()).count();
        if unplaced > 0 {
            lines.push(format!(
                "the stacks of {unplaced} samples are damaged or missing"
            ));
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
    chunks: ChunkReader<File>,
}

impl RecordingFile {
    /// The file of a recording that was [loaded](Recording::load).
    #[must_use]
    pub const fn new(chunks: ChunkReader<File>) -> Self {
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
                number = number.wrapping_add(1);
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

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
