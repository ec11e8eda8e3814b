//! Finding the ORC tables of the running kernel and its modules, and telling which entry format
//! they have.
//!
//! The kernel's own tables are found by the symbols of their bounds where kallsyms has them. It
//! often has not (they are data symbols before 6.10), and then by their addresses in the code of
//! the kernel's unwinder, which has to hold them. Reading the entries is `unwind::orc`'s job.

use std::{fs, path::Path};

use thiserror::Error;

use super::{
    image::KernelImage,
    kallsyms::Kallsyms,
    memory::{KernelMemory, ReadError},
    offsets::{ModuleOrc, OrcBits},
};
use crate::unwind::orc::{OrcError, OrcFormat, OrcTable, RAW_ENTRY_BYTES};

/// The unwinder's code is looked at from this far before `unwind_next_frame` ...
const SCAN_BEFORE: u64 = 0x800;
/// ... to this far behind it.
const SCAN_AFTER: u64 = 0x1000;
/// No kernel has fewer entries.
const MIN_ENTRIES: u64 = 50_000;
/// No kernel has more: the largest distribution kernels have under half a million.
const MAX_ENTRIES: u64 = 4_000_000;
/// The kernel image is mapped from here on (`__START_KERNEL_map`); its addresses are
/// sign-extended 32-bit numbers.
const KERNEL_IMAGE_BEGIN: u64 = 0xffff_ffff_8000_0000;
/// ... to here at most (`KERNEL_IMAGE_SIZE` with KASLR). Above it, the displacements of calls would
/// pass for addresses.
const KERNEL_IMAGE_END: u64 = 0xffff_ffff_c000_0000;
/// The most modules that are looked at.
const MAX_MODULES: usize = 4096;

/// Why there is no table.
#[derive(Debug, Error)]
pub enum OrcSourceError {
    /// Kernel memory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was found is not a table.
    #[error(transparent)]
    Table(#[from] OrcError),
    /// The code of the unwinder has no table addresses in it, or several that fit.
    #[error(
        "the unwinder's code has {solutions} sets of addresses that could be the ORC tables; give \
         the kernel's image with --vmlinux"
    )]
    Operands {
        /// How many sets fit.
        solutions: usize,
    },
    /// Neither the bounds nor the unwinder are in kallsyms.
    #[error(
        "kallsyms has neither `__start_orc_unwind` nor `unwind_next_frame`; give the kernel's \
         image with --vmlinux"
    )]
    NoSymbols,
    /// An image without the sections.
    #[error("the kernel image has no section `{0}`")]
    NoSection(&'static str),
    /// A format this program does not know.
    #[error("this kernel's ORC entries have a form this version of stackwalk does not know: {0}")]
    UnknownFormat(String),
}

/// Where a raw table is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrcLocation {
    /// Address of the array of addresses.
    pub ips: u64,
    /// Address of the array of entries.
    pub entries: u64,
    /// Number of entries.
    pub count: u64,
}

/// The location by the symbols of the bounds.
#[must_use]
pub fn by_symbols(symbols: &Kallsyms) -> Option<OrcLocation> {
    let ips = symbols.range("__start_orc_unwind_ip", "__stop_orc_unwind_ip")?;
    let entries = symbols.range("__start_orc_unwind", "__stop_orc_unwind")?;
    let count = (ips.end - ips.begin) / 4;
    let fits = (entries.end - entries.begin) / RAW_ENTRY_BYTES as u64 == count;
    fits.then_some(OrcLocation {
        ips: ips.begin,
        entries: entries.begin,
        count,
    })
}

/// The location by the addresses in the unwinder's code.
///
/// # Errors
/// If the code cannot be read, or not exactly one set of addresses fits.
pub fn by_operands(
    memory: &mut impl KernelMemory,
    symbols: &Kallsyms,
) -> Result<OrcLocation, OrcSourceError> {
    let unwinder = symbols
        .address("unwind_next_frame")
        .ok_or(OrcSourceError::NoSymbols)?;
    let code = memory.read(
        unwinder.wrapping_sub(SCAN_BEFORE),
        (SCAN_BEFORE + SCAN_AFTER) as usize,
    )?;
    // Bytes of code can fit each other by chance: there is a table, or there is none.
    let mut found = find_in_code(&code);
    found.retain(|location| begins_like_a_table(memory, location));
    match found[..] {
        [location] => Ok(location),
        _ => Err(OrcSourceError::Operands {
            solutions: found.len(),
        }),
    }
}

