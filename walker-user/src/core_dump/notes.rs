//! The notes of a core: the registers of each CPU, and what the kernel said of itself.
//!
//! Layouts: `NT_PRSTATUS` is `struct elf_prstatus` (`include/linux/elfcore.h`, 6.12) of the
//! machine's word size, which QEMU writes as well; QEMU's own note is `QEMUCPUState`
//! (`target/i386/arch_dump.c`, 7.2); VMCOREINFO is text (`kernel/vmcore_info.c`, 6.12, and
//! Documentation/admin-guide/kdump/vmcoreinfo.rst).

use std::{borrow::Cow, collections::HashMap};

use walker_common::wire::Registers;

use super::CoreError;
use crate::classify::WordSize;

/// The most CPUs (`CONFIG_NR_CPUS` of x86_64 with MAXSMP).
pub(super) const MAX_CPUS: usize = 8192;
/// The most bytes of VMCOREINFO; the kernel gives it a page.
const MAX_VMCOREINFO: usize = 64 << 10;
/// The longest build ID, in bytes.
const MAX_BUILD_ID: usize = 64;

const NT_PRSTATUS: u32 = 1;
const NT_GNU_BUILD_ID: u32 = 3;

/// What QEMU knows of a CPU besides its general registers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SystemRegisters {
    /// Physical address of the page tables, and flags.
    pub cr3: u64,
    /// Says how the page tables are to be read.
    pub cr4: u64,
    /// Base of `fs`, where 32-bit kernels have their per-CPU data.
    pub fs_base: u64,
    /// Base of `gs`, where 64-bit kernels have their per-CPU data while they run.
    pub gs_base: u64,
    /// What `swapgs` would make of it: the same in user mode.
    pub kernel_gs_base: u64,
    /// Base of the task register's segment: the TSS.
    pub tr_base: u64,
    /// The descriptor table, which is the first page of the CPU's `struct cpu_entry_area`.
    pub gdt_base: u64,
}

/// One CPU's registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuNote {
    /// The general registers.
    pub registers: Registers,
    /// From QEMU's note, if there is one for this CPU.
    pub system: Option<SystemRegisters>,
}

/// What the notes say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// In the order of the file.
    pub cpus: Vec<CpuNote>,
    /// The lines `key=value` of VMCOREINFO.
    pub vmcoreinfo: HashMap<String, String>,
    /// The kernel's build ID.
    pub build_id: Option<Vec<u8>>,
}

impl Notes {
    /// Reads the notes of a machine of this word size. A note that is cut or too short for what it
    /// says it is ends the list.
    ///
    /// # Errors
    /// If no CPU's registers are among them, or those of too many.
    pub(super) fn parse(bytes: &[u8], word: WordSize) -> Result<Self, CoreError> {
        let mut notes = Self {
            build_id: build_id(bytes),
            ..Self::default()
        };
        let mut system = Vec::new();
        for note in each(bytes) {
            match (note.name, note.kind) {
                (b"CORE", NT_PRSTATUS) => {
                    let registers = registers(note.content, word);
                    notes.cpus.extend(registers.map(|registers| CpuNote {
                        registers,
                        system: None,
                    }));
                }
                (b"QEMU", _) => system.extend(system_registers(note.content)),
                (b"VMCOREINFO", _) => notes.vmcoreinfo = lines(note.content),
                _ => {}
            }
        }
        if notes.cpus.is_empty() {
            return Err(CoreError::NoCpus);
        }
        if notes.cpus.len() > MAX_CPUS {
            return Err(CoreError::TooMany {
                what: "CPUs",
                count: notes.cpus.len() as u64,
                limit: MAX_CPUS as u64,
            });
        }
        if notes.build_id.is_none() {
            notes.build_id = notes.vmcoreinfo.get("BUILD-ID").and_then(|text| hex(text));
        }
        // QEMU writes one note of each kind for each CPU, in the same order.
        for (cpu, system) in notes.cpus.iter_mut().zip(system) {
            cpu.system = Some(system);
        }
        Ok(notes)
    }

    /// A number of VMCOREINFO: `NUMBER(name)` in decimal, or `SYMBOL(name)` or the plain name in
    /// hexadecimal.
    #[must_use]
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let text = self.vmcoreinfo.get(key)?.trim();
        if key.starts_with("NUMBER(") {
            return text.parse::<i64>().map(|number| number as u64).ok();
        }
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    }
}

