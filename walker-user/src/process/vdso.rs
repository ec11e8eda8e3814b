//! The code that the kernel maps into every process: an ELF file that is in no file system, one for
//! 64-bit and one for 32-bit processes.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{
    mapped_file::{Backing, MappedFiles},
    proc_maps,
};
use crate::unwind::user::mode::Mode;

/// The most bytes it is thought to have; it has two pages.
const MAX_BYTES: u64 = 1 << 20;
const PAGE: usize = 4096;

/// Its bytes, the same in every process of this mode.
///
/// # Errors
/// If there is none (`vdso=0` on the kernel's command line), the kernel runs no 32-bit programs, or
/// it cannot be read.
pub fn read(mode: Mode) -> io::Result<Arc<[u8]>> {
    match mode {
        Mode::Bits64 => of_this_process(),
        Mode::Bits32 => of_a_32_bit_process(),
    }
}

fn of_this_process() -> io::Result<Arc<[u8]>> {
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

/// Where a 32-bit program is loaded.
const LOADED_AT: u32 = 0x0804_8000;
/// Bytes of the headers of a 32-bit program with one segment.
const HEADERS: u32 = 52 + 32;

/// A 32-bit program that writes its vDSO, and what else it can read behind that, to its standard
/// output. A process that is sampled cannot be asked: it may have written to its own.
const CODE: [u8; 53] = [
    0x89, 0xe6, // mov %esp,%esi
    0xad, // lods: argc
    0x8d, 0x74, 0x86, 0x04, // lea 4(%esi,%eax,4),%esi: behind the arguments
    0xad, 0x85, 0xc0, 0x75, 0xfb, // lods; test; jnz: behind the environment
    0xad, 0x89, 0xc2, 0xad, // lods; mov %eax,%edx; lods: one entry of the auxiliary vector
    0x85, 0xd2, 0x74, 0x1a, // the last one (AT_NULL): exit
    0x83, 0xfa, 0x21, 0x75, 0xf3, // not AT_SYSINFO_EHDR (33): the next one
    0x89, 0xc1, // mov %eax,%ecx: the vDSO
    0x6a, 0x01, 0x5b, // standard output
    0xba, 0x00, 0x10, 0x00, 0x00, // one page
    0x6a, 0x04, 0x58, 0xcd, 0x80, // write
    0x01, 0xc1, 0x85, 0xc0, 0x7f, 0xed, // until nothing more is written
    0x6a, 0x01, 0x58, 0x31, 0xdb, 0xcd, 0x80, // exit(0)
];

/// The file of that program.
fn program() -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, number: u16| file.extend(number.to_le_bytes());
    let word = |file: &mut Vec<u8>, number: u32| file.extend(number.to_le_bytes());
    half(&mut file, 2); // ET_EXEC
    half(&mut file, 3); // EM_386
    // Version, entry, program headers, section headers, flags.
    for number in [1, LOADED_AT + HEADERS, 52, 0, 0] {
        word(&mut file, number);
    }
    // The header's size, that of a program header and how many there are; no sections.
    for number in [52, 32, 1, 0, 0, 0] {
        half(&mut file, number);
    }
    let size = HEADERS + CODE.len() as u32;
    // PT_LOAD: offset, address, physical address, size in the file and in memory, PF_R | PF_X.
    for number in [1, 0, LOADED_AT, LOADED_AT, size, size, 5, PAGE as u32] {
        word(&mut file, number);
    }
    file.extend(CODE);
    file
}

fn of_a_32_bit_process() -> io::Result<Arc<[u8]>> {
    let mut file = File::from(memfd_create("vdso32", MemfdFlags::CLOEXEC)?);
    file.write_all(&program())?;
    let mut child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut bytes = Vec::new();
    let output = child.stdout.take();
    let read = output.map_or(Ok(0), |output| {
        output.take(MAX_BYTES).read_to_end(&mut bytes)
    });
    // It ends when it has written everything, or when nobody reads any more.
    child.wait()?;
    read?;
    let len = mapped_bytes(&bytes).ok_or(io::ErrorKind::NotFound)?;
    bytes.truncate(len);
    Ok(bytes.into())
}

/// How many bytes of a 32-bit vDSO are mapped: its section headers are the last of it.
fn mapped_bytes(bytes: &[u8]) -> Option<usize> {
    let half = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u16::from_le_bytes)
    };
    let offset = u32::from_le_bytes(*bytes.get(32..)?.first_chunk()?);
    let table = u32::from(half(46)?) * u32::from(half(48)?);
    let end = usize::try_from(offset.checked_add(table)?).ok()?;
    let end = end.next_multiple_of(PAGE);
    (end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::{Mode, read};
    use crate::elf::ElfFacts;

    #[test]
    fn both_can_be_read() {
        for mode in [Mode::Bits64, Mode::Bits32] {
            let bytes = read(mode).unwrap();
            let facts = ElfFacts::read(&*bytes).unwrap();
            assert_eq!(facts.mode, mode);
            assert!(facts.build_id.is_some() && facts.eh_frame_hdr.is_some());
            assert!(bytes.len().is_multiple_of(4096));
        }
    }
}
