//! Unwind sections made up for one test.

use crate::unwind::user::{
    sections::{CfiSections, Section},
    tables::CfiTables,
};

/// Where the made-up sections are.
pub(crate) const EH_FRAME: u64 = 0x8000;
pub(crate) const HEADER: u64 = 0x7000;

/// CFI instructions, as DWARF numbers them.
pub(crate) mod op {
    pub(crate) const ADVANCE: u8 = 0x40;
    pub(crate) const OFFSET: u8 = 0x80;
    pub(crate) const UNDEFINED: u8 = 0x07;
    pub(crate) const SAME_VALUE: u8 = 0x08;
    pub(crate) const REGISTER: u8 = 0x09;
    pub(crate) const REMEMBER: u8 = 0x0a;
    pub(crate) const DEF_CFA: u8 = 0x0c;
    pub(crate) const DEF_CFA_OFFSET: u8 = 0x0e;
    pub(crate) const DEF_CFA_EXPRESSION: u8 = 0x0f;
    pub(crate) const EXPRESSION: u8 = 0x10;
    pub(crate) const OFFSET_EXTENDED_SF: u8 = 0x11;
    pub(crate) const VAL_OFFSET: u8 = 0x14;
    pub(crate) const VAL_EXPRESSION: u8 = 0x16;
    pub(crate) const GNU_ARGS_SIZE: u8 = 0x2e;
}

/// What every compiler begins with: CFA = rsp + 8, the return address at CFA - 8.
pub(crate) const AT_ENTRY: [u8; 5] = [op::DEF_CFA, 7, 8, op::OFFSET | 16, 1];

/// Builds an `.eh_frame` or a `.debug_frame` with absolute addresses.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    debug: bool,
    bytes: Vec<u8>,
    cie: usize,
    /// Where each FDE is, with the code it is for.
    fdes: Vec<(u64, usize)>,
}

impl Builder {
    pub(crate) fn eh_frame() -> Self {
        Self {
            debug: false,
            bytes: Vec::new(),
            cie: 0,
            fdes: Vec::new(),
        }
    }

    pub(crate) fn debug_frame() -> Self {
        Self {
            debug: true,
            ..Self::eh_frame()
        }
    }

    fn entry(&mut self, id: u32, content: &[u8]) -> usize {
        let offset = self.bytes.len();
        let mut content = content.to_vec();
        while !content.len().is_multiple_of(4) {
            content.push(0);
        }
        let length = content.len() as u32 + 4;
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(id.to_le_bytes());
        self.bytes.extend(content);
        offset
    }

    /// A CIE for the FDEs that follow, with code in units of 1 and data in units of -8.
    pub(crate) fn cie(
        &mut self,
        augmentation: &str,
        return_column: u8,
        program: &[u8],
    ) -> &mut Self {
        let mut content = vec![1];
        content.extend(augmentation.as_bytes());
        content.extend([0, 1, 0x78, return_column]);
        if augmentation.starts_with('z') {
            content.push(0);
        }
        content.extend(program);
        let id = if self.debug { u32::MAX } else { 0 };
        self.cie = self.entry(id, &content);
        self
    }

    /// An FDE for `length` bytes of code.
    pub(crate) fn fde(&mut self, code: u64, length: u64, program: &[u8]) -> &mut Self {
        let mut content = Vec::new();
        content.extend(code.to_le_bytes());
        content.extend(length.to_le_bytes());
        // The length of the augmentation data, which a `z` calls for.
        if self.bytes.get(self.cie + 9) == Some(&b'z') {
            content.push(0);
        }
        content.extend(program);
        let id = if self.debug {
            self.cie as u32
        } else {
            (self.bytes.len() + 4 - self.cie) as u32
        };
        let offset = self.entry(id, &content);
        self.fdes.push((code, offset));
        self
    }

    /// Anything else.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn section(&self) -> Section {
        Section {
            address: EH_FRAME,
            bytes: self.bytes.as_slice().into(),
        }
    }

    /// The `.eh_frame_hdr` that a linker would make.
    pub(crate) fn header(&self) -> Section {
        let mut fdes = self.fdes.clone();
        fdes.sort_unstable();
        let mut bytes = vec![1, 0x1b, 0x03, 0x3b];
        bytes.extend((EH_FRAME.wrapping_sub(HEADER + 4) as u32).to_le_bytes());
        bytes.extend((fdes.len() as u32).to_le_bytes());
        for (code, offset) in fdes {
            bytes.extend((code.wrapping_sub(HEADER) as u32).to_le_bytes());
            bytes.extend(((EH_FRAME + offset as u64 - HEADER) as u32).to_le_bytes());
        }
        Section {
            address: HEADER,
            bytes: bytes.into(),
        }
    }

    /// Tables of this section alone.
    pub(crate) fn tables(&self) -> CfiTables {
        let section = Some(self.section());
        let mut sections = CfiSections::default();
        if self.debug {
            sections.debug_frame = section;
        } else {
            sections.eh_frame = section;
        }
        CfiTables::new(sections).unwrap()
    }
}