/// One note.
struct Note<'a> {
    /// Without the zero at its end.
    name: &'a [u8],
    kind: u32,
    content: &'a [u8],
}

/// The notes in some bytes, up to the first that is cut.
fn each(mut notes: &[u8]) -> impl Iterator<Item = Note<'_>> {
    // Ends: every note takes at least its header of 12 bytes.
    std::iter::from_fn(move || {
        let name_length = u32_at(notes, 0)? as usize;
        let length = u32_at(notes, 4)? as usize;
        let kind = u32_at(notes, 8)?;
        let name = notes.get(12..12usize.checked_add(name_length)?)?;
        let begin = (12 + name_length).next_multiple_of(4);
        let end = begin.checked_add(length)?;
        let content = notes.get(begin..end)?;
        notes = notes.get(end.next_multiple_of(4)..).unwrap_or(&[]);
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        Some(Note {
            name,
            kind,
            content,
        })
    })
}

/// The build ID among notes.
pub(super) fn build_id(notes: &[u8]) -> Option<Vec<u8>> {
    each(notes)
        .find(|note| {
            note.name == b"GNU"
                && note.kind == NT_GNU_BUILD_ID
                && (1..=MAX_BUILD_ID).contains(&note.content.len())
        })
        .map(|note| note.content.to_vec())
}

/// The registers in a `struct elf_prstatus`: what is before them depends on the word size.
fn registers(status: &[u8], word: WordSize) -> Option<Registers> {
    match word {
        WordSize::Eight => {
            let at = |index: usize| u64_at(status, 112 + 8 * index);
            at(26)?;
            let at = |index| at(index).unwrap_or(0);
            Some(Registers {
                r15: at(0),
                r14: at(1),
                r13: at(2),
                r12: at(3),
                bp: at(4),
                bx: at(5),
                r11: at(6),
                r10: at(7),
                r9: at(8),
                r8: at(9),
                ax: at(10),
                cx: at(11),
                dx: at(12),
                si: at(13),
                di: at(14),
                orig_ax: at(15),
                ip: at(16),
                cs: at(17),
                flags: at(18),
                sp: at(19),
                ss: at(20),
            })
        }
        WordSize::Four => {
            let at = |index: usize| u32_at(status, 72 + 4 * index).map(u64::from);
            at(16)?;
            let at = |index| at(index).unwrap_or(0);
            Some(Registers {
                bx: at(0),
                cx: at(1),
                dx: at(2),
                si: at(3),
                di: at(4),
                bp: at(5),
                ax: at(6),
                orig_ax: at(11),
                ip: at(12),
                // The upper half of a segment register's word is not defined.
                cs: at(13) & 0xffff,
                flags: at(14),
                sp: at(15),
                ss: at(16) & 0xffff,
                ..Registers::default()
            })
        }
    }
}

/// `QEMUCPUState`: version, size, 18 registers, ten segments of 24 bytes (cs, ds, es, fs, gs, ss,
/// ldt, tr, gdt, idt) with the base last, five control registers, and, in later versions,
/// `kernel_gs_base`.
fn system_registers(state: &[u8]) -> Option<SystemRegisters> {
    const SEGMENTS: usize = 8 + 18 * 8;
    const CONTROL: usize = SEGMENTS + 10 * 24;
    if u32_at(state, 0)? != 1 {
        return None;
    }
    let base = |segment: usize| u64_at(state, SEGMENTS + 24 * segment + 16);
    let control = |register: usize| u64_at(state, CONTROL + 8 * register);
    Some(SystemRegisters {
        cr3: control(3)?,
        cr4: control(4)?,
        fs_base: base(3)?,
        gs_base: base(4)?,
        tr_base: base(7)?,
        gdt_base: base(8)?,
        kernel_gs_base: control(5).unwrap_or(0),
    })
}

fn lines(text: &[u8]) -> HashMap<String, String> {
    let text: Cow<'_, str> = String::from_utf8_lossy(&text[..text.len().min(MAX_VMCOREINFO)]);
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_end_matches('\0').to_owned()))
        .collect()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 2 * MAX_BUILD_ID {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u64::from_le_bytes(*word))
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
