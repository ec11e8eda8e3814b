//! The object files that processes map, each once, whatever process and path they are seen at.
//!
//! Files with equal build IDs are taken for the same object. Whoever can run programs here can
//! forge a build ID and so spoil what is said of another's code; files are parsed as hostile ones
//! all the same.

mod at_hand;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustc_hash::FxHashMap;
use thiserror::Error;

use super::{
    Unavailable,
    address_space::Mapping,
    mapped_file::{Backing, MappedFile},
    object::{CodeAddress, Contents, Key, Object, ObjectId},
    open::{self, Opened},
    roots::Roots,
    vdso,
};
use crate::{
    elf::{self, ElfError, ElfFacts},
    sys::{limits, threads::living_thread},
    unwind::user::{mode::Mode, sections::CfiSections},
};

/// The most bytes that are remembered of objects, their contents not included: a hundred thousand
/// ordinary ones.
const MAX_BYTES: usize = 64 << 20;
/// The most files that are kept open, if this process may have twice as many.
const MAX_OPEN: u64 = 2000;
/// The lowest address that a 32-bit process cannot have.
const ABOVE_32_BITS: u64 = 1 << 32;
/// Bytes that are compared of code that may have been moved.
const COMPARED: usize = 64;
/// Most mappings for which the outcome is remembered.
const MAX_MOVED: usize = 65_536;

/// Why an object's unwind sections are not at hand.
#[derive(Debug, Error)]
pub enum CfiError {
    /// The file cannot be opened again.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// It cannot be read.
    #[error(transparent)]
    Elf(#[from] ElfError),
}

/// The objects.
#[derive(Debug)]
pub struct Objects {
    proc: PathBuf,
    objects: Vec<Object>,
    by_key: FxHashMap<Key, ObjectId>,
    /// Those of 64-bit and of 32-bit processes.
    vdsos: FxHashMap<Mode, Result<ObjectId, Unavailable>>,
    open: usize,
    max_open: usize,
    /// Bytes that are remembered of all objects.
    bytes: usize,
    max_bytes: usize,
    clock: u64,
    unavailable: BTreeMap<Unavailable, u64>,
    roots: Roots,
    /// Whether memory of a process, by its start, is code of a file.
    moved: FxHashMap<(u32, ObjectId, u64), bool>,
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}

impl Objects {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        let max_open = (limits::open_files() / 2).clamp(1, MAX_OPEN) as usize;
        Self::with_limits(PathBuf::from("/proc"), max_open, MAX_BYTES)
    }

    fn with_limits(proc: PathBuf, max_open: usize, max_bytes: usize) -> Self {
        Self {
            proc,
            objects: Vec::new(),
            by_key: FxHashMap::default(),
            vdsos: FxHashMap::default(),
            open: 0,
            max_open,
            bytes: 0,
            max_bytes,
            clock: 0,
            unavailable: BTreeMap::new(),
            roots: Roots::default(),
            moved: FxHashMap::default(),
        }
    }

    /// The place in an object file that an address in a mapping of a process belongs to.
    ///
    /// # Errors
    /// If there is no file, or it is not at hand; each answer is counted.
    pub fn locate(
        &mut self,
        pid: u32,
        mapping: &Mapping,
        address: u64,
    ) -> Result<CodeAddress, Unavailable> {
        let located = match &mapping.backing {
            Backing::InPlaceOf(file) => self.moved(pid, mapping.start, file, address),
            _ => self.mapped(pid, mapping, address),
        };
        if let Err(reason) = located {
            *self.unavailable.entry(reason).or_default() += 1;
        }
        located
    }

    fn mapped(
        &mut self,
        pid: u32,
        mapping: &Mapping,
        address: u64,
    ) -> Result<CodeAddress, Unavailable> {
        self.object_of(pid, mapping).and_then(|object| {
            let offset = match mapping.backing {
                // Records and /proc do not agree on the vDSO's offset, which is none.
                Backing::Vdso => address.wrapping_sub(mapping.start),
                _ => mapping.offset_of(address),
            };
            let address = self.get(object).facts.file_offset_to_address(offset);
            let address = address.ok_or(Unavailable::NotLoaded)?;
            Ok(CodeAddress { object, address })
        })
    }

