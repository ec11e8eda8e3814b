//! jitdump files: the binary files in which JIT compilers say what code they made
//! (`tools/perf/Documentation/jitdump-specification.txt` of Linux).
//!
//! [`read`] takes the names and source lines of any bytes; the code itself and its unwind
//! information are passed over. Where functions overlap, the later record counts, as in a perf map:
//! code that moved away is called by what is there now.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Read, Seek},
};

use super::{
    bounded,
    perf_map::{JitFunction, MAX_ENTRIES, PerfMap},
};

/// `JiTD` as the number that a machine of the same byte order wrote.
const MAGIC: u32 = 0x4a69_5444;
/// Bytes of the file's header that are known.
const HEADER: u32 = 40;
/// Bytes before what a record of any kind holds.
const PREFIX: u32 = 16;
/// Most records that are read, of all kinds.
const MAX_RECORDS: usize = 4 * MAX_ENTRIES;
/// Longest name or source path, in bytes.
const MAX_NAME: usize = 64 << 10;
/// Most bytes of names and source lines that are read of a file.
const MAX_BYTES: u64 = 128 << 20;
/// Most source lines of a file that are kept.
const MAX_LINES: usize = 2_000_000;
/// Records may be padded to a multiple of so many bytes.
const ALIGNMENT: usize = 8;
/// Some compilers count addresses of lines from the start of an ELF header that stands before the
/// code in what `perf inject` makes of it.
const ELF_HEADER: u64 = 64;

/// The functions of a jitdump file.
#[derive(Debug, Default)]
pub struct JitDump {
    functions: PerfMap,
    lines: HashMap<usize, Vec<Line>>,
    paths: Vec<String>,
}

/// A source line.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// From the start of the function.
    offset: u64,
    line: Option<u32>,
    path: usize,
}

/// The place in the source of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePlace<'a> {
    /// The file, as the compiler named it.
    pub file: &'a str,
    /// The line, from 1; `None` if it is not sure.
    pub line: Option<u32>,
}

impl JitDump {
    /// The function at an address, and where it comes from if that is known.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<(&JitFunction, Option<SourcePlace<'_>>)> {
        let (index, function) = self.functions.find_indexed(address)?;
        let place = self.lines.get(&index).and_then(|lines| {
            let offset = address - function.start;
            let after = lines.partition_point(|line| line.offset <= offset);
            let line = lines[..after].last()?;
            Some(SourcePlace {
                file: &self.paths[line.path],
                line: line.line,
            })
        });
        Some((function, place))
    }

    /// Records that name no function, or one too many.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.functions.skipped()
    }
}

/// Reads a jitdump file. A last record that is not whole is still being written and is ignored.
///
/// # Errors
/// As `read(2)`, and `InvalidData` if it is no jitdump file of this machine.
pub fn read(file: impl Read + Seek) -> io::Result<JitDump> {
    let mut file = BufReader::new(file);
    let mut reading = Reading::default();
    let mut header = [0; HEADER as usize];
    file.read_exact(&mut header)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut fields = Fields(&header);
    let (magic, _version, size) = (fields.u32(), fields.u32(), fields.u32());
    if magic != Some(MAGIC) || size.is_none_or(|size| size < HEADER) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.seek_relative(i64::from(size.unwrap_or(HEADER) - HEADER))?;
    let mut bytes = 0;
    let mut body = Vec::new();
    for _ in 0..MAX_RECORDS {
        let mut prefix = [0; PREFIX as usize];
        match file.read_exact(&mut prefix) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        let mut fields = Fields(&prefix);
        let (Some(kind), Some(size)) = (fields.u32(), fields.u32()) else {
            break;
        };
        // Where the next record begins is not known.
        let Some(rest) = size.checked_sub(PREFIX) else {
            reading.skipped += 1;
            break;
        };
        let wanted = match kind {
            0 => u64::from(rest).min(40 + MAX_NAME as u64),
            1 | 2 => u64::from(rest),
            // The compiler closed the file.
            3 => break,
            _ => 0,
        };
        // Of a function's record the code is most, so its name is read as far as it goes.
        body.clear();
        let read = match kind {
            0 => read_named(&mut file, &mut body, wanted)?,
            _ if wanted + bytes <= MAX_BYTES => {
                (&mut file).take(wanted).read_to_end(&mut body)? as u64
            }
            _ => {
                reading.skipped += 1;
                break;
            }
        };
        bytes += read;
        if bytes > MAX_BYTES {
            reading.skipped += 1;
            break;
        }
        if !reading.record(kind, &body) {
            reading.skipped += 1;
        }
        file.seek_relative(i64::from(rest) - read as i64)?;
    }
    Ok(reading.end())
}

