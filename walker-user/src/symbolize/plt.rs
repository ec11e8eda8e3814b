//! Names of the stubs through which a program calls functions of other files (the procedure linkage
//! table): `write@plt`, as objdump and perf have it.
//!
//! Nothing says where a stub is or whose it is: each jumps through a slot, and a relocation says
//! whose address the dynamic linker puts there (x86-64 psABI 1.0, section 5.2; i386 psABI 1.1, 5.2).

use std::collections::HashMap;

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, ObjectSymbolTable as _, ReadRef,
    RelocationFlags, RelocationTarget,
    elf::{R_386_IRELATIVE, R_386_JMP_SLOT, R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT},
};

/// Most stubs, and most bytes of stubs, that are looked at.
const MAX_STUBS: usize = 100_000;
const MAX_BYTES: u64 = 4 << 20;
/// Bytes of a stub; those of `.plt.got` are shorter if the table says so.
const STUB: u64 = 16;

/// A stub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stub {
    /// Its first address.
    pub(super) address: u64,
    /// Its bytes.
    pub(super) size: u64,
    /// The function with `@plt` behind it.
    pub(super) name: String,
}

/// The stubs of a file, by address.
pub(super) fn stubs<'d>(elf: &object::File<'d, impl ReadRef<'d>>) -> Vec<Stub> {
    let targets = Targets::of(elf);
    let mut stubs = Vec::new();
    for section in elf.sections() {
        let name = section.name_bytes().unwrap_or_default();
        if name != b".plt" && !name.starts_with(b".plt.") || section.size() > MAX_BYTES {
            continue;
        }
        let Ok(bytes) = section.data() else { continue };
        // The linkers say so of sections whose stubs are shorter.
        let size = match name {
            b".plt.got" if has_short_stubs(bytes) => STUB / 2,
            _ => STUB,
        };
        for (address, code) in (section.address()..)
            .step_by(size as usize)
            .zip(bytes.chunks(size as usize))
        {
            if let Some(target) = targets.of_stub(address, code)
                && stubs.len() < MAX_STUBS
            {
                stubs.push(Stub {
                    address,
                    size: code.len() as u64,
                    name: format!("{target}@plt"),
                });
            }
        }
    }
    stubs.sort_by_key(|stub| stub.address);
    stubs
}

/// The stub that an address is in.
pub(super) fn stub_at(stubs: &[Stub], address: u64) -> Option<&Stub> {
    let after = stubs.partition_point(|stub| stub.address <= address);
    let stub = &stubs[after.checked_sub(1)?];
    (address - stub.address < stub.size).then_some(stub)
}

/// Whether a second jump follows within the bytes of one stub.
fn has_short_stubs(bytes: &[u8]) -> bool {
    bytes.get(..2) == Some(b"\xff\x25") && bytes.get(8..10) == Some(b"\xff\x25")
        || bytes.len() == STUB as usize / 2
}

/// Whose address is in which slot.
#[derive(Default)]
struct Targets {
    by_slot: HashMap<u64, String>,
    /// In the order of the relocations that are made when a function is first called.
    lazy: Vec<String>,
    /// What the register of position-independent code points to on i386.
    got: u64,
    is_32: bool,
}

impl Targets {
    fn of<'d>(elf: &object::File<'d, impl ReadRef<'d>>) -> Self {
        let mut targets = Self {
            got: { elf.section_by_name(".got.plt") }
                .or_else(|| elf.section_by_name(".got"))
                .map_or(0, |section| section.address()),
            is_32: !elf.is_64(),
            ..Self::default()
        };
        let Some(symbols) = elf.dynamic_symbol_table() else {
            return targets;
        };
        for (slot, relocation) in elf.dynamic_relocations().into_iter().flatten() {
            if targets.by_slot.len() >= MAX_STUBS {
                break;
            }
            let name = match relocation.target() {
                RelocationTarget::Symbol(index) => symbols
                    .symbol_by_index(index)
                    .ok()
                    .and_then(|symbol| {
                        Some(String::from_utf8_lossy(symbol.name_bytes().ok()?).into_owned())
                    })
                    .filter(|name| !name.is_empty()),
                _ => None,
            };
            // The address that is found by a function of the file itself (`ifunc`).
            let name = name.unwrap_or_else(|| format!("*ABS*+{:#x}", relocation.addend()));
            let RelocationFlags::Elf { r_type } = relocation.flags() else {
                continue;
            };
            let lazy = match targets.is_32 {
                false => [R_X86_64_JUMP_SLOT, R_X86_64_IRELATIVE],
                true => [R_386_JMP_SLOT, R_386_IRELATIVE],
            };
            if lazy.contains(&r_type) {
                targets.lazy.push(name.clone());
            }
            targets.by_slot.insert(slot, name);
        }
        targets
    }

    /// Whose stub this is: that of the slot through which it jumps or, where that is done in another
    /// section, of the number that it has for the dynamic linker.
    fn of_stub(&self, address: u64, code: &[u8]) -> Option<&String> {
        let operand = |at: usize| Some(i32::from_le_bytes(*code.get(at..)?.first_chunk()?));
        let jump = code
            .windows(2)
            .position(|two| two == b"\xff\x25" || self.is_32 && two == b"\xff\xa3");
        if let Some(jump) = jump {
            let slot = i64::from(operand(jump + 2)?);
            let base = match (self.is_32, code[jump + 1]) {
                (false, _) => address.wrapping_add(jump as u64 + 6),
                (true, 0xa3) => self.got,
                (true, _) => 0,
            };
            let slot = base.wrapping_add_signed(slot);
            let slot = if self.is_32 { slot & 0xffff_ffff } else { slot };
            return self.by_slot.get(&slot);
        }
        // `endbr64; push $number`
        let push = code.strip_prefix(b"\xf3\x0f\x1e\xfa").map_or(0, |_| 4);
        (code.get(push) == Some(&0x68) && !self.is_32)
            .then(|| self.lazy.get(usize::try_from(operand(push + 1)?).ok()?))
            .flatten()
    }
}
