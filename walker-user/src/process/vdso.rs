//! The code that the kernel maps into every 64-bit process: an ELF file that is in no file system.

use std::{
    fs::File,
    io::{self, BufReader},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use super::{
    mapped_file::{Backing, MappedFiles},
    proc_maps,
};

/// The most bytes it is thought to have; it has two pages.
const MAX_BYTES: u64 = 1 << 20;

/// Its bytes, the same in every 64-bit process, from this one.
///
/// # Errors
/// If this process has none (`vdso=0` on the kernel's command line) or cannot read it.
pub fn read() -> io::Result<Arc<[u8]>> {
    let maps = BufReader::new(File::open("/proc/self/maps")?);
    let maps = proc_maps::read(maps, &mut MappedFiles::default())?;
    let mapping = maps
        .space
        .iter()
        .find(|mapping| mapping.backing == Backing::Vdso)
        .ok_or(io::ErrorKind::NotFound)?;
    let len = mapping.end - mapping.start;
    if len > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; len as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, mapping.start)?;
    Ok(bytes.into())
}
