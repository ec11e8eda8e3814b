//! The code of recorded processes, as walks made again ask for it: what was seen of their mappings up
//! to a record, the unwind tables of the files that are still there, and code that was kept.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    reader::{CodeBytes, Recording},
    rows::{MappingRow, PlaceRow},
    symbols::RecordedFiles,
};
use crate::{
    elf::{self, DEBUG_FOLDER, ElfFacts},
    process::{self, object::Contents, object::ObjectId},
    stack_tree::Code,
    unwind::user::{
        mode::Mode,
        tables::CfiTables,
        walk::{CodeAt, CodeKind, ModuleId, UserCode},
    },
};

/// Most bytes of the unwind tables of one object.
const MAX_TABLES: u64 = 64 << 20;

/// What there is of an object file.
#[derive(Debug)]
pub struct RecordedObject {
    contents: Contents,
    facts: ElfFacts,
    tables: Option<CfiTables>,
}

/// The code of all recorded processes at one record.
#[derive(Debug)]
pub struct RecordedCode<'a> {
    files: RecordedFiles<'a>,
    mappings: &'a [MappingRow],
    /// The ranges of each process, as far as `mappings` were taken in.
    spaces: FxHashMap<u32, BTreeMap<u64, (u64, PlaceRow)>>,
    code: &'a [CodeBytes],
    /// Code by process and address, likewise.
    kept: FxHashMap<u32, BTreeMap<u64, &'a [u8]>>,
    objects: FxHashMap<u32, Option<Arc<RecordedObject>>>,
}

impl<'a> RecordedCode<'a> {
    /// Before the first record.
    #[must_use]
    pub fn new(recording: &'a Recording, symfs: &Path) -> Self {
        Self {
            files: RecordedFiles::new(recording, symfs.to_owned()),
            mappings: &recording.mappings,
            spaces: FxHashMap::default(),
            code: &recording.code,
            kept: FxHashMap::default(),
            objects: FxHashMap::default(),
        }
    }

    /// Takes in what was seen up to and at a record, whose number is not below the last one's.
    pub fn go_to(&mut self, record: u64) {
        while let [mapping, rest @ ..] = self.mappings
            && mapping.since <= record
        {
            self.mappings = rest;
            let space = self.spaces.entry(mapping.pid).or_default();
            let over = space
                .range(..mapping.end)
                .rev()
                .take_while(|(_, (end, _))| *end > mapping.start);
            for start in over.map(|(start, _)| *start).collect::<Vec<_>>() {
                space.remove(&start);
            }
            if mapping.place != PlaceRow::Gone {
                space.insert(mapping.start, (mapping.end, mapping.place));
            }
        }
        while let [code, rest @ ..] = self.code
            && code.since <= record
        {
            self.code = rest;
            let kept = self.kept.entry(code.pid).or_default();
            kept.insert(code.address, &code.bytes);
        }
    }

    fn place(&self, pid: u32, address: u64) -> Option<PlaceRow> {
        let (_, (end, place)) = self.spaces.get(&pid)?.range(..=address).next_back()?;
        (address < *end).then_some(*place)
    }

    /// An object file with its unwind tables, if it is at hand.
    pub fn object(&mut self, number: u32) -> Option<Arc<RecordedObject>> {
        let files = &self.files;
        let object = self.objects.entry(number);
        let read = || RecordedObject::read(files, ObjectId(number)).map(Arc::new);
        object.or_insert_with(read).clone()
    }

    /// The code of one process.
    pub fn of_process(&mut self, pid: u32) -> RecordedProcess<'_, 'a> {
        RecordedProcess {
            code: self,
            pid,
            object: None,
        }
    }
}

