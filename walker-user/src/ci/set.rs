//! Sets of runs of one workload: a tar file of recordings, one a run, and of `set.json`, which says what
//! they are of. `tar` takes it apart, and every command of stackwalk reads what is in it.
//!
//! A set is hostile input: how much of it is read is bounded by its length, and it is whole only if
//! `set.json`, which is last, is there.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read as _, Seek, SeekFrom, Write},
    os::unix::fs::FileExt as _,
};

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::recording::{
    chunk::{ChunkReader, FileError},
    reader::Recording,
};

/// What every set begins with: the name of its first entry.
pub const MAGIC: &[u8] = b"run-001.swk\0";
/// What the entry is called that says what a set is.
const HEAD: &str = "set.json";
/// What [`SetHead::format`] is.
const FORMAT: &str = "stackwalk-set";
/// What [`SetHead::version`] is. It changes when a reader of the version before would go wrong.
const VERSION: u32 = 1;
/// Most bytes of `set.json`.
const MAX_HEAD: u64 = 16 << 20;
/// Most runs of a set.
pub const MAX_RUNS: usize = 1000;
/// Most bytes of one run.
const MAX_RUN: u64 = 4 << 30;

/// What a set is of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SetHead {
    /// Tells it from other JSON.
    pub format: String,
    /// Of the format.
    pub version: u32,
    /// What wrote it.
    pub tool: String,
    /// What tells this workload from others: the command line, unless it was given a name.
    pub workload: String,
    /// When the first run began, in seconds since 1970.
    pub began: u64,
    /// What a unit of work is, if the command prints how many it did: the regular expression that finds
    /// the number.
    pub work_unit: Option<String>,
    /// What it was measured under.
    pub facts: Facts,
    /// The runs, in order.
    pub runs: Vec<RunHead>,
}

impl SetHead {
    /// Units of work that a run did, by its index.
    ///
    /// # Panics
    /// If there is no such run.
    #[must_use]
    pub fn work(&self, run: usize) -> f64 {
        let counted = self.work_unit.as_ref().and(self.runs[run].work);
        counted.unwrap_or(1.0)
    }
}

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    /// The entry with its recording.
    pub file: String,
    /// The command's exit status.
    pub status: i32,
    /// How long it ran, in nanoseconds.
    pub wall_ns: u64,
    /// CPU time of the command and what it waited for, in nanoseconds.
    pub cpu_ns: u64,
    /// How many units of work it did, if it says.
    pub work: Option<f64>,
    /// How long a fixed computation took right before it, in nanoseconds of CPU time: what tells a
    /// slower machine from slower code.
    pub calibration_ns: u64,
}

/// Why a file is no set that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It has no end.
    #[error(
        "it is cut off, or no set: there is no {HEAD} at its end; `stackwalk ci record` makes one"
    )]
    NoHead,
    /// Its head cannot be read.
    #[error("{HEAD}: {0}")]
    Head(String),
    /// It was written by a newer version.
    #[error(
        "it has version {0} of the format, this reads {VERSION}: use the stackwalk that wrote it"
    )]
    Version(u32),
    /// A run is missing.
    #[error("run {0}: {1:?} is not in it: it was changed after it was recorded")]
    NoRun(usize, String),
    /// A run cannot be read.
    #[error("run {0}: {1}")]
    Run(usize, FileError),
    /// A run is damaged.
    #[error("run {0} is damaged: {1}")]
    Damaged(usize, String),
    /// There are too many.
    #[error("it has {0} runs; {MAX_RUNS} are the most")]
    TooMany(usize),
}

/// Writes a set.
pub struct SetWriter<W: Write> {
    tar: tar::Builder<W>,
    head: SetHead,
}

