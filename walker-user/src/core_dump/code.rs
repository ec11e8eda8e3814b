//! Where a kernel in a core can execute, and its unwind tables.

use std::cell::Cell;

use super::{
    CoreError,
    kernel::CoreKernel,
    modules::{self, Module},
};
use crate::{
    btf::Btf,
    classify::WordSize,
    kernel::{
        offsets::Offsets,
        orc_source::{OrcLocation, OrcSourceError, RawOrc},
    },
    unwind::{
        kernel::{KernelTables, TextRange},
        orc::{OrcFormat, RAW_ENTRY_BYTES},
    },
};

/// The end of the area of modules (`MODULES_END`, 64 bits), or of `vmalloc()` memory, which
/// modules are in on 32 bits.
const DYNAMIC_END_64: u64 = 0xffff_ffff_ff00_0000;
const DYNAMIC_END_32: u64 = 0xffe0_0000;

/// What is known of a kernel's code.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// For the walk.
    pub tables: KernelTables,
    /// The modules that were loaded, if they can be listed.
    pub modules: Vec<Module>,
    /// How many more of their functions may be kept.
    pub(super) functions_left: Cell<usize>,
    /// What is not known, one line each.
    pub unknown: Vec<String>,
}

/// Finds out about the kernel's code. A 64-bit kernel without tables is walked by its frame
/// pointers, as is every 32-bit kernel.
///
/// # Errors
/// If the symbols do not even say where the kernel's text is.
pub(super) fn find(
    kernel: &mut CoreKernel,
    types: Option<(&Btf, &Offsets)>,
    irq_stack_has_link: bool,
) -> Result<Code, CoreError> {
    let mut code = Code {
        functions_left: Cell::new(modules::MAX_FUNCTIONS),
        ..Code::default()
    };
    let text = kernel.text()?;
    code.tables.text.ranges.push(text);
    // The first idle task's outermost frames are in code that is given back after the start.
    code.tables.text.ranges.extend(kernel.init_text());
    if kernel.memory.tables().mode.has_no_execute() {
        // What else is executable are modules, BPF programs and trampolines.
        let end = match kernel.word() {
            WordSize::Eight => DYNAMIC_END_64,
            WordSize::Four => DYNAMIC_END_32,
        };
        let begin = text.end.next_multiple_of(4096);
        code.tables
            .text
            .ranges
            .extend(kernel.memory.executable(begin, end));
    }
    let Some((btf, offsets)) = types else {
        return Ok(code);
    };
    match orc(kernel, offsets, irq_stack_has_link) {
        Ok(Some((raw, format))) => match raw.table(format) {
            Ok(table) => {
                code.tables.orc.push(table);
                code.modules = modules::all(kernel, btf, &mut code.unknown);
                let of_modules =
                    modules::orc(kernel, &code.modules, offsets, format, &mut code.unknown);
                code.tables.orc.extend(of_modules);
            }
            Err(error) => code.unknown.push(format!("the unwind tables: {error}")),
        },
        Ok(None) => {}
        Err(error) => code.unknown.push(format!("the unwind tables: {error}")),
    }
    Ok(code)
}

/// The kernel's own table, if it has one.
fn orc(
    kernel: &mut CoreKernel,
    offsets: &Offsets,
    irq_stack_has_link: bool,
) -> Result<Option<(RawOrc, OrcFormat)>, OrcSourceError> {
    let range = |begin, end| {
        let (begin, end) = (kernel.address(begin)?, kernel.address(end)?);
        (begin < end).then_some(TextRange { begin, end })
    };
    let (Some(bits), Some(ips), Some(entries)) = (
        offsets.orc,
        range("__start_orc_unwind_ip", "__stop_orc_unwind_ip"),
        range("__start_orc_unwind", "__stop_orc_unwind"),
    ) else {
        return Ok(None);
    };
    let count = (ips.end - ips.begin) / 4;
    if (entries.end - entries.begin) / RAW_ENTRY_BYTES as u64 != count {
        return Ok(None);
    }
    let location = OrcLocation {
        ips: ips.begin,
        entries: entries.begin,
        count,
    };
    let raw = RawOrc::read(&mut kernel.memory, location)?;
    let format = raw.format(bits, irq_stack_has_link)?;
    Ok(Some((raw, format)))
}
