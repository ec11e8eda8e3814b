//! The executable mappings of one process.

use std::collections::BTreeMap;

use super::mapped_file::Backing;

/// The most mappings of one process; the kernel's own default limit is just below.
pub const MAX_MAPPINGS: usize = 65_536;

/// A range of addresses that shows a part of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// What it shows.
    pub backing: Backing,
}

impl Mapping {
    /// The file offset of an address in it.
    #[must_use]
    pub const fn offset_of(&self, address: u64) -> u64 {
        self.file_offset
            .wrapping_add(address.wrapping_sub(self.start))
    }

    /// What is left of it from `start` on.
    fn from(&self, start: u64) -> Self {
        Self {
            start,
            file_offset: self.offset_of(start),
            ..self.clone()
        }
    }
}

/// Mappings that do not overlap, found by address.
#[derive(Debug, Clone, Default)]
pub struct AddressSpace {
    by_start: BTreeMap<u64, Mapping>,
}

impl AddressSpace {
    /// One without mappings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mapping in place of what it overlaps. Returns whether it is there: one that is empty
    /// is not, and there are [`MAX_MAPPINGS`] at most.
    pub fn insert(&mut self, mapping: Mapping) -> bool {
        if mapping.start >= mapping.end {
            return false;
        }
        self.remove(mapping.start, mapping.end);
        let fits = self.by_start.len() < MAX_MAPPINGS;
        if fits {
            self.by_start.insert(mapping.start, mapping);
        }
        fits
    }

    /// Takes a range of addresses out of the mappings there.
    pub fn remove(&mut self, start: u64, end: u64) {
        if let Some((_, before)) = self.by_start.range_mut(..start).next_back()
            && before.end > start
        {
            let behind = (before.end > end).then(|| before.from(end));
            before.end = start;
            if let Some(behind) = behind {
                self.by_start.insert(end, behind);
                return;
            }
        }
        while let Some((&first, mapping)) = self.by_start.range(start..end).next() {
            let behind = (mapping.end > end).then(|| mapping.from(end));
            self.by_start.remove(&first);
            if let Some(behind) = behind {
                self.by_start.insert(end, behind);
            }
        }
    }

    /// The mapping that holds an address.
    #[must_use]
    pub fn get(&self, address: u64) -> Option<&Mapping> {
        let (_, mapping) = self.by_start.range(..=address).next_back()?;
        (address < mapping.end).then_some(mapping)
    }

    /// The mappings, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.by_start.values()
    }

    /// How many mappings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }
}

#[cfg(test)]
#[path = "address_space_tests.rs"]
mod tests;
