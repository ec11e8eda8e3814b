//! The code of BPF programs and trampolines, from the kernel's own list of it.
//!
//! kallsyms shows the same list, but some kernels hide part of it there. The list (`bpf_kallsyms`,
//! `kernel/bpf/core.c`, 5.8 on) has no symbol either; it is entered through one of this process's
//! own programs: descriptor → `struct file` → `struct bpf_prog` → its place in the list.

use crate::{
    btf::{Btf, BtfError},
    unwind::kernel::TextRange,
};

use super::memory::{KernelMemory, ReadError};

/// The most entries that are followed: a busy machine has a few thousand.
const MAX_ENTRIES: usize = 100_000;
/// Bytes of a name that are read: `bpf_prog_`, a tag, and the longest program name fit.
const NAME_BYTES: usize = 128;
/// No program or trampoline is larger.
const MAX_BYTES: u64 = 64 << 20;

/// Offsets on the way to and along the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct BpfTextOffsets {
    task_files: u64,
    files_fdt: u64,
    fdt_fd: u64,
    file_private_data: u64,
    prog_aux: u64,
    aux_ksym: u64,
    ksym_start: u64,
    ksym_end: u64,
    ksym_name: u64,
    ksym_lnode: u64,
}

/// A piece of BPF text and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpfSymbol {
    /// Where it is.
    pub range: TextRange,
    /// What the kernel calls it, such as `bpf_prog_6deef7357e7b4530_name` or
    /// `bpf_trampoline_6442456210`.
    pub name: String,
}

/// The symbol that holds `address`, in a sorted list.
#[must_use]
pub fn find(symbols: &[BpfSymbol], address: u64) -> Option<&BpfSymbol> {
    let index = symbols.partition_point(|symbol| symbol.range.begin <= address);
    let symbol = symbols.get(index.checked_sub(1)?)?;
    (address < symbol.range.end).then_some(symbol)
}

impl BpfTextOffsets {
    /// Resolves the offsets.
    ///
    /// # Errors
    /// If the kernel is too old for the list.
    pub fn from_btf(btf: &Btf) -> Result<Self, BtfError> {
        let offset = |path: &str| Ok::<u64, BtfError>(btf.member(path)?.bit_offset / 8);
        Ok(Self {
            task_files: offset("task_struct.files")?,
            files_fdt: offset("files_struct.fdt")?,
            fdt_fd: offset("fdtable.fd")?,
            file_private_data: offset("file.private_data")?,
            prog_aux: offset("bpf_prog.aux")?,
            aux_ksym: offset("bpf_prog_aux.ksym")?,
            ksym_start: offset("bpf_ksym.start")?,
            ksym_end: offset("bpf_ksym.end")?,
            ksym_name: offset("bpf_ksym.name")?,
            ksym_lnode: offset("bpf_ksym.lnode")?,
        })
    }
}

/// Reads the list. `task` is this process's `task_struct` and `program` the descriptor of one of
/// its loaded programs. `image_begin` is where the kernel image begins. The symbols come sorted.
///
/// Programs come and go meanwhile, so the list may end early; what was read until then is true.
///
/// # Errors
/// If the way to the list cannot be read.
pub fn read(
    memory: &mut impl KernelMemory,
    offsets: &BpfTextOffsets,
    task: u64,
    program: u32,
    image_begin: u64,
) -> Result<Vec<BpfSymbol>, ReadError> {
    let follow = |memory: &mut _, pointer: u64, offset: u64| {
        KernelMemory::read_u64(memory, pointer.wrapping_add(offset))
    };
    let files = follow(memory, task, offsets.task_files)?;
    let table = follow(memory, files, offsets.files_fdt)?;
    let descriptors = follow(memory, table, offsets.fdt_fd)?;
    let file = follow(memory, descriptors, 8 * u64::from(program))?;
    let prog = follow(memory, file, offsets.file_private_data)?;
    let aux = follow(memory, prog, offsets.prog_aux)?;
    let first = aux
        .wrapping_add(offsets.aux_ksym)
        .wrapping_add(offsets.ksym_lnode);

    let mut symbols = Vec::new();
    let mut node = first;
    for _ in 0..MAX_ENTRIES {
        // The head of the list is a variable of the kernel image; entries are allocated.
        if node < image_begin {
            match entry(memory, offsets, node.wrapping_sub(offsets.ksym_lnode)) {
                Ok(symbol) if symbol.range.begin >= image_begin => symbols.push(symbol),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        match follow(memory, node, 0) {
            Ok(next) if next != first => node = next,
            _ => break,
        }
    }
    symbols.retain(|symbol| {
        let TextRange { begin, end } = symbol.range;
        begin < end && end - begin <= MAX_BYTES
    });
    symbols.sort_unstable_by_key(|symbol| symbol.range.begin);
    Ok(symbols)
}

fn entry(
    memory: &mut impl KernelMemory,
    offsets: &BpfTextOffsets,
    ksym: u64,
) -> Result<BpfSymbol, ReadError> {
    let begin = memory.read_u64(ksym.wrapping_add(offsets.ksym_start))?;
    let end = memory.read_u64(ksym.wrapping_add(offsets.ksym_end))?;
    let name = memory.read(ksym.wrapping_add(offsets.ksym_name), NAME_BYTES)?;
    let length = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(NAME_BYTES);
    Ok(BpfSymbol {
        range: TextRange { begin, end },
        name: String::from_utf8_lossy(&name[..length]).into_owned(),
    })
}

#[cfg(test)]
#[path = "bpf_text_tests.rs"]
mod tests;
