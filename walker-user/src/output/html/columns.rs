//! The block of data in a page: a JSON text and columns of numbers, compressed, in base64.
//!
//! The block is, before compression (DEFLATE, RFC 1951): the length of the JSON text in bytes as 4
//! bytes, least significant first; the JSON text; then every column after the other. Each number
//! of a column is 7 bits a byte, least significant first, the top bit set in all bytes but the
//! last. `js/model.js` reads it.

use std::io::{self, Write as _};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::{Compression, write::DeflateEncoder};

/// Columns of numbers.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// The name of each column and how many numbers it has, in the order of the bytes.
    pub(super) heads: Vec<(&'static str, usize)>,
    bytes: Vec<u8>,
}

impl Columns {
    /// Adds a column.
    pub(super) fn push(&mut self, name: &'static str, numbers: impl IntoIterator<Item = u64>) {
        let mut count = 0;
        for mut number in numbers {
            while number >= 0x80 {
                self.bytes.push(number as u8 | 0x80);
                number >>= 7;
            }
            self.bytes.push(number as u8);
            count += 1;
        }
        self.heads.push((name, count));
    }

    /// The block of `json` and all columns.
    ///
    /// # Errors
    ///
    /// If `json` has 4 GiB or more.
    pub(super) fn pack(&self, json: &[u8]) -> io::Result<String> {
        let length = u32::try_from(json.len())
            .map_err(|_| io::Error::other("the names of this recording are longer than 4 GiB"))?;
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&length.to_le_bytes())?;
        packed.write_all(json)?;
        packed.write_all(&self.bytes)?;
        Ok(BASE64_STANDARD.encode(packed.finish()?))
    }
}
