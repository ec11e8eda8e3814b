//! Walks a made-up stack by made-up unwind information: neither may panic the walker, keep it
//! busy, or make it say more frames than the stack has room for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walker_user::unwind::{
    memory::Segment,
    user::{
        registers::UserRegisters,
        sections::{CfiSections, Section},
        stack::UserStack,
        tables::CfiTables,
        walk::{CodeAt, CodeKind, ModuleId, UserCode, UserWalker},
    },
};

const STACK: u64 = 0x20_0000;
const CODE: std::ops::Range<u64> = 0..0x1_0000;
const JIT: std::ops::Range<u64> = 0x10_0000..0x10_1000;

struct Code<'t>(&'t CfiTables);

impl UserCode for Code<'_> {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        let jit = JIT.contains(&address);
        (jit || CODE.contains(&address)).then_some(CodeAt {
            module: ModuleId(0),
            address,
            cfi: (!jit).then_some(self.0),
            kind: if jit { CodeKind::Jit } else { CodeKind::Object },
        })
    }

    /// Bytes that are often instructions that matter, the same ones whenever they are asked for.
    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        const BYTES: &[u8] =
            b"\xe8\0\0\0\0\xc3\x48\x83\xc4\x08\xff\xd0\x5d\x74\xf4\xc9\xeb\x03\xff\xe0\x41\x5c";
        for (offset, byte) in (0..).zip(buffer.iter_mut()) {
            let at = address.wrapping_add(offset);
            let index = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
            *byte = BYTES[(at ^ (index / 64)) as usize % BYTES.len()];
        }
        if address.is_multiple_of(3) {
            0
        } else {
            buffer.len()
        }
    }
}

/// Takes a piece of the input, whose length is its first two bytes.
fn piece<'d>(data: &mut &'d [u8]) -> &'d [u8] {
    let Some((length, rest)) = data.split_first_chunk() else {
        return std::mem::take(data);
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (piece, rest) = rest.split_at(length);
    *data = rest;
    piece
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let mut section = |address| {
        let bytes = piece(&mut data);
        (!bytes.is_empty()).then(|| Section {
            address,
            bytes: bytes.into(),
        })
    };
    let sections = CfiSections {
        eh_frame: section(0x8000),
        eh_frame_hdr: section(0x7000),
        debug_frame: section(0),
        text: Some(CODE.start),
        got: None,
        ..CfiSections::default()
    };
    let Ok(tables) = CfiTables::new(sections) else {
        return;
    };
    let mut registers = UserRegisters::new(0, STACK);
    let (words, stack) = data.split_at(data.len().min(18 * 8));
    for (number, word) in words.as_chunks::<8>().0.iter().take(17).enumerate() {
        registers.set(number, Some(u64::from_le_bytes(*word)));
    }
    let stack = UserStack {
        segment: Segment {
            address: STACK,
            bytes: stack,
        },
        cut_by_budget: words.last().is_some_and(|byte| byte % 2 == 0),
    };
    let mut walker = UserWalker::new();
    let mut cold = Vec::new();
    let walk = walker.walk(&mut Code(&tables), &registers, &stack, &mut cold);
    assert!(!cold.is_empty() && cold.len() <= stack.segment.bytes.len() / 8 + 9);
    assert!(walk.bytes_used as usize <= stack.segment.bytes.len());
    let mut warm = Vec::new();
    let again = walker.walk(&mut Code(&tables), &registers, &stack, &mut warm);
    assert_eq!((walk, cold), (again, warm));
});
