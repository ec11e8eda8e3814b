//! Where the kernel in a core is, and whether the symbols are its own.
//!
//! The page tables are found through a CPU's CR3 (QEMU's note) or VMCOREINFO, the distance that
//! KASLR moved the kernel by VMCOREINFO or by trying every place it can be. What proves both is
//! the text of `linux_banner`.

use super::{
    CoreError,
    file::CoreFile,
    memory::CoreMemory,
    notes::Notes,
    paging::{PageTables, PagingMode},
    symbols::{Symbols, until_zero},
};
use crate::classify::WordSize;

/// The text every kernel begins its banner with.
const BANNER: &[u8] = b"Linux version ";
/// Bytes of the banner that are read.
const BANNER_BYTES: usize = 512;
/// `__START_KERNEL_map` (`arch/x86/include/asm/page_64_types.h`): the kernel image is mapped from
/// here, at `phys_base`.
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Where 32-bit kernels map memory from (`CONFIG_PAGE_OFFSET`), the usual first.
const PAGE_OFFSETS: [u64; 4] = [0xc000_0000, 0xb000_0000, 0x8000_0000, 0x4000_0000];
/// The farthest KASLR moves a kernel (`KERNEL_IMAGE_SIZE`).
const MAX_SLIDE: u64 = 1 << 30;
/// The least distance it is moved by: `CONFIG_PHYSICAL_ALIGN` is a multiple of it, except for
/// 32-bit kernels that were configured by hand.
const SLIDE_STEP: u64 = 1 << 20;
/// The most page tables that are tried; any CPU's should do.
const MAX_TABLES: usize = 8;
/// The flag by which user mode's page tables differ from the kernel's in CR3, with page-table
/// isolation (`PTI_USER_PGTABLE_BIT`).
const PTI_USER: u64 = 1 << 12;
/// The most bytes of the kernel's own notes.
const MAX_NOTES: u64 = 64 << 10;

/// A kernel that is known to be the one of the symbols.
#[derive(Debug)]
pub(super) struct Identity {
    /// Its memory, through its own reference page tables where they are found.
    pub memory: CoreMemory,
    /// What is added to the symbols' addresses, modulo the address space.
    pub slide: u64,
    /// The text of `linux_banner`, without what cannot be printed.
    pub banner: String,
}

/// Finds the kernel.
///
/// # Errors
/// If it is not there, or is another one than that of the symbols.
pub(super) fn find(
    file: CoreFile,
    notes: &Notes,
    symbols: &Symbols,
) -> Result<Identity, CoreError> {
    let word = file.word;
    if symbols.word() != word {
        let bits = |word: WordSize| word.bytes() as u32 * 8;
        return Err(CoreError::WordSize {
            symbols: bits(symbols.word()),
            core: bits(word),
        });
    }
    let candidates = page_tables(notes, word);
    let Some(&first) = candidates.first() else {
        return Err(CoreError::NoPageTables);
    };
    let banner = symbols.required("linux_banner")?;
    let mut memory = CoreMemory::new(file, first);
    let mut tried = 0;
    for tables in candidates {
        memory.set_tables(tables);
        for slide in slides(notes, word) {
            let Some(text) = banner_at(&memory, add(banner, slide, word)) else {
                tried += 1;
                continue;
            };
            check(&memory, notes, symbols, slide, &text)?;
            use_reference_tables(&mut memory, symbols, slide, &text);
            let banner = String::from_utf8_lossy(&text)
                .trim_end()
                .replace(|c: char| c.is_control(), "_");
            return Ok(Identity {
                memory,
                slide,
                banner,
            });
        }
    }
    Err(CoreError::OtherKernel {
        tried,
        release: notes.vmcoreinfo.get("OSRELEASE").cloned(),
    })
}

/// An address of the symbols where it is in the core.
#[must_use]
pub(super) fn add(address: u64, slide: u64, word: WordSize) -> u64 {
    let sum = address.wrapping_add(slide);
    match word {
        WordSize::Eight => sum,
        WordSize::Four => sum & 0xffff_ffff,
    }
}