/// Whether the first addresses of a table are of the kernel's image before it, and in order.
fn begins_like_a_table(memory: &mut impl KernelMemory, location: &OrcLocation) -> bool {
    const LOOKED_AT: usize = 64;
    let Ok(bytes) = memory.read(location.ips, LOOKED_AT * 4) else {
        return false;
    };
    let places = (location.ips..).step_by(4);
    let addresses = bytes.as_chunks::<4>().0.iter().zip(places);
    let addresses: Vec<u64> = addresses
        .map(|(offset, at)| at.wrapping_add_signed(i32::from_le_bytes(*offset).into()))
        .collect();
    let image = KERNEL_IMAGE_BEGIN..location.ips;
    addresses.is_sorted_by(|a, b| a < b) && addresses.iter().all(|at| image.contains(at))
}

/// Looks for three addresses A < B < C in code such that A..B holds as many 4-byte words as B..C
/// holds entries: the linker puts the two arrays next to each other.
fn find_in_code(code: &[u8]) -> Vec<OrcLocation> {
    let mut addresses: Vec<u64> = code
        .windows(4)
        .filter_map(|window| window.first_chunk().copied())
        .map(|window| i64::from(i32::from_le_bytes(window)) as u64)
        .filter(|address| (KERNEL_IMAGE_BEGIN..KERNEL_IMAGE_END).contains(address))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut found = Vec::new();
    for (index, &ips) in addresses.iter().enumerate() {
        for &entries in &addresses[index + 1..] {
            let count = (entries - ips) / 4;
            if count > MAX_ENTRIES {
                break;
            }
            let Some(end) = entries.checked_add(count * RAW_ENTRY_BYTES as u64) else {
                break;
            };
            if count >= MIN_ENTRIES
                && (entries - ips).is_multiple_of(4)
                && addresses.binary_search(&end).is_ok()
            {
                found.push(OrcLocation {
                    ips,
                    entries,
                    count,
                });
            }
        }
    }
    found
}

/// The two raw arrays of a table, and where the first was in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawOrc {
    /// Address of the array of addresses.
    pub ips_address: u64,
    /// The array of addresses.
    pub ips: Vec<u8>,
    /// The array of entries.
    pub entries: Vec<u8>,
}

impl RawOrc {
    /// Finds the kernel's own arrays and reads them.
    ///
    /// # Errors
    /// If they cannot be found or read.
    pub fn find(
        memory: &mut impl KernelMemory,
        symbols: &Kallsyms,
    ) -> Result<Self, OrcSourceError> {
        let location = match by_symbols(symbols) {
            Some(location) => location,
            None => by_operands(memory, symbols)?,
        };
        Self::read(memory, location)
    }

    /// Reads the arrays from memory.
    ///
    /// # Errors
    /// If they cannot be read or are larger than any kernel's.
    pub fn read(
        memory: &mut impl KernelMemory,
        location: OrcLocation,
    ) -> Result<Self, OrcSourceError> {
        if location.count > MAX_ENTRIES {
            return Err(OrcSourceError::UnknownFormat(format!(
                "{} of them",
                location.count
            )));
        }
        let count = location.count as usize;
        Ok(Self {
            ips_address: location.ips,
            ips: memory.read(location.ips, count * 4)?,
            entries: memory.read(location.entries, count * RAW_ENTRY_BYTES)?,
        })
    }

    /// Takes the arrays from a kernel image. `stext` is where the running kernel's text begins;
    /// its distance from the image's own is the KASLR offset.
    ///
    /// # Errors
    /// If the image lacks the sections.
    pub fn from_image(image: &KernelImage, stext: u64) -> Result<Self, OrcSourceError> {
        let section =
            |name: &'static str| image.section(name).ok_or(OrcSourceError::NoSection(name));
        let text = section(".text")?;
        let ips = section(".orc_unwind_ip")?;
        let entries = section(".orc_unwind")?;
        Ok(Self {
            ips_address: ips.address.wrapping_add(stext.wrapping_sub(text.address)),
            ips: ips.data.to_vec(),
            entries: entries.data.to_vec(),
        })
    }

