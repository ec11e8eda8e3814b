//! The unwind tables of object files: read when a walk first needs them, within a bound on memory.

use std::path::Path;

use rustc_hash::FxHashMap;

use crate::{
    elf::DEBUG_FOLDER,
    process::{
        object::ObjectId,
        objects::{CfiError, Objects},
    },
    unwind::user::tables::{self, CfiTables},
};

/// Most bytes of all tables together. Chromium's are 12 MiB.
const MAX_BYTES: usize = 64 << 20;

/// The tables of one object.
#[derive(Debug)]
struct Slot {
    /// `None` if it has none that can be used.
    tables: Option<CfiTables>,
    used: u64,
}

/// The tables that are at hand.
#[derive(Debug, Default)]
pub(super) struct TableStore {
    slots: FxHashMap<ObjectId, Slot>,
    bytes: usize,
    clock: u64,
    /// Objects whose tables could not be read. That it has none is no failure.
    pub(super) unreadable: u64,
}

impl TableStore {
    /// The tables of an object, if it has any.
    pub(super) fn get(&mut self, objects: &mut Objects, id: ObjectId) -> Option<&CfiTables> {
        self.clock += 1;
        if !self.slots.contains_key(&id) {
            self.read(objects, id);
        }
        let slot = self.slots.get_mut(&id)?;
        slot.used = self.clock;
        slot.tables.as_ref()
    }

    #[cold]
    fn read(&mut self, objects: &mut Objects, id: ObjectId) {
        let sections =
            objects.read_cfi_sections(id, MAX_BYTES as u64, Some(Path::new(DEBUG_FOLDER)));
        let tables = match sections.map(CfiTables::new) {
            Ok(Ok(tables)) => Some(tables),
            Ok(Err(tables::CfiError::NoSection)) => None,
            Ok(Err(tables::CfiError::TooLong { .. }))
            | Err(CfiError::Unavailable(_) | CfiError::Elf(_)) => {
                self.unreadable += 1;
                None
            }
        };
        self.bytes += tables.as_ref().map_or(0, CfiTables::bytes);
        self.slots.insert(
            id,
            Slot {
                tables,
                used: self.clock,
            },
        );
        while self.bytes > MAX_BYTES {
            let others = self.slots.iter().filter(|(other, _)| **other != id);
            let Some((&oldest, _)) = others.min_by_key(|(_, slot)| slot.used) else {
                return;
            };
            if let Some(slot) = self.slots.remove(&oldest) {
                self.bytes -= slot.tables.as_ref().map_or(0, CfiTables::bytes);
            }
        }
    }
}
