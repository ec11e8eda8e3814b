//! The code of one process, as the walk asks for it: what its mappings show, the unwind tables of
//! the files behind them, and the instructions.

use super::{memory::ProcessMemory, seen::SeenLog, tables::TableStore};
use crate::{
    process::{
        Unavailable,
        address_space::{AddressSpace, Mapping},
        mapped_file::Backing,
        object::ObjectId,
        objects::Objects,
    },
    stack_tree::Code,
    unwind::user::walk::{CodeAt, CodeKind, ModuleId, UserCode},
};

/// How many mappings are remembered during a walk.
const REMEMBERED: usize = 4;
/// How many bytes of code are read at once.
const WINDOW_BYTES: usize = 512;
/// How many such reads are remembered during a walk.
const WINDOWS: usize = 8;

/// What is known of a range of addresses.
#[derive(Debug, Clone, Copy)]
struct Known {
    start: u64,
    end: u64,
    place: CodePlace,
}

/// What an address is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodePlace {
    /// An object file; the link-time address is `bias` more than the process's.
    Object {
        /// The file.
        id: ObjectId,
        /// The difference, modulo 2^64.
        bias: u64,
    },
    /// A file that is not at hand; the offset in it is `bias` more than the process's address.
    NoFile {
        /// The difference, modulo 2^64.
        bias: u64,
    },
    /// Memory without a file.
    Memory,
}

/// Bytes of code that were read.
struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// Whether there are no more where these end.
    ends: bool,
}

/// The code of one process at the time of a sample.
pub(super) struct ProcessCode<'a> {
    pid: u32,
    space: &'a AddressSpace,
    objects: &'a mut Objects,
    tables: &'a mut TableStore,
    memory: &'a mut ProcessMemory,
    seen: &'a mut SeenLog,
    /// The last reads. Few walks need any.
    windows: Vec<Window>,
    known: [Option<Known>; REMEMBERED],
    next: usize,
}

impl<'a> ProcessCode<'a> {
    pub(super) fn new(
        pid: u32,
        space: &'a AddressSpace,
        objects: &'a mut Objects,
        tables: &'a mut TableStore,
        memory: &'a mut ProcessMemory,
        seen: &'a mut SeenLog,
    ) -> Self {
        Self {
            pid,
            space,
            objects,
            tables,
            memory,
            seen,
            windows: Vec::new(),
            known: [None; REMEMBERED],
            next: 0,
        }
    }

    /// What an address is a part of; `None` if it is in no executable mapping.
    #[inline]
    fn place(&mut self, address: u64) -> Option<CodePlace> {
        let holds = |known: &&Known| known.start <= address && address < known.end;
        match self.known.iter().flatten().find(holds) {
            Some(known) => Some(known.place),
            None => self.look_up(address),
        }
    }

    fn look_up(&mut self, address: u64) -> Option<CodePlace> {
        let Some(mapping) = self.space.get(address) else {
            self.seen.unmapped(self.pid, address);
            return None;
        };
        let place = match self.objects.locate(self.pid, mapping, address) {
            Ok(found) => CodePlace::Object {
                id: found.object,
                bias: found.address.wrapping_sub(address),
            },
            Err(Unavailable::Anonymous) => CodePlace::Memory,
            Err(_) => CodePlace::NoFile {
                bias: mapping.file_offset.wrapping_sub(mapping.start),
            },
        };
        self.seen
            .range(self.pid, mapping.start, mapping.end, Some(place));
        self.known[self.next] = Some(Known {
            start: mapping.start,
            end: mapping.end,
            place,
        });
        self.next = (self.next + 1) % REMEMBERED;
        Some(place)
    }

    /// Copies code that was read before; `None` if there is more of it that was not.
    fn remembered(&self, address: u64, buffer: &mut [u8]) -> Option<usize> {
        self.windows.iter().rev().find_map(|window| {
            let into = usize::try_from(address.checked_sub(window.start)?).ok()?;
            let bytes = window.bytes.get(into..)?;
            if bytes.len() < buffer.len() && !window.ends {
                return None;
            }
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            Some(len)
        })
    }

    /// Reads the code at an address.
    #[cold]
    fn read(&mut self, address: u64) -> Option<Window> {
        let place = self.place(address)?;
        let end = self.space.get(address)?.end;
        let len = WINDOW_BYTES.min(usize::try_from(end.checked_sub(address)?).ok()?);
        let mut bytes = vec![0; len];
        let read = match place {
            CodePlace::Object { id, bias } => {
                let contents = self.objects.contents(id).ok()?;
                let facts = self.objects.get(id).facts();
                let link = address.wrapping_add(bias);
                facts.read_code(&*contents, link, &mut bytes).ok()?
            }
            CodePlace::Memory => {
                let read = self.memory.read(self.pid, address, &mut bytes);
                self.seen.bytes(self.pid, address, &bytes[..read]);
                read
            }
            CodePlace::NoFile { .. } => return None,
        };
        bytes.truncate(read);
        Some(Window {
            start: address,
            bytes,
            ends: read < WINDOW_BYTES,
        })
    }

    /// What to keep of an address: what holds its code, and the address there.
    pub(super) fn code(&mut self, address: u64, names: &mut super::NoFiles) -> (Code, u64) {
        match self.place(address) {
            Some(CodePlace::Object { id, bias }) => (Code::Object(id), address.wrapping_add(bias)),
            Some(CodePlace::Memory) => (Code::Memory, address),
            Some(CodePlace::NoFile { bias }) => {
                let name = self.space.get(address).map_or(&b""[..], name_of);
                (Code::NoFile(names.id(name)), address.wrapping_add(bias))
            }
            None => (Code::Unmapped, address),
        }
    }
}

/// What the kernel calls a mapping.
fn name_of(mapping: &Mapping) -> &[u8] {
    match &mapping.backing {
        Backing::File(file) => file.path_without_mark(),
        Backing::Special(name) => name,
        Backing::Vdso => b"[vdso]",
        Backing::Anonymous | Backing::InPlaceOf(_) | Backing::TooMany => b"[unknown]",
    }
}

impl UserCode for ProcessCode<'_> {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        Some(match self.place(address)? {
            CodePlace::Object { id, bias } => CodeAt {
                module: ModuleId(id.0),
                address: address.wrapping_add(bias),
                cfi: self.tables.get(self.objects, id),
                kind: CodeKind::Object,
            },
            CodePlace::NoFile { .. } => CodeAt {
                module: ModuleId::NONE,
                address,
                cfi: None,
                kind: CodeKind::Object,
            },
            CodePlace::Memory => CodeAt {
                module: ModuleId::NONE,
                address,
                cfi: None,
                kind: CodeKind::Jit,
            },
        })
    }

    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        if let Some(len) = self.remembered(address, buffer) {
            return len;
        }
        let Some(window) = self.read(address) else {
            return 0;
        };
        if self.windows.len() >= WINDOWS {
            self.windows.remove(0);
        }
        self.windows.push(window);
        self.remembered(address, buffer).unwrap_or(0)
    }
}
