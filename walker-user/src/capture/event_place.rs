//! Where what an event is put on is: variables and functions of the kernel and of binaries.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, bail};
use blazesym::inspect::{Inspector, source};

use super::event::WatchPlace;
use crate::{
    btf::Btf, elf::ElfFacts, kernel::kallsyms::Kallsyms, process::proc_maps::MapsLine,
    sys::threads::living_thread,
};

/// A place that was found.
pub(super) enum WatchedPlace {
    /// At this address.
    Fixed(u64),
    /// At this offset in every CPU's area.
    PerCpu(u64),
}

impl WatchedPlace {
    /// Looks a place up; `pids` are the processes that are sampled.
    pub(super) fn find(place: &WatchPlace, pids: &[u32]) -> anyhow::Result<Self> {
        let symbol = match place {
            WatchPlace::Address(address) => return Ok(Self::Fixed(*address)),
            WatchPlace::Binary { symbol, binary } => {
                return in_process(symbol, binary, pids).map(Self::Fixed);
            }
            WatchPlace::Symbol(symbol) => symbol,
        };
        let (variable, member) = match symbol.split_once('.') {
            Some((variable, member)) => (variable, Some(member)),
            None => (symbol.as_str(), None),
        };
        let btf = Btf::of_running_kernel()?;
        // A struct that is a variable is called like it in most places of the kernel.
        let offset = |member: &str| {
            let found = btf.find_member(&format!("{variable}.{member}"))?;
            found
                .and_then(|member| member.byte_offset())
                .with_context(|| format!("`struct {variable}` has no member `{member}` of its own"))
        };
        let offset = member.map_or(Ok(0), offset)?;
        if let Some(found) = btf.find_percpu(variable)? {
            return Ok(Self::PerCpu(found.offset + offset));
        }
        match Kallsyms::addresses_of(variable)?.first() {
            Some(address) => Ok(Self::Fixed(address + offset)),
            None => bail!(
                "the kernel shows no variable `{variable}`: it shows per-CPU variables, and others \
                 only with CONFIG_KALLSYMS_ALL; an address works (`-e mem:0x…`)"
            ),
        }
    }
}

/// Where a function of the kernel begins.
pub(super) fn function_address(function: &str) -> anyhow::Result<u64> {
    let addresses = Kallsyms::addresses_of(function)?;
    match addresses.first() {
        Some(address) => Ok(*address),
        None => bail!(
            "the kernel has no function `{function}` (it may be inlined everywhere): \
             `grep -w {function} /proc/kallsyms` shows what is there"
        ),
    }
}

/// Where a function of a binary is in its file.
pub(super) fn file_offset(binary: &Path, symbol: &str) -> anyhow::Result<u64> {
    let (_, offset) = look_up(binary, symbol)?;
    offset.with_context(|| format!("`{symbol}` is not in the file {}", binary.display()))
}

/// The link-time address of a symbol of a binary, and where it is in the file.
fn look_up(binary: &Path, symbol: &str) -> anyhow::Result<(u64, Option<u64>)> {
    let mut elf = source::Elf::new(binary);
    // The symbols alone: debug info would be read for nothing.
    elf.debug_syms = false;
    let inspector = Inspector::new();
    let found = inspector
        .lookup(&source::Source::Elf(elf), &[symbol])
        .with_context(|| format!("cannot read the symbols of {}", binary.display()))?;
    let found = found.iter().flatten().next();
    let found = found.map(|symbol| (symbol.addr, symbol.file_offset));
    found.with_context(|| {
        format!(
            "{} has no `{symbol}` in its symbols: an offset in the file \
             (`uprobe:BINARY:0xOFFSET`) or an address (`mem:0x…`) works",
            binary.display()
        )
    })
}

/// The address of a variable of a binary in the one process that is sampled.
fn in_process(symbol: &str, binary: &Path, pids: &[u32]) -> anyhow::Result<u64> {
    let [pid] = pids else {
        bail!(
            "a variable of a binary is at another address in every process: give one with -p PID"
        );
    };
    let (address, _) = look_up(binary, symbol)?;
    let file = File::open(binary)?;
    let metadata = file.metadata()?;
    let facts = ElfFacts::read(&file)?;
    // A main thread that has ended has no mappings while others go on.
    let task = living_thread(Path::new("/proc"), *pid).unwrap_or(*pid);
    let maps = fs::read(format!("/proc/{task}/maps"))
        .with_context(|| format!("cannot read what process {pid} has mapped"))?;
    // The device of a mapping differs from that of `stat` on some file systems.
    let lines = maps.split(|byte| *byte == b'\n');
    let mut mapped = lines.filter_map(MapsLine::parse).filter(|line| {
        line.inode
            .is_some_and(|inode| inode.number == metadata.ino())
    });
    let bias = mapped.find_map(|line| {
        let linked = facts.file_offset_to_address(line.file_offset)?;
        Some(line.start.wrapping_sub(linked))
    });
    let bias =
        bias.with_context(|| format!("process {pid} has not mapped {}", binary.display()))?;
    Ok(address.wrapping_add(bias))
}
