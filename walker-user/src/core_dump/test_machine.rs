//! Builds the core of a machine for the tests: physical pages, page tables, notes, and the ELF
//! file around them. What is in its memory is the business of `test_kernel_32` and
//! `test_kernel_64`.

use std::collections::BTreeMap;

use walker_common::wire::Registers;

use super::{
    notes::SystemRegisters,
    paging::{PageTables, PagingMode},
};
use crate::classify::WordSize;

const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const NO_EXECUTE: u64 = 1 << 63;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
/// Bytes of the header and the two program headers before the notes.
const HEADERS: usize = 64 + 2 * 56;

/// A machine that is put together.
pub(super) struct TestMachine {
    pub(super) word: WordSize,
    mode: PagingMode,
    /// Physical memory from 0 on.
    pages: Vec<[u8; PAGE as usize]>,
    /// Physical addresses of the mapped pages.
    mapped: BTreeMap<u64, u64>,
    root: u64,
    notes: Vec<u8>,
    system_notes: Vec<u8>,
}

impl TestMachine {
    /// A machine with nothing mapped.
    pub(super) fn new(mode: PagingMode) -> Self {
        let word = match mode {
            PagingMode::TwoLevel | PagingMode::Pae => WordSize::Four,
            PagingMode::FourLevel | PagingMode::FiveLevel => WordSize::Eight,
        };
        let mut machine = Self {
            word,
            mode,
            pages: vec![[0; PAGE as usize]],
            mapped: BTreeMap::new(),
            root: 0,
            notes: Vec::new(),
            system_notes: Vec::new(),
        };
        // As with page-table isolation: the kernel's root on an even page, and behind it that of
        // user mode, which maps nothing here.
        machine.page();
        machine.root = machine.page();
        machine.page();
        machine
    }

    /// What CR3 holds.
    pub(super) fn cr3(&self) -> u64 {
        self.root
    }

    fn page(&mut self) -> u64 {
        self.pages.push([0; PAGE as usize]);
        (self.pages.len() as u64 - 1) * PAGE
    }

    fn physical(&mut self, at: u64) -> &mut [u8] {
        &mut self.pages[(at / PAGE) as usize][(at % PAGE) as usize..]
    }

    fn entry(&mut self, at: u64, size: usize) -> u64 {
        let mut word = [0; 8];
        word[..size].copy_from_slice(&self.physical(at)[..size]);
        u64::from_le_bytes(word)
    }

    /// Maps a page, as code or not, unless it is mapped already.
    pub(super) fn map(&mut self, address: u64, executable: bool) -> u64 {
        let virtual_page = address & !(PAGE - 1);
        if let Some(physical) = self.mapped.get(&virtual_page) {
            return *physical;
        }
        let (shifts, size): (&[u32], usize) = match self.mode {
            PagingMode::TwoLevel => (&[22, 12], 4),
            PagingMode::Pae => (&[30, 21, 12], 8),
            PagingMode::FourLevel => (&[39, 30, 21, 12], 8),
            PagingMode::FiveLevel => (&[48, 39, 30, 21, 12], 8),
        };
        let mask = if size == 4 { 0x3ff } else { 0x1ff };
        let mut table = self.root;
        let mut physical = 0;
        for &shift in shifts {
            let at = table + ((address >> shift) & mask) * size as u64;
            let mut entry = self.entry(at, size);
            if entry & PRESENT == 0 {
                entry = self.page() | PRESENT;
                if shift == 12 && !executable && size == 8 {
                    entry |= NO_EXECUTE;
                }
                self.physical(at)[..size].copy_from_slice(&entry.to_le_bytes()[..size]);
            }
            physical = entry & !(NO_EXECUTE | (PAGE - 1));
            table = physical;
        }
        self.mapped.insert(virtual_page, physical);
        physical
    }

    /// Maps what lies between two addresses.
    pub(super) fn map_range(&mut self, begin: u64, end: u64) {
        for page in (begin..end).step_by(PAGE as usize) {
            self.map(page, false);
        }
    }