    /// The place in a file of code that its process moved to memory: where the file's own mapping
    /// has it, if the bytes are the same.
    fn moved(
        &mut self,
        pid: u32,
        start: u64,
        file: &Mapping,
        address: u64,
    ) -> Result<CodeAddress, Unavailable> {
        let object = { self.object_of(pid, file) }.map_err(|_| Unavailable::Anonymous)?;
        let base = self.get(object).facts.address_of_page(file.file_offset);
        let base = base.ok_or(Unavailable::Anonymous)?;
        let place = CodeAddress {
            object,
            address: base.wrapping_add(address.wrapping_sub(file.start)),
        };
        let key = (pid, object, start);
        let is_same = match self.moved.get(&key) {
            Some(is_same) => *is_same,
            None => {
                let is_same = self.is_same_code(pid, place, address);
                if self.moved.len() >= MAX_MOVED {
                    self.moved.clear();
                }
                self.moved.insert(key, is_same);
                is_same
            }
        };
        is_same.then_some(place).ok_or(Unavailable::Anonymous)
    }

    /// Whether a process has the same bytes at an address as a file has at the place.
    fn is_same_code(&mut self, pid: u32, place: CodeAddress, address: u64) -> bool {
        let (mut ours, mut theirs) = ([0; COMPARED], [0; COMPARED]);
        let Ok(contents) = self.contents(place.object) else {
            return false;
        };
        let facts = &self.get(place.object).facts;
        let Ok(length) = facts.read_code(&*contents, place.address, &mut ours) else {
            return false;
        };
        let task = living_thread(&self.proc, pid).unwrap_or(pid);
        let memory = File::open(self.proc.join(format!("{task}/mem")));
        memory.is_ok_and(|memory| memory.read_exact_at(&mut theirs[..length], address).is_ok())
            && length > 0
            && ours[..length] == theirs[..length]
    }

    fn object_of(&mut self, pid: u32, mapping: &Mapping) -> Result<ObjectId, Unavailable> {
        match &mapping.backing {
            Backing::Anonymous | Backing::InPlaceOf(_) => Err(Unavailable::Anonymous),
            Backing::Special(_) => Err(Unavailable::Special),
            Backing::TooMany => Err(Unavailable::TooMany),
            Backing::Vdso => self.vdso_of(mapping),
            Backing::File(file) => match file.object.get() {
                Some(object) => Ok(*object),
                None => self.open(pid, mapping, file),
            },
        }
    }

    fn open(
        &mut self,
        pid: u32,
        mapping: &Mapping,
        file: &MappedFile,
    ) -> Result<ObjectId, Unavailable> {
        // What one process could not answer another may, so a failure holds for the process.
        let mut failed = file.failed();
        match *failed {
            Some((failed_pid, reason)) if failed_pid == pid => return Err(reason),
            _ => {}
        }
        // A build that is known needs no file, which may be gone with its process.
        let known = file.build_id.map(Key::BuildId);
        let object = match known.and_then(|key| self.by_key.get(&key)) {
            Some(object) => Ok(*object),
            None => open::open(&self.proc, pid, mapping, file)
                .map_err(|reason| memory_or(reason, file))
                .and_then(|opened| self.intern(pid, file.path_without_mark(), opened)),
        };
        match object {
            Ok(object) => {
                // Nobody else sets it, as that takes this table.
                let _same = file.object.set(object);
            }
            Err(reason) => *failed = Some((pid, reason)),
        }
        object
    }

    fn intern(&mut self, pid: u32, path: &[u8], opened: Opened) -> Result<ObjectId, Unavailable> {
        let key = Key::of(&opened);
        let Opened {
            file,
            facts,
            state,
            place,
        } = opened;
        if let Some(&known) = self.by_key.get(&key) {
            if self.current(known).is_none() {
                let object = self.get_mut(known);
                object.place = place;
                object.state = Some(state);
                self.keep(known, Contents::File(file));
            }
            return Ok(known);
        }
        let object = Object {
            path: PathBuf::from(OsStr::from_bytes(path)),
            root: self.roots.of(&self.proc.join(pid.to_string())),
            facts: Arc::new(facts),
            key,
            place,
            contents: None,
            state: Some(state),
            lost: None,
            used: 0,
        };
        self.add(object, Contents::File(file))
    }