impl RecordedObject {
    fn read(files: &RecordedFiles<'_>, id: ObjectId) -> Option<Self> {
        let build_id = files.build_id(id);
        let facts_of = |contents: &Contents| {
            let facts = ElfFacts::read(contents).ok();
            facts.filter(|facts| build_id.is_none() || facts.build_id == build_id)
        };
        let (contents, facts) = match files.is_vdso(id) {
            true => [Mode::Bits64, Mode::Bits32].into_iter().find_map(|mode| {
                let contents = Contents::Memory(process::vdso_bytes(mode).ok()?);
                facts_of(&contents).map(|facts| (contents, facts))
            })?,
            false => {
                let contents = Contents::File(files.open(id).ok()?.file);
                let facts = facts_of(&contents)?;
                (contents, facts)
            }
        };
        let folder = Some(Path::new(DEBUG_FOLDER));
        let sections = elf::read_all_cfi_sections(&contents, &facts, MAX_TABLES, folder).ok();
        Some(Self {
            tables: sections.and_then(|sections| CfiTables::new(sections).ok()),
            contents,
            facts,
        })
    }

    /// Its unwind tables, if it has any.
    #[must_use]
    pub const fn tables(&self) -> Option<&CfiTables> {
        self.tables.as_ref()
    }
}

/// The code of one process at a record.
#[derive(Debug)]
pub struct RecordedProcess<'c, 'a> {
    code: &'c mut RecordedCode<'a>,
    pid: u32,
    /// The object that was asked for last, as the answer borrows from it.
    object: Option<Arc<RecordedObject>>,
}

impl RecordedProcess<'_, '_> {
    /// Whether anything is known at an address.
    #[must_use]
    pub fn is_mapped(&self, address: u64) -> bool {
        self.code.place(self.pid, address).is_some()
    }

    /// Whether what the process had mapped was not known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.code.place(self.pid, 0) == Some(PlaceRow::Unknown)
    }

    /// What holds the code at an address, and the address there. The number of a file that was not
    /// at hand is not known.
    #[must_use]
    pub fn locate(&self, address: u64) -> (Code, u64) {
        match self.code.place(self.pid, address) {
            Some(PlaceRow::Object { object, bias }) => {
                (Code::Object(ObjectId(object)), address.wrapping_add(bias))
            }
            Some(PlaceRow::NoFile { bias }) => (Code::NoFile(0), address.wrapping_add(bias)),
            Some(PlaceRow::Memory) => (Code::Memory, address),
            Some(PlaceRow::Gone | PlaceRow::Unknown) | None => (Code::Unmapped, address),
        }
    }
}

impl UserCode for RecordedProcess<'_, '_> {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        let place = self.code.place(self.pid, address)?;
        Some(match place {
            PlaceRow::Object { object, bias } => {
                self.object = self.code.object(object);
                CodeAt {
                    module: ModuleId(object),
                    address: address.wrapping_add(bias),
                    cfi: self.object.as_ref().and_then(|object| object.tables()),
                    kind: CodeKind::Object,
                }
            }
            PlaceRow::Gone | PlaceRow::Unknown => return None,
            PlaceRow::NoFile { .. } => CodeAt {
                module: ModuleId::NONE,
                address,
                cfi: None,
                kind: CodeKind::Object,
            },
            PlaceRow::Memory => CodeAt {
                module: ModuleId::NONE,
                address,
                cfi: None,
                kind: CodeKind::Jit,
            },
        })
    }

    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        match self.code.place(self.pid, address) {
            Some(PlaceRow::Object { object, bias }) => {
                let Some(object) = self.code.object(object) else {
                    return 0;
                };
                let link = address.wrapping_add(bias);
                let read = object.facts.read_code(&object.contents, link, buffer);
                read.unwrap_or(0)
            }
            Some(PlaceRow::Memory) => {
                let kept = self.code.kept.get(&self.pid);
                let before = kept.and_then(|kept| kept.range(..=address).next_back());
                let Some((start, bytes)) = before else {
                    return 0;
                };
                let into = usize::try_from(address - start).unwrap_or(usize::MAX);
                let bytes = bytes.get(into..).unwrap_or_default();
                let len = bytes.len().min(buffer.len());
                buffer[..len].copy_from_slice(&bytes[..len]);
                len
            }
            Some(PlaceRow::NoFile { .. } | PlaceRow::Gone | PlaceRow::Unknown) | None => 0,
        }
    }
}
