//! The executable mappings that `/proc/PID/maps` lists.

use std::{
    io::{self, BufRead},
    sync::Arc,
};

use super::{
    address_space::{AddressSpace, Mapping},
    mapped_file::{Backing, MappedFiles},
};
use crate::capture::side_band::Inode;

/// The most lines that are read.
pub const MAX_LINES: usize = 65_536;
/// The most bytes of a line: those before the path, and a path of newlines, which take four each.
const MAX_LINE: usize = 4 * 4096 + 128;

/// What was read.
#[derive(Debug, Default)]
pub struct ProcMaps {
    /// The mappings.
    pub space: AddressSpace,
    /// Lines that did not have the form that the kernel writes.
    pub malformed: u64,
    /// Whether there were more lines than are read.
    pub truncated: bool,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapsLine<'a> {
    /// The first address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// Whether it can be executed.
    pub executable: bool,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// The file, if there is one.
    pub inode: Option<Inode>,
    /// Its path as it is written, or the kernel's name for what is there, or nothing.
    pub raw_path: &'a [u8],
}

/// Reads the executable mappings.
///
/// # Errors
/// If reading fails.
pub fn read(mut maps: impl BufRead, files: &mut MappedFiles) -> io::Result<ProcMaps> {
    let mut read = ProcMaps::default();
    let mut line = Vec::new();
    let mut beside = Beside::default();
    for count in 0.. {
        let whole = read_line(&mut maps, &mut line)?;
        if line.is_empty() && whole {
            break;
        }
        if count == MAX_LINES {
            read.truncated = true;
            break;
        }
        match MapsLine::parse(&line).filter(|_| whole) {
            Some(line) => beside.add(&line, files, &mut read),
            None => read.malformed += 1,
        }
    }
    beside.finish(&mut read);
    Ok(read)
}

/// Finds memory without a file between the parts of one.
#[derive(Default)]
struct Beside {
    /// The mapping of a file that ends where the next begins, or memory does that follows it.
    file: Option<Mapping>,
    /// Where that is.
    end: u64,
    /// Memory of which nothing is known but that it lies before the next mapping.
    waiting: Vec<Mapping>,
}

impl Beside {
    fn add(&mut self, line: &MapsLine<'_>, files: &mut MappedFiles, read: &mut ProcMaps) {
        if line.start != self.end {
            self.file = None;
            self.finish(read);
        }
        self.end = line.end;
        let is_file = line.raw_path.starts_with(b"/") && line.inode.is_some();
        if !is_file && !line.executable {
            self.file = None;
            return self.finish(read);
        }
        let mapping = |backing| Mapping {
            start: line.start,
            end: line.end,
            file_offset: line.file_offset,
            backing,
        };
        let backing = files.backing(&line.path(), None, line.inode);
        match (&backing, &self.file) {
            (Backing::Anonymous, None) => self.waiting.push(mapping(backing)),
            (Backing::Anonymous, Some(file)) => {
                let backing = Backing::InPlaceOf(Arc::new(file.clone()));
                read.truncated |= !read.space.insert(mapping(backing));
            }
            (Backing::File(_), _) => {
                let file = mapping(backing);
                for waiting in self.waiting.drain(..) {
                    read.truncated |= !read.space.insert(Mapping {
                        backing: Backing::InPlaceOf(Arc::new(file.clone())),
                        ..waiting
                    });
                }
                if line.executable {
                    read.truncated |= !read.space.insert(file.clone());
                }
                self.file = Some(file);
            }
            _ => {
                self.file = None;
                self.finish(read);
                if line.executable {
                    read.truncated |= !read.space.insert(mapping(backing));
                }
            }
        }
    }

    /// What waits lies beside no file.
    fn finish(&mut self, read: &mut ProcMaps) {
        for mapping in self.waiting.drain(..) {
            read.truncated |= !read.space.insert(mapping);
        }
    }
}

/// Reads a line without its end, nothing at the end of the file. False if it was longer than
/// [`MAX_LINE`]; what was too much of it is passed over.
fn read_line(maps: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut whole = true;
    loop {
        let available = maps.fill_buf()?;
        if available.is_empty() {
            return Ok(whole);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let taken = end.map_or(part.len(), |end| end + 1);
        whole &= line.len() + part.len() <= MAX_LINE;
        if whole {
            line.extend_from_slice(part);
        }
        maps.consume(taken);
        if end.is_some() {
            return Ok(whole);
        }
    }
}

impl<'a> MapsLine<'a> {
    /// Parses a line without its end. `None` if it is none.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (range, rest) = field(line)?;
        let (protection, rest) = field(rest)?;
        let (offset, rest) = field(rest)?;
        let (device, rest) = field(rest)?;
        let (number, path) = field(rest)?;
        let (start, end) = split(range, b'-')?;
        let (start, end, file_offset) = (hex(start)?, hex(end)?, hex(offset)?);
        let (major, minor) = split(device, b':')?;
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        let inode = Inode {
            major: hex(major)?.try_into().ok()?,
            minor: hex(minor)?.try_into().ok()?,
            number,
        };
        (start < end).then(|| Self {
            start,
            end,
            executable: protection.get(2) == Some(&b'x'),
            file_offset,
            inode: (number != 0).then_some(inode),
            raw_path: path.trim_ascii_start(),
        })
    }

    /// Its path. The kernel writes a newline in it as `\012`, and nothing else differently: a path
    /// that has these four characters cannot be told from it.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        const NEWLINE: &[u8] = b"\\012";
        let mut path = Vec::with_capacity(self.raw_path.len());
        let mut rest = self.raw_path;
        while let Some((&first, behind)) = rest.split_first() {
            let (byte, behind) = match rest.strip_prefix(NEWLINE) {
                Some(behind) => (b'\n', behind),
                None => (first, behind),
            };
            path.push(byte);
            rest = behind;
        }
        path
    }
}

/// The bytes up to the first space, and those behind it.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    match line.iter().position(|byte| *byte == b' ') {
        Some(end) => Some((&line[..end], &line[end + 1..])),
        None => (!line.is_empty()).then_some((line, &[])),
    }
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let middle = text.iter().position(|byte| *byte == at)?;
    Some((&text[..middle], &text[middle + 1..]))
}

fn hex(digits: &[u8]) -> Option<u64> {
    if digits.first() == Some(&b'+') {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
#[path = "proc_maps_tests.rs"]
mod tests;