impl<W: Write> fmt::Debug for SetWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetWriter")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl<W: Write> SetWriter<W> {
    /// Writes to `out`. The runs of `head` come later.
    pub fn new(out: W, head: SetHead) -> Self {
        Self {
            tar: tar::Builder::new(out),
            head: SetHead {
                format: FORMAT.to_owned(),
                version: VERSION,
                runs: Vec::new(),
                ..head
            },
        }
    }

    /// Adds a run: its recording, which is as long as the file, and what is known of it but for the
    /// name of its entry.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, run: RunHead, recording: &File) -> io::Result<()> {
        let file = format!("run-{:03}.swk", self.head.runs.len() + 1);
        let bytes = recording.metadata()?.len();
        self.append(&file, bytes, At::new(recording, 0, bytes))?;
        self.head.runs.push(RunHead { file, ..run });
        Ok(())
    }

    /// Ends the set.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        let mut head = serde_json::to_vec_pretty(&self.head)?;
        head.push(b'\n');
        self.append(HEAD, head.len() as u64, &head[..])?;
        self.tar.into_inner()
    }

    fn append(&mut self, name: &str, bytes: u64, content: impl io::Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o644);
        header.set_mtime(self.head.began);
        self.tar.append_data(&mut header, name, content)
    }
}

/// A part of a file.
#[derive(Debug)]
struct At<'a> {
    file: &'a File,
    start: u64,
    at: u64,
    end: u64,
}

impl<'a> At<'a> {
    const fn new(file: &'a File, start: u64, end: u64) -> Self {
        Self {
            file,
            start,
            at: start,
            end,
        }
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(bytes) => self.start.checked_add(bytes),
            SeekFrom::End(bytes) => self.end.checked_add_signed(bytes),
            SeekFrom::Current(bytes) => self.at.checked_add_signed(bytes),
        };
        self.at = at
            .filter(|at| *at >= self.start)
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at - self.start)
    }
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A set that can be read.
#[derive(Debug)]
pub struct Set {
    /// What it is of.
    pub head: SetHead,
    file: File,
    /// Where the recordings of the runs are.
    places: Vec<(u64, u64)>,
}

impl Set {
    /// Reads what a set is of.
    ///
    /// # Errors
    /// If it is not whole.
    pub fn open(file: File) -> Result<Self, SetError> {
        let length = file.metadata()?.len();
        let mut head = None;
        let mut found = Vec::new();
        let mut tar = tar::Archive::new(At::new(&file, 0, length));
        // As they are: the entries that only say something of the next, such as a name without end, are
        // not read.
        for entry in tar.entries_with_seek()?.raw(true) {
            // What is no tar file, or cut off in an entry, has no head either.
            let Ok(mut entry) = entry else { break };
            let (at, size) = (entry.raw_file_position(), entry.size());
            let name = entry.path_bytes().into_owned();
            if name == HEAD.as_bytes() {
                if size > MAX_HEAD || at.saturating_add(size) > length {
                    return Err(SetError::NoHead);
                }
                let mut json = Vec::new();
                entry.read_to_end(&mut json)?;
                head = Some(json);
            } else if found.len() <= MAX_RUNS {
                found.push((name, at, size));
            }
        }
        let head: SetHead = match head {
            None => return Err(SetError::NoHead),
            Some(json) => {
                serde_json::from_slice(&json).map_err(|error| SetError::Head(error.to_string()))?
            }
        };
        if head.format != FORMAT {
            return Err(SetError::NoHead);
        }
        if head.version != VERSION {
            return Err(SetError::Version(head.version));
        }
        if head.runs.len() > MAX_RUNS {
            return Err(SetError::TooMany(head.runs.len()));
        }
        let places = (1..).zip(&head.runs).map(|(number, run)| {
            let place = found.iter().find(|(name, ..)| name == run.file.as_bytes());
            let fits = place.filter(|(_, at, size)| {
                *size <= MAX_RUN && at.checked_add(*size).is_some_and(|end| end <= length)
            });
            let (_, at, size) = fits.ok_or_else(|| SetError::NoRun(number, run.file.clone()))?;
            Ok((*at, *size))
        });
        let places = places.collect::<Result<_, SetError>>()?;
        Ok(Self { head, file, places })
    }

