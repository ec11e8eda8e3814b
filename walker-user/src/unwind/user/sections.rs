//! The sections of one object file that hold its unwind information.
//!
//! Only the bytes and where they belong; reading them from a file is the job of `elf`,
//! interpreting them that of the unwinder.

use std::{ops::Range, sync::Arc};

use super::mode::Mode;

/// One section, with its address as the object was linked (before relocation).
#[derive(Debug, Clone)]
pub struct Section {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes, decompressed.
    pub bytes: Arc<[u8]>,
}

/// What an object file says of how to unwind its code. All addresses are as linked.
#[derive(Debug, Clone, Default)]
pub struct CfiSections {
    /// `.eh_frame`.
    pub eh_frame: Option<Section>,
    /// `.eh_frame_hdr`, whose binary search table finds an entry of `.eh_frame`.
    pub eh_frame_hdr: Option<Section>,
    /// `.debug_frame`, of the file itself or of its separate debug file.
    pub debug_frame: Option<Section>,
    /// Address of `.text`, for text-relative pointers.
    pub text: Option<u64>,
    /// Address of `.got`, for data-relative pointers.
    pub got: Option<u64>,
    /// What code the object has.
    pub mode: Mode,
    /// Functions that switch stacks, whatever the sections say of them: sorted, and not
    /// overlapping.
    pub stack_switches: Arc<[Range<u64>]>,
}

impl CfiSections {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let sections = [&self.eh_frame, &self.eh_frame_hdr, &self.debug_frame];
        let bytes = sections
            .into_iter()
            .flatten()
            .map(|section| section.bytes.len());
        bytes.sum::<usize>() + size_of_val(&*self.stack_switches)
    }
}