/// Page tables that may be the kernel's, without doubles.
fn page_tables(notes: &Notes, word: WordSize) -> Vec<PageTables> {
    let long = word == WordSize::Eight;
    let mut found = Vec::new();
    let mut push = |tables: PageTables| {
        if found.len() < MAX_TABLES && !found.contains(&tables) {
            found.push(tables);
        }
    };
    for system in notes.cpus.iter().filter_map(|cpu| cpu.system) {
        let mode = PagingMode::from_cr4(long, system.cr4);
        if long {
            // Of the pair of tables that isolation makes, only one maps the kernel.
            push(PageTables::at_cr3(system.cr3 & !PTI_USER, mode));
        }
        push(PageTables::at_cr3(system.cr3, mode));
    }
    if let Some(root) = notes.number("SYMBOL(swapper_pg_dir)") {
        if long {
            let mode = match notes.number("NUMBER(pgtable_l5_enabled)") {
                Some(1) => PagingMode::FiveLevel,
                _ => PagingMode::FourLevel,
            };
            if let Some(phys_base) = notes.number("NUMBER(phys_base)") {
                let root = root.wrapping_sub(START_KERNEL_MAP).wrapping_add(phys_base);
                push(PageTables::at_cr3(root, mode));
            }
        } else {
            let mode = match notes.vmcoreinfo.contains_key("CONFIG_X86_PAE") {
                true => PagingMode::Pae,
                false => PagingMode::TwoLevel,
            };
            for offset in PAGE_OFFSETS {
                if let Some(root) = root.checked_sub(offset) {
                    push(PageTables::at_cr3(root, mode));
                }
            }
        }
    }
    found
}

/// How far the kernel may have been moved, the likely first. Symbols that are a copy of
/// `/proc/kallsyms` may themselves be moved, so it can be down as well.
fn slides(notes: &Notes, word: WordSize) -> impl Iterator<Item = u64> {
    let step = match word {
        WordSize::Eight => 2 * SLIDE_STEP,
        WordSize::Four => SLIDE_STEP,
    };
    let all = (1..=MAX_SLIDE / step)
        .map(move |count| count * step)
        .flat_map(|slide| [slide, slide.wrapping_neg()]);
    notes
        .number("KERNELOFFSET")
        .into_iter()
        .chain([0])
        .chain(all)
}

/// The banner, if one is there.
fn banner_at(memory: &CoreMemory, address: u64) -> Option<Vec<u8>> {
    let mut begin = [0; BANNER.len()];
    memory.fill(address, &mut begin).ok()?;
    if begin != BANNER {
        return None;
    }
    let mut text = [0; BANNER_BYTES];
    memory.fill(address, &mut text).ok()?;
    Some(until_zero(&text).to_vec())
}

/// Compares what else tells one kernel from another.
fn check(
    memory: &CoreMemory,
    notes: &Notes,
    symbols: &Symbols,
    slide: u64,
    banner: &[u8],
) -> Result<(), CoreError> {
    if let Some(wanted) = &symbols.build_id
        && let Some(found) = notes
            .build_id
            .clone()
            .or_else(|| build_id_in_memory(memory, symbols, slide))
        && *wanted != found
    {
        return Err(CoreError::BuildId {
            symbols: hex(wanted),
            core: hex(&found),
        });
    }
    let release = notes.vmcoreinfo.get("OSRELEASE");
    let is_release = |release: &String| {
        let release = release.trim().as_bytes();
        banner[BANNER.len()..].starts_with(release)
    };
    let same_banner = symbols
        .banner
        .as_ref()
        .is_none_or(|wanted| wanted == banner);
    if !same_banner || release.is_some_and(|release| !is_release(release)) {
        return Err(CoreError::OtherKernel {
            tried: 1,
            release: release.cloned(),
        });
    }
    Ok(())
}

fn build_id_in_memory(memory: &CoreMemory, symbols: &Symbols, slide: u64) -> Option<Vec<u8>> {
    let begin = add(symbols.address("__start_notes")?, slide, memory.word());
    let end = add(symbols.address("__stop_notes")?, slide, memory.word());
    let length = end
        .checked_sub(begin)
        .filter(|length| *length <= MAX_NOTES)?;
    let mut bytes = vec![0; length as usize];
    memory.fill(begin, &mut bytes).ok()?;
    super::notes::build_id(&bytes)
}

/// Goes over to the page tables of `init_mm`, if they are found and show the same. Those of a
/// process may lack what the kernel mapped later.
fn use_reference_tables(memory: &mut CoreMemory, symbols: &Symbols, slide: u64, banner: &[u8]) {
    let word = memory.word();
    let name = match word {
        WordSize::Eight => "init_top_pgt",
        WordSize::Four => "swapper_pg_dir",
    };
    let before = memory.tables();
    let (Some(root), Some(at)) = (symbols.address(name), symbols.address("linux_banner")) else {
        return;
    };
    if let Ok(mapping) = memory.translate(add(root, slide, word)) {
        memory.set_tables(PageTables::at_cr3(mapping.physical, before.mode));
        if banner_at(memory, add(at, slide, word)).as_deref() != Some(banner) {
            memory.set_tables(before);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
