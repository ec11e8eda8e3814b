//! Decompresses the kernel in a bzImage.
//!
//! The formats are told apart by magic number, as `lib/decompress.c` of Linux 6.12 does. Every
//! format's output is bounded by the size the build wrote behind the compressed data, and that
//! size by [`super::MAX_KERNEL_LEN`]; windows and dictionaries are bounded by
//! [`MAX_WINDOW_LEN`].

use std::fmt;
use std::io::Read;

use flate2::read::GzDecoder;
use ruzstd::decoding::StreamingDecoder;
use xz4rust::{XzDecoder, XzNextBlockResult};

use super::{ImageError, MAX_KERNEL_LEN};

/// The largest window a kernel build uses: `ZSTD_WINDOWSIZE_MAX` of
/// `lib/decompress_unzstd.c`. xz uses 32 MiB at most (`scripts/xz_wrap.sh`).
const MAX_WINDOW_LEN: usize = 128 << 20;

/// The magic number of the LZ4 legacy frame format, which `lz4 -l` writes.
const LZ4_LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// The most one block of an LZ4 legacy frame holds, uncompressed.
const LZ4_BLOCK_LEN: usize = 8 << 20;

/// A compression format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip, `CONFIG_KERNEL_GZIP`.
    Gzip,
    /// xz with the x86 filter, `CONFIG_KERNEL_XZ`.
    Xz,
    /// LZ4 in the legacy frame format, `CONFIG_KERNEL_LZ4`.
    Lz4,
    /// Zstandard, `CONFIG_KERNEL_ZSTD`.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lz4 => "LZ4",
            Self::Zstd => "zstd",
        })
    }
}

/// Decompresses the payload of a bzImage: compressed data, the last four bytes of which are the
/// uncompressed size.
pub(super) fn decompress(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let compression = detect(payload)?;
    let truncated = || ImageError::Decompress {
        compression,
        reason: "the data is too short".to_owned(),
    };
    let (data, size) = payload.split_last_chunk::<4>().ok_or_else(truncated)?;
    let stated = u32::from_le_bytes(*size) as usize;
    if stated > MAX_KERNEL_LEN {
        return Err(ImageError::TooLarge {
            what: "the uncompressed kernel",
            limit: MAX_KERNEL_LEN,
        });
    }
    let result = match compression {
        // gzip itself ends with the size; the kernel build appends it to the other formats.
        Compression::Gzip => read_all(GzDecoder::new(payload), stated),
        Compression::Xz => xz(data, stated),
        Compression::Lz4 => lz4_legacy(data, stated),
        Compression::Zstd => {
            StreamingDecoder::new_with_max_window_size(data, MAX_WINDOW_LEN as u64)
                .map_err(|error| error.to_string())
                .and_then(|decoder| read_all(decoder, stated))
        }
    };
    let kernel = result.map_err(|reason| ImageError::Decompress {
        compression,
        reason,
    })?;
    if kernel.len() != stated {
        return Err(ImageError::SizeMismatch {
            compression,
            stated,
            found: kernel.len(),
        });
    }
    Ok(kernel)
}

fn detect(payload: &[u8]) -> Result<Compression, ImageError> {
    let unsupported = |compression| Err(ImageError::UnsupportedCompression { compression });
    match payload {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        _ if payload.starts_with(&LZ4_LEGACY_MAGIC) => Ok(Compression::Lz4),
        [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
        [0x5d, 0, 0, ..] => unsupported("LZMA"),
        [0x89, b'L', b'Z', b'O', ..] => unsupported("LZO"),
        _ => Err(ImageError::UnknownCompression {
            magic: payload.first_chunk().copied().unwrap_or_default(),
        }),
    }
}

/// Reads to the end, but not more than one byte beyond `stated`.
fn read_all(reader: impl Read, stated: usize) -> Result<Vec<u8>, String> {
    let mut kernel = Vec::with_capacity(stated);
    reader
        .take(stated as u64 + 1)
        .read_to_end(&mut kernel)
        .map_err(|error| error.to_string())?;
    Ok(kernel)
}

fn xz(data: &[u8], stated: usize) -> Result<Vec<u8>, String> {
    // One byte more than stated, to notice an excess.
    let mut kernel = vec![0; stated + 1];
    let mut decoder = XzDecoder::in_heap_with_alloc_dict_size(0, MAX_WINDOW_LEN);
    let (mut read, mut written) = (0, 0);
    while let (Some(input), Some(output)) = (data.get(read..), kernel.get_mut(written..)) {
        let step = decoder
            .decode(input, output)
            .map_err(|error| error.to_string())?;
        read += step.input_consumed();
        written += step.output_produced();
        match step {
            XzNextBlockResult::EndOfStream(..) => {
                kernel.truncate(written);
                return Ok(kernel);
            }
            XzNextBlockResult::NeedMoreData(..) if !step.made_progress() => break,
            XzNextBlockResult::NeedMoreData(..) => {}
        }
    }
    if written > stated {
        return Ok(kernel);
    }
    Err("the data ends too early".to_owned())
}

/// Decodes blocks, each behind its compressed length, until the data ends. Frames may follow one
/// another, each with the magic number in front.
fn lz4_legacy(data: &[u8], stated: usize) -> Result<Vec<u8>, String> {
    let mut kernel = vec![0; stated];
    let mut written = 0;
    let mut rest = data;
    while let Some((word, after)) = rest.split_first_chunk::<4>() {
        rest = after;
        if *word == LZ4_LEGACY_MAGIC {
            continue;
        }
        let (block, after) = rest
            .split_at_checked(u32::from_le_bytes(*word) as usize)
            .ok_or("the data ends inside a block")?;
        rest = after;
        let end = kernel.len().min(written + LZ4_BLOCK_LEN);
        let output = &mut kernel[written..end];
        written +=
            lz4_flex::block::decompress_into(block, output).map_err(|error| error.to_string())?;
    }
    if !rest.is_empty() {
        return Err("the data ends inside a block length".to_owned());
    }
    kernel.truncate(written);
    Ok(kernel)
}
