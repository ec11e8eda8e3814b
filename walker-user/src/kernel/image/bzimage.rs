//! Finds the compressed kernel in a bzImage.
//!
//! Only the fields that say where it is are read; how it is compressed is [`super::decompress`]'s
//! question. Follows `Documentation/arch/x86/boot.rst` of Linux 6.12.

use super::ImageError;

/// Offsets of header fields from the start of the file.
const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The first boot protocol with `payload_offset` and `payload_length`.
const FIRST_WITH_PAYLOAD: u16 = 0x208;
const SECTOR_LEN: u64 = 512;
/// What a `setup_sects` of 0 stands for.
const DEFAULT_SETUP_SECTS: u8 = 4;

/// Whether the file starts like a bzImage.
pub(super) fn is_bzimage(file: &[u8]) -> bool {
    file.get(HEADER_MAGIC..)
        .is_some_and(|rest| rest.starts_with(b"HdrS"))
}

/// The compressed kernel in a bzImage, including the size that follows it.
pub(super) fn payload(file: &[u8]) -> Result<&[u8], ImageError> {
    let version = u16::from_le_bytes(field(file, VERSION)?);
    if version < FIRST_WITH_PAYLOAD {
        return Err(ImageError::OldBootProtocol { version });
    }
    let [setup_sects] = match field(file, SETUP_SECTS)? {
        [0] => [DEFAULT_SETUP_SECTS],
        stated => stated,
    };
    // The boot sector itself is not counted in setup_sects.
    let protected_mode_code = (u64::from(setup_sects) + 1) * SECTOR_LEN;
    let offset = u32::from_le_bytes(field(file, PAYLOAD_OFFSET)?);
    let length = u32::from_le_bytes(field(file, PAYLOAD_LENGTH)?);
    let start = protected_mode_code + u64::from(offset);
    let end = start + u64::from(length);
    slice(file, start, end).ok_or(ImageError::Truncated {
        end,
        len: file.len(),
    })
}

fn field<const N: usize>(file: &[u8], offset: usize) -> Result<[u8; N], ImageError> {
    file.get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(ImageError::Truncated {
            end: (offset + N) as u64,
            len: file.len(),
        })
}

fn slice(file: &[u8], start: u64, end: u64) -> Option<&[u8]> {
    file.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}