/// Reads the fixed fields and the name of a function's record; returns how many bytes.
fn read_named(file: &mut impl io::BufRead, body: &mut Vec<u8>, wanted: u64) -> io::Result<u64> {
    let fixed = wanted.min(40);
    let read = file.take(fixed).read_to_end(body)?;
    let name = file.take(wanted - fixed).read_until(0, body)?;
    Ok((read + name) as u64)
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    functions: Vec<JitFunction>,
    name_bytes: u64,
    /// The latest function with each number that the compiler gave.
    by_index: HashMap<u64, usize>,
    /// Lines of the code at an address, which come before it.
    pending: HashMap<u64, Vec<Line>>,
    lines: HashMap<usize, Vec<Line>>,
    line_count: usize,
    paths: Vec<String>,
    path_ids: HashMap<String, usize>,
    skipped: u64,
}

impl Reading {
    /// Takes a record; `false` if it makes no sense, or is one too many.
    fn record(&mut self, kind: u32, body: &[u8]) -> bool {
        match kind {
            0 => self.load(Fields(body)).is_some(),
            1 => self.moved(Fields(body)).is_some(),
            2 => self.debug_info(Fields(body)).is_some(),
            _ => true,
        }
    }

    fn load(&mut self, mut fields: Fields<'_>) -> Option<()> {
        let (_ids, _vma) = (fields.u64()?, fields.u64()?);
        let (start, size, index) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let lines = self.pending.remove(&start);
        let name = fields.text()?;
        let function = self.add(name, start, size)?;
        self.by_index.insert(index, function);
        if let Some(lines) = lines {
            self.lines.insert(function, placed(lines));
        }
        Some(())
    }

    fn moved(&mut self, mut fields: Fields<'_>) -> Option<()> {
        let (_ids, _vma) = (fields.u64()?, fields.u64()?);
        let (_old, new) = (fields.u64()?, fields.u64()?);
        let (size, index) = (fields.u64()?, fields.u64()?);
        let &from = self.by_index.get(&index)?;
        let name = self.functions[from].name.clone();
        let function = self.add(name, new, size)?;
        self.by_index.insert(index, function);
        if let Some(lines) = self.lines.remove(&from) {
            self.lines.insert(function, lines);
        }
        Some(())
    }

    fn add(&mut self, name: String, start: u64, size: u64) -> Option<usize> {
        start.checked_add(size).filter(|&end| end > start)?;
        if name.is_empty() || self.functions.len() >= MAX_ENTRIES {
            return None;
        }
        // A record of a few bytes repeats a long name.
        self.name_bytes += name.len() as u64;
        if self.name_bytes > MAX_BYTES {
            return None;
        }
        let function = self.functions.len();
        self.functions.push(JitFunction { name, start, size });
        Some(function)
    }

    fn debug_info(&mut self, mut fields: Fields<'_>) -> Option<()> {
        let (code, count) = (fields.u64()?, fields.u64()?);
        let mut lines = Vec::new();
        let mut path = None;
        for _ in 0..count {
            let (address, line, _discriminator) = (fields.u64()?, fields.u32()?, fields.u32()?);
            // The path of the line before.
            if let Some(rest) = fields.0.strip_prefix(b"\xff\0") {
                fields.0 = rest;
            } else {
                path = Some(self.path(fields.text().filter(|path| is_path(path))?));
            }
            if self.line_count >= MAX_LINES {
                return None;
            }
            self.line_count += 1;
            lines.push(Line {
                offset: address.wrapping_sub(code),
                line: (line > 0 && line <= i32::MAX as u32).then_some(line),
                path: path?,
            });
        }
        // Some versions of V8 write other bytes than the path. Then nothing is where it should be.
        if fields.0.len() >= ALIGNMENT {
            return None;
        }
        self.pending.insert(code, lines);
        Some(())
    }

    fn path(&mut self, path: String) -> usize {
        if let Some(&id) = self.path_ids.get(&path) {
            return id;
        }
        let id = self.paths.len();
        self.paths.push(path.clone());
        self.path_ids.insert(path, id);
        id
    }

    fn end(self) -> JitDump {
        JitDump {
            functions: PerfMap::of(self.functions, self.skipped),
            lines: self.lines,
            paths: self.paths,
        }
    }
}

/// Whether a text can be the path of a source, and not what happened to be in memory.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

/// Lines in the order of addresses. If they may count from an ELF header they are not sure, but the
/// file is.
fn placed(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|line| line.offset);
    if lines.first().is_some_and(|line| line.offset >= ELF_HEADER) {
        lines.truncate(1);
        for line in &mut lines {
            (line.offset, line.line) = (0, None);
        }
    }
    lines
}

/// Bytes that are taken from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A text that a zero byte ends.
    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().take(MAX_NAME).position(|&byte| byte == 0)?;
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        Some(bounded(text))
    }
}

#[cfg(test)]
#[path = "jitdump_tests.rs"]
mod tests;
