//! Reads bytes as a file that a process mapped: what it says of its code, then its unwind tables.
//! Neither may panic, and no more may be read than was allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walker_user::{
    elf::{ElfFacts, LoadSegment, read_cfi_sections},
    unwind::{
        memory::Segment,
        user::{
            registers::UserRegisters,
            stack::UserStack,
            tables::CfiTables,
            walk::{CodeAt, CodeKind, ModuleId, UserCode, UserWalker},
        },
    },
};

const STACK: u64 = 0x7000_0000_0000;
/// The most bytes of unwind sections; small, so that it is reached.
const BUDGET: u64 = 1 << 16;

/// All addresses are code of the file, which knows the bytes of some.
struct Code<'t> {
    tables: &'t CfiTables,
    facts: &'t ElfFacts,
    file: &'t [u8],
}

impl UserCode for Code<'_> {
    fn code_at(&mut self, address: u64) -> Option<CodeAt<'_>> {
        Some(CodeAt {
            module: ModuleId(0),
            address,
            cfi: Some(self.tables),
            kind: CodeKind::Object,
        })
    }

    fn code_bytes(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        self.facts
            .read_code(self.file, address, buffer)
            .unwrap_or(0)
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(facts) = ElfFacts::read(data) else {
        return;
    };
    let code: Vec<_> = facts.loads.iter().filter(|load| load.executable).collect();
    for load in &code {
        let mut bytes = [0; 64];
        for address in [load.address, load.address.wrapping_add(load.file_size)] {
            if let Ok(read) = facts.read_code(data, address, &mut bytes) {
                assert!(read <= bytes.len());
            }
        }
        for offset in [load.offset, load.offset.wrapping_add(load.file_size)] {
            if let Some(address) = facts.file_offset_to_address(offset) {
                let within = |load: &LoadSegment| {
                    let into = address.checked_sub(load.address);
                    into.is_some_and(|into| into < load.file_size)
                };
                assert!(facts.loads.iter().any(within));
            }
        }
    }
    let Ok(sections) = read_cfi_sections(data, &facts, BUDGET) else {
        return;
    };
    // What is known of Go's functions has a limit of its own.
    let functions = size_of_val(&*sections.stack_switches);
    assert!((sections.bytes() - functions) as u64 <= BUDGET);
    let Ok(tables) = CfiTables::new(sections) else {
        return;
    };
    // A stack of return addresses into the code.
    let starts = code.iter().map(|load| load.address.wrapping_add(1));
    let starts: Vec<u64> = starts.cycle().take(64 * code.len().min(1)).collect();
    let bytes: Vec<u8> = starts.iter().flat_map(|word| word.to_le_bytes()).collect();
    let stack = UserStack {
        segment: Segment {
            address: STACK,
            bytes: &bytes,
        },
        cut_by_budget: false,
    };
    for ip in starts.iter().take(8) {
        let mut frames = Vec::new();
        let registers = UserRegisters::new(*ip, STACK);
        let mut code = Code {
            tables: &tables,
            facts: &facts,
            file: data,
        };
        UserWalker::new().walk(&mut code, &registers, &stack, &mut frames);
        assert!(!frames.is_empty() && frames.len() <= starts.len() + 8);
    }
});
