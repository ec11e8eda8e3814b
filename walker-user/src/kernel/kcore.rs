//! Kernel memory through `/proc/kcore`, for what a BPF program cannot read.
//!
//! It is an ELF core file whose segments map the kernel's address space
//! (`fs/proc/kcore.c`, 6.12). Kernels can be built without it, and lockdown closes it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use object::{
    Endianness,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{FileHeader as _, ProgramHeader as _},
};
use thiserror::Error;

use super::memory::{KernelMemory, ReadError};

/// Where the kernel shows its memory.
pub const PATH: &str = "/proc/kcore";

/// More than any kernel needs for the ELF header and the segment table.
const HEADER_BYTES: usize = 64 * 1024;

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum KcoreError {
    /// It cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("`{}` is not a 64-bit ELF core file: {error}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: object::Error,
    },
}

/// A piece of the address space and where it is in the file.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    address: u64,
    length: u64,
    offset: u64,
}

/// An open core file.
#[derive(Debug)]
pub struct Kcore {
    file: File,
    mappings: Vec<Mapping>,
}

impl Kcore {
    /// Opens the core file of the running kernel.
    ///
    /// # Errors
    /// If it is not there, may not be read, or is no ELF file.
    pub fn of_running_kernel() -> Result<Self, KcoreError> {
        Self::open(Path::new(PATH))
    }

    /// Opens a core file.
    ///
    /// # Errors
    /// As [`Kcore::of_running_kernel`].
    pub fn open(path: &Path) -> Result<Self, KcoreError> {
        let failed = |error| KcoreError::Io {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(failed)?;
        let mut head = vec![0; HEADER_BYTES];
        let mut filled = 0;
        while filled < head.len() {
            match file
                .read_at(&mut head[filled..], filled as u64)
                .map_err(failed)?
            {
                0 => break,
                read => filled += read,
            }
        }
        let mappings = mappings(&head[..filled]).map_err(|error| KcoreError::Elf {
            path: path.to_owned(),
            error,
        })?;
        Ok(Self { file, mappings })
    }
}

fn mappings(head: &[u8]) -> Result<Vec<Mapping>, object::Error> {
    let header = FileHeader64::<Endianness>::parse(head)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, head)?;
    let loaded = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD);
    Ok(loaded
        .map(|segment| Mapping {
            address: segment.p_vaddr(endian),
            length: segment.p_memsz(endian),
            offset: segment.p_offset(endian),
        })
        .collect())
}

impl KernelMemory for Kcore {
    fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let failed = |reason: String| ReadError {
            address,
            length,
            reason,
        };
        let offset = self.mappings.iter().find_map(|mapping| {
            let into = address.checked_sub(mapping.address)?;
            let fits = into.checked_add(length as u64)? <= mapping.length;
            fits.then(|| mapping.offset.checked_add(into)).flatten()
        });
        let offset = offset.ok_or_else(|| failed(format!("not in {PATH}")))?;
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| failed(error.to_string()))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A core file that maps `bytes` at `address`.
    fn core(address: u64, bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        for half in [4u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        for word in [0u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 1, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        file.extend(4u32.to_le_bytes());
        let length = bytes.len() as u64;
        for word in [120, address, 0, length, length, 1] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
        file
    }

    fn open(content: &[u8]) -> Result<Kcore, KcoreError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        Kcore::open(file.path())
    }

    #[test]
    fn an_address_is_read_where_its_segment_maps_it() {
        let address = 0xffff_ffff_8100_0000;
        let mut kcore = open(&core(address, b"kernel text here")).unwrap();
        assert_eq!(kcore.read(address + 7, 4).unwrap(), b"text");
        assert_eq!(
            kcore.read_u32(address).unwrap(),
            u32::from_le_bytes(*b"kern")
        );
        assert!(kcore.read(address + 13, 4).is_err());
        assert!(kcore.read(address - 1, 4).is_err());
        assert!(kcore.read(u64::MAX, 4).is_err());
    }

    #[test]
    fn a_file_cut_anywhere_does_not_panic() {
        let address = 0xffff_ffff_8100_0000;
        let whole = core(address, b"kernel text here");
        for length in 0..whole.len() {
            if let Ok(mut kcore) = open(&whole[..length]) {
                assert!(
                    kcore.read(address, 16).is_err(),
                    "{length} bytes were enough"
                );
            }
        }
        let error = open(b"not an ELF file").unwrap_err().to_string();
        assert!(error.contains("not a 64-bit ELF core file"), "{error}");
    }
}
