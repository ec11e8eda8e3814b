//! The code of one process, as the walk asks for it: what its mappings show, the unwind tables of
//! the files behind them, and the bytes before a return address.

use super::tables::TableStore;
use crate::{
    aggregate::Code,
    elf::{CALL_BYTES, can_be_call},
    process::{
        Unavailable,
        address_space::{AddressSpace, Mapping},
        mapped_file::Backing,
        object::ObjectId,
        objects::Objects,
    },
    unwind::user::walk::{CodeAt, CodeKind, ModuleId, UserCode},
};

/// How many mappings are remembered during a walk.
const REMEMBERED: usize = 4;

/// What is known of a range of addresses.
#[derive(Debug, Clone, Copy)]
struct Known {
    start: u64,
    end: u64,
    place: Place,
}

/// What an address is a part of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
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

/// The code of one process at the time of a sample.
pub(super) struct ProcessCode<'a> {
    pid: u32,
    space: &'a AddressSpace,
    objects: &'a mut Objects,
    tables: &'a mut TableStore,
    known: [Option<Known>; REMEMBERED],
    next: usize,
}

impl<'a> ProcessCode<'a> {
    pub(super) fn new(
        pid: u32,
        space: &'a AddressSpace,
        objects: &'a mut Objects,
        tables: &'a mut TableStore,
    ) -> Self {
        Self {
            pid,
            space,
            objects,
            tables,
            known: [None; REMEMBERED],
            next: 0,
        }
    }

    /// What an address is a part of; `None` if it is in no executable mapping.
    #[inline]
    fn place(&mut self, address: u64) -> Option<Place> {
        let holds = |known: &&Known| known.start <= address && address < known.end;
        match self.known.iter().flatten().find(holds) {
            Some(known) => Some(known.place),
            None => self.look_up(address),
        }
    }

    fn look_up(&mut self, address: u64) -> Option<Place> {
        let mapping = self.space.get(address)?;
        let place = match self.objects.locate(self.pid, mapping, address) {
            Ok(found) => Place::Object {
                id: found.object,
                bias: found.address.wrapping_sub(address),
            },
            Err(Unavailable::Anonymous) => Place::Memory,
            Err(_) => Place::NoFile {
                bias: mapping.file_offset.wrapping_sub(mapping.start),
            },
        };
        self.known[self.next] = Some(Known {
            start: mapping.start,
            end: mapping.end,
            place,
        });
        self.next = (self.next + 1) % REMEMBERED;
        Some(place)
    }

    /// What to keep of an address: what holds its code, and the address there.
    pub(super) fn code(&mut self, address: u64, names: &mut super::NoFiles) -> (Code, u64) {
        match self.place(address) {
            Some(Place::Object { id, bias }) => (Code::Object(id), address.wrapping_add(bias)),
            Some(Place::Memory) => (Code::Memory, address),
            Some(Place::NoFile { bias }) => {
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
        Backing::Anonymous | Backing::TooMany => b"[unknown]",
    }
}

impl UserCode for ProcessCode<'_> {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        Some(match self.place(address)? {
            Place::Object { id, bias } => CodeAt {
                module: ModuleId(id.0),
                address: address.wrapping_add(bias),
                cfi: self.tables.get(self.objects, id),
                kind: CodeKind::Object,
            },
            Place::NoFile { .. } => CodeAt {
                module: ModuleId(u32::MAX),
                address,
                cfi: None,
                kind: CodeKind::Object,
            },
            Place::Memory => CodeAt {
                module: ModuleId(u32::MAX),
                address,
                cfi: None,
                kind: CodeKind::Jit,
            },
        })
    }

    fn follows_call(&mut self, address: u64) -> Option<bool> {
        let Some(Place::Object { id, bias }) = self.place(address.wrapping_sub(1)) else {
            return None;
        };
        let contents = self.objects.contents(id).ok()?;
        let facts = self.objects.get(id).facts();
        let mut bytes = [0; CALL_BYTES];
        let link = address.wrapping_add(bias);
        let read = facts.read_code_before(&*contents, link, &mut bytes).ok()?;
        Some(can_be_call(&bytes[CALL_BYTES - read..]))
    }
}
