//! Where the bytes of an ELF file come from: a file that is read at offsets, or memory.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use super::ElfError;

/// Bytes that can be read at offsets. What is read may change between two reads.
pub trait Source {
    /// How many bytes there are.
    ///
    /// # Errors
    /// If the file cannot be asked.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes at `offset`.
    ///
    /// # Errors
    /// If there are not that many bytes, or they cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Source for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buffer)
    }
}

/// Reads `len` bytes that have to be within the file, so that no more memory is taken than there
/// are bytes.
pub(super) fn read(
    source: &(impl Source + ?Sized),
    what: &'static str,
    offset: u64,
    len: u64,
    limit: u64,
) -> Result<Vec<u8>, ElfError> {
    let mut bytes = vec![0; checked_len(source, what, offset, len, limit)?];
    fill(source, what, offset, &mut bytes)?;
    Ok(bytes)
}

/// As [`read`], into memory that can be shared without another copy.
pub(super) fn read_shared(
    source: &(impl Source + ?Sized),
    what: &'static str,
    offset: u64,
    len: u64,
    limit: u64,
) -> Result<Arc<[u8]>, ElfError> {
    let len = checked_len(source, what, offset, len, limit)?;
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
    let unshared = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
    fill(source, what, offset, unshared)?;
    Ok(bytes)
}

fn checked_len(
    source: &(impl Source + ?Sized),
    what: &'static str,
    offset: u64,
    len: u64,
    limit: u64,
) -> Result<usize, ElfError> {
    if len > limit {
        return Err(ElfError::TooLarge {
            what,
            size: len,
            limit,
        });
    }
    let size = source
        .size()
        .map_err(|error| ElfError::Read { what, error })?;
    if offset.checked_add(len).is_none_or(|end| end > size) {
        return Err(ElfError::Read {
            what,
            error: io::ErrorKind::UnexpectedEof.into(),
        });
    }
    Ok(usize::try_from(len).expect("a 64-bit machine"))
}

/// Fills `buffer` with the bytes at `offset`.
pub(super) fn fill(
    source: &(impl Source + ?Sized),
    what: &'static str,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), ElfError> {
    source
        .read_at(offset, buffer)
        .map_err(|error| ElfError::Read { what, error })
}