    /// Writes bytes, mapping their pages.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let at = address + index as u64;
            let physical = self.map(at, false) + at % PAGE;
            self.physical(physical)[0] = *byte;
        }
    }

    /// Writes a word.
    pub(super) fn put(&mut self, address: u64, value: u64) {
        let size = self.word.bytes() as usize;
        self.write(address, &value.to_le_bytes()[..size]);
    }

    /// Writes 32 bits.
    pub(super) fn put_u32(&mut self, address: u64, value: u32) {
        self.write(address, &value.to_le_bytes());
    }

    /// Adds a note.
    pub(super) fn note(&mut self, name: &[u8], kind: u32, content: &[u8]) {
        let note = note(name, kind, content);
        self.notes.extend(note);
    }

    /// Adds a CPU, with the note QEMU writes for it unless `system` is `None`.
    pub(super) fn cpu(&mut self, registers: &Registers, system: Option<&SystemRegisters>) {
        let r = registers;
        let mut status = vec![
            0;
            if self.word == WordSize::Eight {
                112
            } else {
                72
            }
        ];
        match self.word {
            WordSize::Eight => {
                for value in [
                    r.r15, r.r14, r.r13, r.r12, r.bp, r.bx, r.r11, r.r10, r.r9, r.r8, r.ax, r.cx,
                    r.dx, r.si, r.di, r.orig_ax, r.ip, r.cs, r.flags, r.sp, r.ss, 0, 0, 0, 0, 0, 0,
                ] {
                    status.extend(value.to_le_bytes());
                }
                status.resize(336, 0);
            }
            WordSize::Four => {
                for value in [
                    r.bx, r.cx, r.dx, r.si, r.di, r.bp, r.ax, 0, 0, 0, 0, r.orig_ax, r.ip, r.cs,
                    r.flags, r.sp, r.ss,
                ] {
                    status.extend((value as u32).to_le_bytes());
                }
                status.resize(144, 0);
            }
        }
        self.note(b"CORE\0", 1, &status);
        if let Some(system) = system {
            let state = qemu_state(system);
            self.system_notes.extend(note(b"QEMU\0", 0, &state));
        }
    }

    /// CR4 for this machine's page tables.
    pub(super) fn cr4(&self) -> u64 {
        match self.mode {
            PagingMode::TwoLevel => 0,
            PagingMode::Pae | PagingMode::FourLevel => 1 << 5,
            PagingMode::FiveLevel => 1 << 5 | 1 << 12,
        }
    }

    /// What its page tables are.
    pub(super) fn tables(&self) -> PageTables {
        PageTables::at_cr3(self.root, self.mode)
    }

    /// The core: an ELF file of 64 bits, whose segments are the notes and all of memory.
    pub(super) fn core(&self) -> Vec<u8> {
        let machine = match self.word {
            WordSize::Four => EM_386,
            WordSize::Eight => EM_X86_64,
        };
        let notes: Vec<u8> = [&self.notes[..], &self.system_notes].concat();
        let memory = self.pages.as_flattened();
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [4, machine] {
            file.extend(u16::to_le_bytes(half));
        }
        file.extend(1u32.to_le_bytes());
        for word in [0u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 2, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let after = (HEADERS + notes.len()) as u64;
        for (kind, offset, length) in [
            (4u32, HEADERS as u64, notes.len() as u64),
            (1, after, memory.len() as u64),
        ] {
            file.extend(kind.to_le_bytes());
            file.extend(0u32.to_le_bytes());
            for word in [offset, 0, 0, length, length, 0] {
                file.extend(word.to_le_bytes());
            }
        }
        file.extend(notes);
        file.extend(memory);
        file
    }
}

/// One note.
pub(super) fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, content.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    note.extend(name);
    note.resize(note.len().next_multiple_of(4), 0);
    note.extend(content);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// QEMU's note of a CPU.
pub(super) fn qemu_state(system: &SystemRegisters) -> Vec<u8> {
    let mut state = Vec::new();
    for word in [1u32, 440] {
        state.extend(word.to_le_bytes());
    }
    state.extend([0; 18 * 8]);
    let bases = [
        0,
        0,
        0,
        system.fs_base,
        system.gs_base,
        0,
        0,
        system.tr_base,
        system.gdt_base,
        0,
    ];
    for base in bases {
        state.extend([0; 16]);
        state.extend(base.to_le_bytes());
    }
    for register in [
        0x8005_0033,
        0,
        0,
        system.cr3,
        system.cr4,
        system.kernel_gs_base,
    ] {
        state.extend(u64::to_le_bytes(register));
    }
    state
}
