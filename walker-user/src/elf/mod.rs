//! What an ELF file says of its code: where it is linked, its build ID, and its unwind sections.
//!
//! The files belong to unprivileged users who may change them while they are read, so they are
//! never mapped but read at offsets, every count and size is bounded, and a lie is an
//! [`ElfError`]. Only programs and libraries of x86-64 and i386
//! are understood. This module does not find
//! files (that is the job of `process`), interpret unwind information or look up symbols.

mod build_id;
mod cfi;
mod debug_file;
mod error;
mod facts;
mod go_functions;
mod header;
mod header32;
mod notes;
mod sections;
mod source;
#[cfg(test)]
pub(crate) mod test_elf;

pub use build_id::{BuildId, BuildIdError};
pub use cfi::{SECTION_LIMIT, read_all_cfi_sections, read_cfi_sections};
pub use debug_file::{DEBUG_FOLDER, DebugFileError, debug_file_path, open_debug_file};
pub use error::ElfError;
pub use facts::{DebugLink, EhFrameHdr, ElfFacts, ElfKind, LoadSegment, SectionRange};
pub use source::Source;
