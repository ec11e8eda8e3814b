//! What the kernel tells of processes beside the samples: one perf record, parsed.
//!
//! Names and paths come from unprivileged users and are bytes of any kind.

use perf_event_open_sys::bindings;
use thiserror::Error;

use crate::elf::BuildId;

/// Bytes behind every record's own fields: process, thread and time.
const TRAILER: usize = 16;

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("perf record of type {kind} and {len} bytes is malformed: {what}")]
pub struct SideBandError {
    /// The record's type.
    pub kind: u32,
    /// Bytes it has.
    pub len: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideBand {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The process that did it.
    pub pid: u32,
    /// The thread that did it.
    pub tid: u32,
    /// What it did.
    pub event: Event,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A process mapped something.
    Mmap(Mmap),
    /// A task has another name.
    Comm {
        /// The process.
        pid: u32,
        /// Its thread.
        tid: u32,
        /// Whether it executes another program, and has lost its mappings.
        exec: bool,
        /// The name.
        name: Vec<u8>,
    },
    /// A task made another.
    Fork {
        /// The new task's process; the parent's for a thread.
        pid: u32,
        /// The process that made it.
        parent_pid: u32,
        /// The new task.
        tid: u32,
        /// The thread that made it.
        parent_tid: u32,
    },
    /// A task ended.
    Exit {
        /// Its process.
        pid: u32,
        /// The task; other threads of the process may live on.
        tid: u32,
    },
    /// Code that is known to the kernel by a name came or went, such as a BPF program.
    Ksymbol {
        /// Its address.
        address: u64,
        /// Its bytes.
        len: u32,
        /// Whether it went.
        unregister: bool,
        /// Its name.
        name: Vec<u8>,
    },
    /// So many records were lost before this one.
    Lost {
        /// How many; at least one.
        count: u64,
    },
}

/// A new mapping, which replaces what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mmap {
    /// The process whose address space it is.
    pub pid: u32,
    /// Its first address.
    pub start: u64,
    /// Its bytes.
    pub len: u64,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// Whether it can be executed.
    pub executable: bool,
    /// The file's build ID, if the kernel could read it right then. If so, there is no inode.
    pub build_id: Option<BuildId>,
    /// The file's device and inode.
    pub inode: Option<Inode>,
    /// The file's path in the process's mount namespace, or a name such as `[vdso]` or `//anon`.
    pub path: Vec<u8>,
}

/// What tells a file from all others on the machine, as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// The file's number there.
    pub number: u64,
}

impl SideBand {
    /// Parses one record, header included. `None` is a record of a type that is of no interest.
    ///
    /// # Errors
    /// If the record does not have the form that `linux/perf_event.h` describes.
    pub fn parse(record: &[u8]) -> Result<Option<Self>, SideBandError> {
        let mut fields = Fields::new(record)?;
        let trailer = fields.split_trailer()?;
        let event = match fields.kind {
            bindings::PERF_RECORD_MMAP => fields.mmap()?,
            bindings::PERF_RECORD_MMAP2 => fields.mmap2()?,
            bindings::PERF_RECORD_COMM => fields.comm()?,
            bindings::PERF_RECORD_FORK => fields.fork()?,
            bindings::PERF_RECORD_EXIT => fields.exit()?,
            bindings::PERF_RECORD_KSYMBOL => fields.ksymbol()?,
            bindings::PERF_RECORD_LOST => fields.lost()?,
            _ => return Ok(None),
        };
        Ok(Some(Self { event, ..trailer }))
    }

    /// Bytes of memory it takes, more or less.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let named = match &self.event {
            Event::Mmap(Mmap { path: name, .. })
            | Event::Comm { name, .. }
            | Event::Ksymbol { name, .. } => name.len(),
            Event::Fork { .. } | Event::Exit { .. } | Event::Lost { .. } => 0,
        };
        size_of::<Self>() + named
    }
}

