//! The frame of a recording file: a header, then chunks that are compressed, checksummed and
//! numbered, so that a reader can tell what is whole, what is damaged and what is missing.
//!
//! What the chunks hold is the business of [`super::rows`] and [`super::head`]. `docs/format.md`
//! describes the same for others.

use std::io::{self, Read, Seek, SeekFrom, Write};

use thiserror::Error;

/// What every recording begins with. As in PNG, a transfer that changes line ends or strips the
/// eighth bit is noticed.
pub const MAGIC: [u8; 8] = *b"\x89SWK\r\n\x1a\n";
/// Readers refuse a larger one.
pub const MAJOR: u16 = 1;
/// Raised for additions that older readers can pass over.
pub const MINOR: u16 = 2;
/// Bytes of the file's header.
pub const FILE_HEADER_BYTES: usize = 16;
/// What every chunk begins with.
const CHUNK_MAGIC: [u8; 4] = *b"SWKC";
/// Bytes of a chunk's header.
pub const CHUNK_HEADER_BYTES: usize = 36;
/// Bytes of that before its checksum.
const SUMMED: usize = CHUNK_HEADER_BYTES - 4;
/// The most bytes that a chunk holds when it is unpacked.
pub const MAX_CHUNK: usize = 8 << 20;
/// zstd's own default: smaller takes noticeably more time.
const LEVEL: i32 = 3;
/// How much of a damaged file is looked at at once for where it goes on.
const WINDOW: usize = 64 << 10;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// What was recorded, how, and the facts about the kernel; JSON. The first chunk.
    Head = 1,
    /// A part of the kernel's unwind tables.
    Orc = 2,
    /// What rows refer to by number: processes, objects, mappings, notes.
    Tables = 3,
    /// Frames of walked stacks.
    Nodes = 4,
    /// Samples.
    Samples = 5,
    /// The records of the capture: registers and raw bytes of stacks.
    Evidence = 6,
    /// Names of addresses.
    Names = 7,
    /// Where the events went so far; JSON.
    Counters = 8,
    /// The recording ended properly; JSON. The last chunk.
    End = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Head,
        Self::Orc,
        Self::Tables,
        Self::Nodes,
        Self::Samples,
        Self::Evidence,
        Self::Names,
        Self::Counters,
        Self::End,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// What is said of it when it is damaged.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Orc => "unwind tables",
            Self::Tables => "tables",
            Self::Nodes => "frames",
            Self::Samples => "samples",
            Self::Evidence => "stack bytes",
            Self::Names => "names",
            Self::Counters => "counters",
            Self::End => "end",
        }
    }
}

/// Why a file is no recording that can be read.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is empty.
    #[error("the file is empty: the recording ended before anything was written")]
    Empty,
    /// It begins with something else.
    #[error("it is no stackwalk recording: it begins with {0}")]
    NotARecording(String),
    /// Its header is damaged.
    #[error("its first {FILE_HEADER_BYTES} bytes are damaged")]
    Header,
    /// A newer version wrote it.
    #[error(
        "it has format version {0}, this stackwalk reads up to version {MAJOR}: use the newer \
         stackwalk that wrote it"
    )]
    Newer(u16),
    /// What every recording has at its beginning is not there.
    #[error("what it says of itself in the beginning cannot be read ({0}), so nothing of it can")]
    Head(String),
}

/// The header of a recording.
#[must_use]
pub fn file_header() -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&MAJOR.to_le_bytes());
    header[10..12].copy_from_slice(&MINOR.to_le_bytes());
    let sum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Reads and checks the header of a recording.
