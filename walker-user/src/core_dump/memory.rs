//! The crashed kernel's virtual memory, through its own page tables.

use std::{cell::RefCell, collections::HashMap};

use super::{
    file::CoreFile,
    paging::{Fault, Mapping, PageTables},
};
use crate::{
    classify::WordSize,
    kernel::memory::{KernelMemory, ReadError},
    unwind::kernel::TextRange,
};

/// The most bytes of one read; the largest are tables of a few MiB.
const MAX_READ: usize = 64 << 20;
/// Page-table pages that are kept: 16 MiB of them.
const MAX_CACHED: usize = 4096;
const PAGE: usize = 4096;
/// The most pages and holes that are looked at for code.
const MAX_STEPS: usize = 4 << 20;
/// The most ranges of code that are kept.
const MAX_RANGES: usize = 4096;

/// Memory of a core, seen through one set of page tables.
#[derive(Debug)]
pub(super) struct CoreMemory {
    file: CoreFile,
    tables: PageTables,
    cache: RefCell<HashMap<u64, Option<Box<[u8; PAGE]>>>>,
}

impl CoreMemory {
    /// The memory of `file` through `tables`.
    #[must_use]
    pub(super) fn new(file: CoreFile, tables: PageTables) -> Self {
        Self {
            file,
            tables,
            cache: RefCell::default(),
        }
    }

    /// The size of the machine's words.
    #[must_use]
    pub(super) const fn word(&self) -> WordSize {
        self.file.word
    }

    /// The page tables it is seen through.
    #[must_use]
    pub(super) const fn tables(&self) -> PageTables {
        self.tables
    }

    /// Looks through other page tables from now on.
    pub(super) fn set_tables(&mut self, tables: PageTables) {
        self.tables = tables;
    }

    /// Translates a virtual address.
    ///
    /// # Errors
    /// If it is not mapped, or its tables are not in the core.
    pub(super) fn translate(&self, address: u64) -> Result<Mapping, Fault> {
        // Addresses of 32-bit kernels have 32 bits.
        if self.word() == WordSize::Four && address >> 32 != 0 {
            return Err(Fault::NotPresent { left: 1 });
        }
        self.tables
            .translate(address, |at, size| self.table_word(at, size))
    }

    /// A word of a page table.
    fn table_word(&self, at: u64, size: usize) -> Option<u64> {
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        let page = cache
            .entry(at & !(PAGE as u64 - 1))
            .or_insert_with_key(|page| {
                let mut bytes = Box::new([0; PAGE]);
                self.file
                    .read_physical(*page, &mut bytes[..])
                    .map(|()| bytes)
            });
        let bytes = page.as_ref()?.get(at as usize % PAGE..)?.get(..size)?;
        let mut word = [0; 8];
        word[..size].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    /// Fills `buffer` with the bytes at `address`.
    ///
    /// # Errors
    /// If any of them are not mapped or not in the core.
    pub(super) fn fill(&self, address: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let length = buffer.len();
        let failed = |reason: String| ReadError {
            address,
            length,
            reason,
        };
        let mut done = 0;
        while done < length {
            let at = address
                .checked_add(done as u64)
                .ok_or_else(|| failed("past the end of the address space".to_owned()))?;
            let mapping = self
                .translate(at)
                .map_err(|fault| failed(explain(at, fault)))?;
            let take = usize::try_from(mapping.left)
                .unwrap_or(usize::MAX)
                .min(length - done);
            self.file
                .read_physical(mapping.physical, &mut buffer[done..done + take])
                .ok_or_else(|| {
                    failed(format!(
                        "physical memory at {:#x} is not in the core",
                        mapping.physical
                    ))
                })?;
            done += take;
        }
        Ok(())
    }

    /// Reads a word of the machine's size.
    ///
    /// # Errors
    /// As [`CoreMemory::fill`].
    pub(super) fn word_at(&self, address: u64) -> Result<u64, ReadError> {
        let mut word = [0; 8];
        let size = self.word().bytes() as usize;
        self.fill(address, &mut word[..size])?;
        Ok(u64::from_le_bytes(word))
    }

    /// The mapped pages between two addresses that can be code, joined where they touch.
    #[must_use]
    pub(super) fn executable(&self, begin: u64, end: u64) -> Vec<TextRange> {
        let mut ranges: Vec<TextRange> = Vec::new();
        let mut at = begin;
        for _ in 0..MAX_STEPS {
            if at >= end || ranges.len() >= MAX_RANGES {
                break;
            }
            let (left, executable) = match self.translate(at) {
                Ok(mapping) => (mapping.left, mapping.executable),
                Err(Fault::NotPresent { left } | Fault::Unreadable { left, .. }) => (left, false),
            };
            let next = at.saturating_add(left).min(end);
            match ranges.last_mut() {
                Some(range) if executable && range.end == at => range.end = next,
                _ if executable => ranges.push(TextRange {
                    begin: at,
                    end: next,
                }),
                _ => {}
            }
            at = next;
        }
        ranges
    }
}

fn explain(at: u64, fault: Fault) -> String {
    match fault {
        Fault::NotPresent { .. } => format!("{at:#x} is not mapped"),
        Fault::Unreadable { entry, .. } => {
            format!("the page table entry at physical {entry:#x} is not in the core")
        }
    }
}

impl KernelMemory for CoreMemory {
    fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        if length > MAX_READ {
            return Err(ReadError {
                address,
                length,
                reason: format!("more than {MAX_READ} bytes at once"),
            });
        }
        let mut bytes = vec![0; length];
        self.fill(address, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