/// The fields of a record that were not read yet.
struct Fields<'a> {
    kind: u32,
    flags: u32,
    len: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(record: &'a [u8]) -> Result<Self, SideBandError> {
        let mut fields = Self {
            kind: 0,
            flags: 0,
            len: record.len(),
            rest: record,
        };
        fields.kind = fields.u32()?;
        fields.flags = fields.u16()?.into();
        if usize::from(fields.u16()?) != record.len() {
            return Err(fields.malformed("its size is another one"));
        }
        Ok(fields)
    }

    fn malformed(&self, what: &'static str) -> SideBandError {
        SideBandError {
            kind: self.kind,
            len: self.len,
            what,
        }
    }

    /// Takes what is behind every record's own fields, as `perf_event_attr.sample_type` asks for.
    fn split_trailer(&mut self) -> Result<SideBand, SideBandError> {
        let short = self.malformed("too short");
        let own = self.rest.len().checked_sub(TRAILER).ok_or(short)?;
        let (own, trailer) = self.rest.split_at(own);
        self.rest = trailer;
        let (pid, tid, time_ns) = (self.u32()?, self.u32()?, self.u64()?);
        self.rest = own;
        Ok(SideBand {
            time_ns,
            pid,
            tid,
            event: Event::Lost { count: 0 },
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SideBandError> {
        match self.rest.split_first_chunk() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.malformed("too short")),
        }
    }

    fn u16(&mut self) -> Result<u16, SideBandError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, SideBandError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, SideBandError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A name, which ends with a zero and is the last of a record's own fields.
    fn name(&mut self) -> Result<Vec<u8>, SideBandError> {
        match self.rest.iter().position(|byte| *byte == 0) {
            Some(end) => Ok(self.rest[..end].to_vec()),
            None => Err(self.malformed("a name without an end")),
        }
    }

    fn mmap(&mut self) -> Result<Event, SideBandError> {
        let executable = self.flags & bindings::PERF_RECORD_MISC_MMAP_DATA == 0;
        let mut mmap = self.range()?;
        mmap.executable = executable;
        mmap.path = self.name()?;
        Ok(Event::Mmap(mmap))
    }

    fn mmap2(&mut self) -> Result<Event, SideBandError> {
        let mut mmap = self.range()?;
        let identity = self.array::<24>()?;
        if self.flags & bindings::PERF_RECORD_MISC_MMAP_BUILD_ID != 0 {
            let id = identity[4..].get(..usize::from(identity[0]));
            mmap.build_id = id.and_then(|id| BuildId::new(id).ok());
        } else {
            let mut identity = Fields {
                rest: &identity,
                ..*self
            };
            let (major, minor, number) = (identity.u32()?, identity.u32()?, identity.u64()?);
            // Nothing that has a file has inode 0.
            mmap.inode = (number != 0).then_some(Inode {
                major,
                minor,
                number,
            });
        }
        let protection = self.u32()?;
        let _flags = self.u32()?;
        mmap.executable = protection & libc::PROT_EXEC as u32 != 0;
        mmap.path = self.name()?;
        Ok(Event::Mmap(mmap))
    }

    /// The fields that both kinds of mapping records begin with.
    fn range(&mut self) -> Result<Mmap, SideBandError> {
        let (pid, _tid) = (self.u32()?, self.u32()?);
        let (start, len, file_offset) = (self.u64()?, self.u64()?, self.u64()?);
        if len == 0 || start.checked_add(len).is_none() {
            return Err(self.malformed("a mapping that no address space can have"));
        }
        Ok(Mmap {
            pid,
            start,
            len,
            file_offset,
            executable: false,
            build_id: None,
            inode: None,
            path: Vec::new(),
        })
    }

    fn comm(&mut self) -> Result<Event, SideBandError> {
        Ok(Event::Comm {
            pid: self.u32()?,
            tid: self.u32()?,
            exec: self.flags & bindings::PERF_RECORD_MISC_COMM_EXEC != 0,
            name: self.name()?,
        })
    }

    fn fork(&mut self) -> Result<Event, SideBandError> {
        Ok(Event::Fork {
            pid: self.u32()?,
            parent_pid: self.u32()?,
            tid: self.u32()?,
            parent_tid: self.u32()?,
        })
    }

    fn exit(&mut self) -> Result<Event, SideBandError> {
        let (pid, _parent, tid) = (self.u32()?, self.u32()?, self.u32()?);
        Ok(Event::Exit { pid, tid })
    }

    fn ksymbol(&mut self) -> Result<Event, SideBandError> {
        let (address, len, _kind) = (self.u64()?, self.u32()?, self.u16()?);
        let flags = u32::from(self.u16()?);
        Ok(Event::Ksymbol {
            address,
            len,
            unregister: flags & bindings::PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER != 0,
            name: self.name()?,
        })
    }

    fn lost(&mut self) -> Result<Event, SideBandError> {
        let (_id, count) = (self.u64()?, self.u64()?);
        Ok(Event::Lost {
            count: count.max(1),
        })
    }
}

#[cfg(test)]
#[path = "side_band_tests.rs"]
mod tests;
