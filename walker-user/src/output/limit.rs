//! How long an output may become: a recording of a few kilobytes can describe deep stacks of long
//! names whose text would fill a disk.
//!
//! Not how much is shown of what is there, which is each format's own business.

use std::io::{self, Write};

/// What an output of few samples may have, in bytes.
const FEW: u64 = 256 << 20;
/// What each sample may add, in bytes: 500 frames of long names.
const EACH: u64 = 32 << 10;

/// The most bytes of an output of so many samples, or stacks.
pub(crate) const fn most_bytes(samples: usize) -> u64 {
    FEW + samples as u64 * EACH
}

/// The error of an output that would be longer.
pub(crate) fn too_long(most: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!(
            "it would be longer than {} MiB, which its samples give no reason for: the recording may \
             have been made to fill the disk; --time, --pid or --grep take a part of it",
            most >> 20
        ),
    )
}

/// Passes on what is written until it is too long.
pub(crate) struct Limited<W> {
    out: W,
    most: u64,
    left: u64,
}

impl<W: Write> Limited<W> {
    /// Passes on at most so many bytes.
    pub(crate) const fn new(out: W, most: u64) -> Self {
        Self {
            out,
            most,
            left: most,
        }
    }
}

impl<W: Write> Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        self.left = { self.left.checked_sub(length) }.ok_or_else(|| too_long(self.most))?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_an_error() {
        let mut out = Vec::new();
        let mut limited = Limited::new(&mut out, 4);
        limited.write_all(b"1234").unwrap();
        let error = limited.write_all(b"5").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(out, b"1234");
    }
}