    /// The entry format, from what the kernel holds: the fields of its `struct orc_entry`, and
    /// where those are the same in two formats, which register number most entries use.
    ///
    /// `irq_stack_has_link` is whether the pointer to the hard-IRQ stack leaves room for a saved
    /// stack pointer at the top. That came in the same release, 5.12, in which `SP_INDIRECT`
    /// changed its meaning without a change of the fields.
    ///
    /// # Errors
    /// If the fields or the numbers are of no known format.
    pub fn format(
        &self,
        bits: OrcBits,
        irq_stack_has_link: bool,
    ) -> Result<OrcFormat, OrcSourceError> {
        match bits {
            OrcBits {
                kind: 2,
                signal: false,
            } if irq_stack_has_link => Ok(OrcFormat::V1),
            OrcBits {
                kind: 2,
                signal: false,
            } => Ok(OrcFormat::V1OffsetFirst),
            OrcBits {
                kind: 2,
                signal: true,
            } => Ok(OrcFormat::V2),
            OrcBits {
                kind: 3,
                signal: true,
            } => match self.most_used_stack_register() {
                5 => Ok(OrcFormat::V3),
                3 => Ok(OrcFormat::V4),
                number => Err(OrcSourceError::UnknownFormat(format!(
                    "most of them are relative to register {number}"
                ))),
            },
            OrcBits { kind, signal } => Err(OrcSourceError::UnknownFormat(format!(
                "{kind} type bits{}",
                if signal { " and a signal bit" } else { "" }
            ))),
        }
    }

    /// The number of the stack register that most entries use: the stack pointer's, by far.
    fn most_used_stack_register(&self) -> usize {
        let mut uses = [0u32; 16];
        for entry in self.entries.as_chunks::<RAW_ENTRY_BYTES>().0 {
            uses[usize::from(entry[4] & 0xf)] += 1;
        }
        (0..uses.len())
            .max_by_key(|number| uses[*number])
            .unwrap_or(0)
    }

    /// Decodes the arrays.
    ///
    /// # Errors
    /// If they are not a table.
    pub fn table(&self, format: OrcFormat) -> Result<OrcTable, OrcSourceError> {
        Ok(OrcTable::from_raw(
            self.ips_address,
            &self.ips,
            &self.entries,
            format,
        )?)
    }
}

/// The tables of the loaded modules, and how many modules had none that could be read (a module
/// can go away meanwhile).
pub fn of_modules(
    memory: &mut impl KernelMemory,
    offsets: ModuleOrc,
    format: OrcFormat,
    sysfs: &Path,
) -> (Vec<OrcTable>, usize) {
    let mut tables = Vec::new();
    let mut unreadable = 0;
    let Ok(modules) = fs::read_dir(sysfs) else {
        return (tables, unreadable);
    };
    for module in modules.take(MAX_MODULES).flatten() {
        // Built-in code with parameters has a folder here too, but no sections.
        let this_module = module.path().join("sections/.gnu.linkonce.this_module");
        let Ok(text) = fs::read_to_string(this_module) else {
            continue;
        };
        let address = u64::from_str_radix(text.trim().trim_start_matches("0x"), 16);
        match address.map(|address| of_module(memory, offsets, format, address)) {
            Ok(Ok(Some(table))) => tables.push(table),
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => unreadable += 1,
        }
    }
    (tables, unreadable)
}

/// The table of the module whose `struct module` is at `module`; `None` if it has none.
///
/// # Errors
/// If it cannot be read or is no table.
pub fn of_module(
    memory: &mut impl KernelMemory,
    offsets: ModuleOrc,
    format: OrcFormat,
    module: u64,
) -> Result<Option<OrcTable>, OrcSourceError> {
    let count = u64::from(memory.read_u32(module.wrapping_add(offsets.num_orcs))?);
    if count == 0 {
        return Ok(None);
    }
    let location = OrcLocation {
        ips: memory.read_u64(module.wrapping_add(offsets.orc_unwind_ip))?,
        entries: memory.read_u64(module.wrapping_add(offsets.orc_unwind))?,
        count,
    };
    RawOrc::read(memory, location)?.table(format).map(Some)
}

#[cfg(test)]
#[path = "orc_source_tests.rs"]
mod tests;