fn check_file_header(file: &mut impl Read) -> Result<(), FileError> {
    let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
    file.take(FILE_HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    if header.is_empty() {
        return Err(FileError::Empty);
    }
    let known = header.len().min(MAGIC.len());
    if header[..known] != MAGIC[..known] {
        return Err(FileError::NotARecording(what_it_is(&header)));
    }
    let [.., a, b, c, d] = *header.as_slice() else {
        return Err(FileError::Header);
    };
    if header.len() < FILE_HEADER_BYTES
        || crc32fast::hash(&header[..12]) != u32::from_le_bytes([a, b, c, d])
    {
        return Err(FileError::Header);
    }
    match u16::from_le_bytes([header[8], header[9]]) {
        MAJOR => Ok(()),
        version => Err(FileError::Newer(version)),
    }
}

/// What a file that is no recording begins with, in words where that is known.
fn what_it_is(begin: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 8] = [
        (b"PERFILE2", "`PERFILE2`, so it is perf's (perf.data)"),
        (b"\x1f\x8b", "what gzip writes (pprof, Firefox Profiler)"),
        (b"\x28\xb5\x2f\xfd", "what zstd writes"),
        (b"\x7fELF", "what an ELF file begins with"),
        (b"<svg", "`<svg`, so it is a picture"),
        (b"<?xml", "`<?xml`"),
        (b"<!", "`<!`, so it is HTML"),
        (b"{", "`{`, so it is JSON"),
    ];
    match KNOWN.iter().find(|(magic, _)| begin.starts_with(magic)) {
        Some((_, name)) => (*name).to_owned(),
        None => {
            let shown = &begin[..begin.len().min(8)];
            format!("`{}`", shown.escape_ascii())
        }
    }
}

/// The header of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// What it holds; `None` if a newer version knows.
    pub kind: Option<Kind>,
    /// Its number, from 0.
    pub sequence: u32,
    /// The number of its first row, if its rows are numbered.
    pub first: u64,
    /// Where its payload is in the file.
    pub at: u64,
    /// Bytes of the payload in the file.
    pub stored: u32,
    /// Bytes when unpacked.
    pub raw: u32,
    compressed: bool,
    sum: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |word| u32::from_le_bytes(*word))
}

impl ChunkHeader {
    /// Takes a header apart; `None` if it is none.
    fn parse(bytes: &[u8], at: u64) -> Option<Self> {
        let bytes = bytes.get(..CHUNK_HEADER_BYTES)?;
        if bytes[..4] != CHUNK_MAGIC || crc32fast::hash(&bytes[..SUMMED]) != u32_at(bytes, SUMMED) {
            return None;
        }
        let header = Self {
            kind: Kind::from_number(bytes[4]),
            compressed: bytes[5] == 1,
            sequence: u32_at(bytes, 8),
            at: at + CHUNK_HEADER_BYTES as u64,
            stored: u32_at(bytes, 12),
            raw: u32_at(bytes, 16),
            sum: u32_at(bytes, 20),
            first: bytes[24..]
                .first_chunk()
                .map_or(0, |word| u64::from_le_bytes(*word)),
        };
        let fits = header.stored <= header.raw && header.raw as usize <= MAX_CHUNK;
        (fits && bytes[5] <= 1).then_some(header)
    }

    /// What is said of it when it is damaged.
    fn name(&self) -> &'static str {
        self.kind.map_or("a chunk of a newer version", Kind::name)
    }

    /// The first byte behind the chunk.
    pub(super) const fn end(&self) -> u64 {
        self.at + self.stored as u64
    }
}

/// Packs chunks.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    sequence: u32,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Packer {
    /// The next chunk is the first.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Compressor::new(LEVEL)?,
            sequence: 0,
        })
    }

    /// The next chunk as it stands in the file. `first` is [`ChunkHeader::first`].
    ///
    /// # Errors
    /// If `raw` is longer than [`MAX_CHUNK`], or there is no memory.
    pub fn pack(&mut self, kind: Kind, first: u64, raw: &[u8]) -> io::Result<Vec<u8>> {
        if raw.len() > MAX_CHUNK {
            return Err(io::Error::other("a chunk is too large"));
        }
        let packed = self.zstd.compress(raw)?;
        let compressed = packed.len() < raw.len();
        let payload = if compressed { &packed[..] } else { raw };
        let mut chunk = Vec::with_capacity(CHUNK_HEADER_BYTES + payload.len());
        chunk.extend_from_slice(&CHUNK_MAGIC);
        chunk.extend_from_slice(&[kind as u8, u8::from(compressed), 0, 0]);
        for number in [
            self.sequence,
            payload.len() as u32,
            raw.len() as u32,
            crc32fast::hash(payload),
        ] {
            chunk.write_all(&number.to_le_bytes())?;
        }
        chunk.write_all(&first.to_le_bytes())?;
        let sum = crc32fast::hash(&chunk);
        chunk.write_all(&sum.to_le_bytes())?;
        chunk.extend_from_slice(payload);
        self.sequence += 1;
        Ok(chunk)
    }
}

/// A part of the file that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its first byte.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// What is wrong.
    pub what: String,
}

