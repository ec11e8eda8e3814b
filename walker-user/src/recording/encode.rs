//! Rows of what the recorder has in memory. When they are written is decided by [`super::sink`].

use std::{io, iter, os::unix::ffi::OsStrExt as _};

use serde::Serialize;

use super::rows::{
    CodeRow, Entry, FrameRow, MappingRow, NameRow, NodeRow, ObjectRow, PlaceRow, PlacedAt,
    ProcessDid, ProcessEvent,
};
use crate::{
    capture::side_band::{Event, SideBand},
    process::{object::ObjectId, objects::Objects},
    stack_tree::{Code, Place, Process, RawFrame},
    user_side::{CodePlace, Seen, SeenCode},
};

/// Most rows or entries of one chunk, so that it stays below the limit of a chunk.
pub(super) const ROWS_PER_CHUNK: usize = 50_000;
/// Most bytes of the entries of a chunk, more or less.
const ENTRY_BYTES: usize = 1 << 20;

pub(super) fn encoded<T: Serialize + ?Sized>(rows: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(rows).map_err(io::Error::other)
}

/// Entries in parts that fit into a chunk each.
pub(super) fn entry_parts(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(ROWS_PER_CHUNK).take_while(|entry| {
            bytes += entry_bytes(entry);
            bytes <= ENTRY_BYTES
        });
        let (now, later) = rest.split_at_checked(fits.count().max(1))?;
        rest = later;
        Some(now)
    })
}

/// The chunks of names.
pub(super) fn name_chunks(names: &[NameRow]) -> io::Result<Vec<Vec<u8>>> {
    let mut chunks = Vec::new();
    let mut rows: Vec<u8> = Vec::new();
    let mut count = 0u32;
    let chunk = |count: &mut u32, rows: &mut Vec<u8>| -> io::Result<Vec<u8>> {
        let mut chunk = encoded(&std::mem::take(count))?;
        chunk.append(rows);
        Ok(chunk)
    };
    for name in names {
        // A name has at most 4 KiB, and there are at most some hundred inlined functions.
        let row = encoded(name)?;
        if count > 0 && rows.len() + row.len() > ENTRY_BYTES {
            chunks.push(chunk(&mut count, &mut rows)?);
        }
        rows.extend_from_slice(&row);
        count += 1;
    }
    if count > 0 {
        chunks.push(chunk(&mut count, &mut rows)?);
    }
    Ok(chunks)
}

/// Bytes of an entry, more or less.
const fn entry_bytes(entry: &Entry) -> usize {
    32 + match entry {
        Entry::Process { .. } | Entry::ProcessName { .. } | Entry::Mapping(_) => 16,
        Entry::Object(_, object) => object.path.len() + 20,
        Entry::NoFile(_, text) | Entry::Note(_, text) => text.len(),
        Entry::Code { bytes, .. } => bytes.len(),
        Entry::Event(event) => match &event.what {
            ProcessDid::Executed(name) | ProcessDid::Named(name) => name.len(),
            ProcessDid::Mapped { path, .. } => path.len() + 20,
            _ => 16,
        },
    }
}

pub(super) const fn placed_at(parent: Place) -> PlacedAt {
    match parent {
        Place::Process(id) => PlacedAt::Process(id),
        Place::Node(id) => PlacedAt::Node(id),
    }
}

/// The row of what holds code.
#[must_use]
pub const fn code_row(code: Code) -> CodeRow {
    match code {
        Code::Object(id) => CodeRow::Object(id.0),
        Code::NoFile(id) => CodeRow::NoFile(id),
        Code::Memory => CodeRow::Memory,
        Code::Unmapped => CodeRow::Unmapped,
    }
}

pub(super) fn node_row(&(parent, frame): &(Place, RawFrame)) -> NodeRow {
    let frame = match frame {
        RawFrame::Kernel {
            ip,
            lookup,
            stack,
            reliable,
        } => FrameRow::Kernel {
            ip,
            after: u8::from(ip != lookup),
            stack: stack as u8,
            reliable,
        },
        RawFrame::User {
            code,
            address,
            lookup,
            reliable,
        } => FrameRow::User {
            code: code_row(code),
            address,
            after: u8::from(address != lookup),
            reliable,
        },
        RawFrame::Note(note) => FrameRow::Note(note),
    };
    NodeRow {
        parent: placed_at(parent),
        frame,
    }
}

pub(super) fn object_row(objects: &Objects, index: usize) -> ObjectRow {
    let object = objects.get(ObjectId(index as u32));
    let id = object.build_id();
    ObjectRow {
        path: object.path().as_os_str().as_bytes().to_vec(),
        build_id: id.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        state: object.size_and_time(),
    }
}

pub(super) fn seen_entry(Seen { since, pid, what }: Seen) -> Entry {
    match what {
        SeenCode::Range { start, end, place } => Entry::Mapping(MappingRow {
            since,
            pid,
            start,
            end,
            place: match place {
                Some(CodePlace::Object { id, bias }) => PlaceRow::Object { object: id.0, bias },
                Some(CodePlace::NoFile { bias }) => PlaceRow::NoFile { bias },
                Some(CodePlace::Memory) => PlaceRow::Memory,
                None => PlaceRow::Gone,
            },
        }),
        SeenCode::Unknown => Entry::Mapping(MappingRow {
            since,
            pid,
            start: 0,
            end: u64::MAX,
            place: PlaceRow::Unknown,
        }),
        SeenCode::Bytes { address, bytes } => Entry::Code {
            since,
            pid,
            address,
            bytes,
        },
    }
}

/// What a recording keeps of what happened to a process; `None` if it is of no interest.
pub(super) fn event(record: &SideBand) -> Option<ProcessEvent> {
    let (pid, tid, what) = match &record.event {
        Event::Mmap(mmap) if mmap.executable => {
            let id = mmap.build_id;
            let what = ProcessDid::Mapped {
                start: mmap.start,
                len: mmap.len,
                offset: mmap.file_offset,
                path: mmap.path.clone(),
                build_id: id.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            };
            (mmap.pid, record.tid, what)
        }
        Event::Mmap(_) | Event::Ksymbol { .. } => return None,
        Event::Comm {
            pid,
            tid,
            exec,
            name,
        } => {
            let named = match exec {
                true => ProcessDid::Executed(name.clone()),
                false => ProcessDid::Named(name.clone()),
            };
            (*pid, *tid, named)
        }
        Event::Fork {
            pid,
            parent_pid,
            tid,
            parent_tid,
        } => {
            let what = ProcessDid::Forked {
                parent_pid: *parent_pid,
                parent_tid: *parent_tid,
            };
            (*pid, *tid, what)
        }
        Event::Exit { pid, tid } => (*pid, *tid, ProcessDid::Exited),
        Event::Lost { count } => (record.pid, record.tid, ProcessDid::Lost(*count)),
    };
    Some(ProcessEvent {
        time_ns: record.time_ns,
        pid,
        tid,
        what,
    })
}
/// The entries of a process with this number.
pub(super) fn process_entries(number: u32, process: &Process) -> impl Iterator<Item = Entry> {
    let Process { pid, comm, name } = *process;
    let other_name = (name != comm).then_some(Entry::ProcessName { number, name });
    [Some(Entry::Process { number, pid, comm }), other_name]
        .into_iter()
        .flatten()
}