    /// Reads a run, by its index.
    ///
    /// # Errors
    /// If it is damaged.
    ///
    /// # Panics
    /// If there is no such run.
    pub fn run(&self, index: usize) -> Result<Recording, SetError> {
        let number = index + 1;
        let (at, size) = self.places[index];
        let content = BufReader::new(At::new(&self.file, at, at + size));
        let mut chunks =
            ChunkReader::open(content).map_err(|error| SetError::Run(number, error))?;
        let recording = Recording::load(&mut chunks, &mut |_, _| {})
            .map_err(|error| SetError::Run(number, error))?;
        match recording.defects().into_iter().next() {
            Some(defect) => Err(SetError::Damaged(number, defect)),
            None => Ok(recording),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// A recording that is whole; see `recording::golden_tests`.
    const RECORDING: &[u8] = include_bytes!("../../tests/recordings/version-1.swk");

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn written(runs: usize) -> Vec<u8> {
        let head = SetHead {
            workload: "work".to_owned(),
            ..SetHead::default()
        };
        let mut set = SetWriter::new(Vec::new(), head);
        for status in 0..runs {
            let run = RunHead {
                status: status as i32,
                ..RunHead::default()
            };
            set.add(run, &file(RECORDING)).unwrap();
        }
        set.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let bytes = written(3);
        assert!(bytes.starts_with(MAGIC));
        let set = Set::open(file(&bytes)).unwrap();
        assert_eq!(set.head.workload, "work");
        let status: Vec<i32> = set.head.runs.iter().map(|run| run.status).collect();
        assert_eq!(status, [0, 1, 2]);
        for run in 0..3 {
            let recording = set.run(run).unwrap();
            assert!(recording.is_whole());
            assert!(!recording.rows.is_empty());
        }
    }

    #[test]
    fn what_is_no_set_is_told_from_what_is_newer() {
        let open = |bytes: &[u8]| Set::open(file(bytes)).unwrap_err().to_string();
        assert!(open(b"").contains("cut off, or no set"));
        assert!(open(RECORDING).contains("cut off, or no set"));
        let mut bytes = written(1);
        let version = b"\"version\": 1";
        let at = bytes
            .windows(version.len())
            .position(|part| part == version)
            .unwrap();
        bytes[at + version.len() - 1] = b'9';
        assert!(
            open(&bytes).contains("version 9 of the format"),
            "{}",
            open(&bytes)
        );
        let name = b"\"run-001.swk\"";
        let mut bytes = written(1);
        let at = bytes
            .windows(name.len())
            .position(|part| part == name)
            .unwrap();
        bytes[at + 1] = 0x1b;
        assert!(!open(&bytes).contains('\u{1b}'), "{}", open(&bytes));
    }

    #[test]
    fn what_only_takes_room_is_passed_over() {
        // A name of 3 GiB for the entry after it, as GNU tar writes those that are too long for a
        // header.
        let mut name = tar::Header::new_gnu();
        name.set_entry_type(tar::EntryType::GNULongName);
        name.set_size(3 << 30);
        name.set_cksum();
        let mut long = tempfile::tempfile().unwrap();
        long.write_all(name.as_bytes()).unwrap();
        long.seek(SeekFrom::Current(3 << 30)).unwrap();
        long.write_all(&written(1)).unwrap();
        let set = Set::open(long).unwrap();
        assert!(set.run(0).unwrap().is_whole());
    }

    proptest! {
        /// Whatever happened to a file, it is read or refused.
        #[test]
        fn damage_is_an_error_at_most(
            cut in 0usize..40_000,
            damage in prop::collection::vec((0usize..40_000, any::<u8>()), 0..8),
        ) {
            let mut bytes = written(2);
            bytes.truncate(cut.max(1));
            for (at, byte) in damage {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            if let Ok(set) = Set::open(file(&bytes)) {
                for run in 0..set.head.runs.len() {
                    drop(set.run(run));
                }
            }
        }
    }
}