/// Finds and unpacks the chunks of a file.
pub struct ChunkReader<R> {
    file: R,
    len: u64,
    at: u64,
    next_sequence: u32,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl<R> std::fmt::Debug for ChunkReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkReader")
            .field("len", &self.len)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// What comes next in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A chunk.
    Chunk(ChunkHeader),
    /// Something that is none; what follows may be whole again.
    Damage(Damage),
    /// So many chunks are missing before the next one.
    Missing(u32),
    /// The end.
    End,
}

impl<R: Read + Seek> ChunkReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// If it is no recording, or one of a newer version.
    pub fn open(mut file: R) -> Result<Self, FileError> {
        let len = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        check_file_header(&mut file)?;
        Ok(Self {
            file,
            len,
            at: FILE_HEADER_BYTES as u64,
            next_sequence: 0,
            zstd: zstd::bulk::Decompressor::new()?,
        })
    }

    /// Bytes of the file.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is empty: never, as it has a header.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next chunk is looked for.
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// Goes to the next chunk, without reading its payload.
    ///
    /// # Errors
    /// If the file cannot be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is fallible, and has its own end"
    )]
    pub fn next(&mut self) -> io::Result<Next> {
        if self.at >= self.len {
            return Ok(Next::End);
        }
        let begin = self.at;
        let bytes = self.read_at(begin, CHUNK_HEADER_BYTES)?;
        if let Some(header) = ChunkHeader::parse(&bytes, begin) {
            if header.end() > self.len {
                self.at = self.len;
                return Ok(self.damage(begin, self.len, || {
                    format!("{}: the file ends in the middle of it", header.name())
                }));
            }
            if header.sequence > self.next_sequence {
                let missing = header.sequence - self.next_sequence;
                self.next_sequence = header.sequence;
                return Ok(Next::Missing(missing));
            }
            self.next_sequence = header.sequence.wrapping_add(1);
            self.at = header.end();
            return Ok(Next::Chunk(header));
        }
        let end = self.find_header(begin + 1)?;
        self.at = end;
        let at_end = end == self.len;
        Ok(self.damage(begin, end, || {
            match at_end && bytes.len() < CHUNK_HEADER_BYTES {
                true => "the file ends in the middle of a chunk's header".to_owned(),
                false => "this is no chunk".to_owned(),
            }
        }))
    }

    fn damage(&self, begin: u64, end: u64, what: impl FnOnce() -> String) -> Next {
        Next::Damage(Damage {
            at: begin,
            bytes: end - begin,
            what: what(),
        })
    }

    /// The next place from `from` on where a chunk begins, or the end of the file. Reads every byte
    /// about once, however many of them look like a chunk.
    fn find_header(&mut self, mut from: u64) -> io::Result<u64> {
        while from < self.len {
            let window = self.read_at(from, WINDOW)?;
            let mut headers = window.windows(CHUNK_HEADER_BYTES);
            if let Some(offset) = headers.position(|bytes| ChunkHeader::parse(bytes, 0).is_some()) {
                return Ok(from + offset as u64);
            }
            // A header may lie across the end of the window; a shorter window is the file's end.
            match window.len() < WINDOW {
                true => break,
                false => from += (WINDOW - (CHUNK_HEADER_BYTES - 1)) as u64,
            }
        }
        Ok(self.len)
    }

    /// Up to `len` bytes from `at` on.
    fn read_at(&mut self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(at))?;
        self.file
            .by_ref()
            .take(len as u64)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The unpacked payload of a chunk.
    ///
    /// # Errors
    /// With the damage, if the payload is not what was written.
    pub fn payload(&mut self, header: &ChunkHeader) -> io::Result<Result<Vec<u8>, Damage>> {
        let bytes = self.read_at(header.at, header.stored as usize)?;
        let begin = header.at - CHUNK_HEADER_BYTES as u64;
        let damaged = |why: &str| {
            Err(Damage {
                at: begin,
                bytes: header.end() - begin,
                what: format!("{}: {why}", header.name()),
            })
        };
        if bytes.len() != header.stored as usize || crc32fast::hash(&bytes) != header.sum {
            return Ok(damaged("its checksum is wrong"));
        }
        if !header.compressed {
            return Ok(Ok(bytes));
        }
        Ok(match self.zstd.decompress(&bytes, header.raw as usize) {
            Ok(raw) if raw.len() == header.raw as usize => Ok(raw),
            Ok(_) | Err(_) => damaged("it does not unpack to the size that it should have"),
        })
    }
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