    fn add(&mut self, object: Object, contents: Contents) -> Result<ObjectId, Unavailable> {
        let bytes = self.bytes.saturating_add(object.bytes());
        if bytes > self.max_bytes {
            return Err(Unavailable::TooMany);
        }
        self.bytes = bytes;
        let id = ObjectId(self.objects.len() as u32);
        self.by_key.insert(object.key, id);
        self.objects.push(object);
        self.keep(id, contents);
        Ok(id)
    }

    fn vdso_of(&mut self, mapping: &Mapping) -> Result<ObjectId, Unavailable> {
        let mode = if mapping.start < ABOVE_32_BITS {
            Mode::Bits32
        } else {
            Mode::Bits64
        };
        let vdso = match self.vdsos.get(&mode) {
            Some(known) => *known,
            None => {
                let read = self.read_vdso(mode);
                self.vdsos.insert(mode, read);
                read
            }
        }?;
        let len = mapping.end - mapping.start;
        let ours = match self.get(vdso).contents.as_deref() {
            Some(Contents::Memory(bytes)) => bytes.len() as u64,
            _ => 0,
        };
        if len != ours {
            return Err(Unavailable::OtherVdso);
        }
        Ok(vdso)
    }

    fn read_vdso(&mut self, mode: Mode) -> Result<ObjectId, Unavailable> {
        let bytes = vdso::read(mode)?;
        let facts = ElfFacts::read(&*bytes)?;
        let object = Object {
            path: PathBuf::from("[vdso]"),
            root: None,
            facts: Arc::new(facts),
            key: Key::Vdso(mode),
            place: PathBuf::new(),
            contents: None,
            state: None,
            lost: None,
            used: 0,
        };
        self.add(object, Contents::Memory(bytes))
    }

    /// What is remembered of an object.
    #[must_use]
    pub fn get(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize]
    }

    fn get_mut(&mut self, id: ObjectId) -> &mut Object {
        &mut self.objects[id.0 as usize]
    }

    /// Reads an object's unwind sections, which together have at most `budget` bytes;
    /// `.debug_frame` also from its separate debug file below `debug_folder`
    /// (such as [`elf::DEBUG_FOLDER`]).
    ///
    /// # Errors
    /// If the file is not at hand or its sections cannot be read. A debug file that cannot be
    /// used is as good as none.
    pub fn read_cfi_sections(
        &mut self,
        id: ObjectId,
        budget: u64,
        debug_folder: Option<&Path>,
    ) -> Result<CfiSections, CfiError> {
        let contents = self.contents(id).map_err(CfiError::Unavailable)?;
        let facts = Arc::clone(self.get(id).facts());
        Ok(elf::read_all_cfi_sections(
            &*contents,
            &facts,
            budget,
            debug_folder,
        )?)
    }

    /// How often there was no file, by reason.
    pub fn unavailable(&self) -> impl Iterator<Item = (Unavailable, u64)> {
        self.unavailable
            .iter()
            .map(|(reason, count)| (*reason, *count))
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

/// Why a file is not at hand, or that it is no file but memory: a program that wants memory at two
/// addresses, as JIT compilers do, has to give it to itself as a file. One that holds an ELF file
/// is a file wherever it lies.
fn memory_or(reason: Unavailable, file: &MappedFile) -> Unavailable {
    let not_elf = reason == Unavailable::from(ElfError::NotElf);
    let is_zero = file.path_without_mark() == b"/dev/zero";
    // The device itself, mapped privately, or memory that the kernel names after it.
    let never_a_file = is_zero && matches!(reason, Unavailable::NotRegular | Unavailable::Gone);
    if never_a_file || (not_elf && file.is_memory()) {
        Unavailable::Anonymous
    } else {
        reason
    }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
