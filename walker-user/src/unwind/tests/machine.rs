//! A kernel made up for one test: code with unwind rules, stacks, and the words on them.

use std::collections::BTreeMap;

use walker_common::{StackKind, wire::Registers};

use crate::{
    classify::{KnownStack, NextSp, StackSet, WordSize},
    unwind::{
        Frame, FrameSource, StopReason,
        kernel::{KernelTables, TextMap, TextRange, walk},
        memory::{SampleMemory, Segment},
        orc::{OrcEntry, OrcFormat, OrcKind, OrcRegister, OrcTable, RAW_ENTRY_BYTES},
        start::WalkStart,
    },
};

/// The kernel image's text.
pub(super) const TEXT: u64 = 0xffff_ffff_8100_0000;
pub(super) const TEXT_END: u64 = TEXT + 0x10_0000;
/// BPF programs and the like.
pub(super) const DYNAMIC: u64 = 0xffff_ffff_a000_0000;
pub(super) const DYNAMIC_END: u64 = DYNAMIC + 0x10_0000;
/// Bytes of code with the same rule.
const CODE_BYTES: u64 = 0x100;

/// Offsets in `struct pt_regs`.
pub(super) mod pt_regs {
    pub(in super::super) const R13: u64 = 16;
    pub(in super::super) const BP: u64 = 32;
    pub(in super::super) const R10: u64 = 56;
    pub(in super::super) const AX: u64 = 80;
    pub(in super::super) const DX: u64 = 96;
    pub(in super::super) const DI: u64 = 112;
    pub(in super::super) const IP: u64 = 128;
    pub(in super::super) const SIZE: u64 = 168;
}

pub(super) const KERNEL_CS: u64 = 0x10;
pub(super) const USER_CS: u64 = 0x33;

/// The stacks, with addresses as on a real CPU 0.
pub(super) const TASK: KnownStack = stack(StackKind::Task, 0xffff_c900_0012_c000, 0x4000, 0);
pub(super) const IRQ: KnownStack = stack(StackKind::Irq, 0xffff_c900_0000_0000, 0x4000, 8);
const PERCPU: [KnownStack; 8] = [
    stack(StackKind::DoubleFault, 0xffff_fe00_0000_9000, 0x2000, 16),
    stack(StackKind::Nmi, 0xffff_fe00_0000_c000, 0x2000, 16),
    stack(StackKind::Debug, 0xffff_fe00_0000_f000, 0x2000, 16),
    stack(StackKind::MachineCheck, 0xffff_fe00_0001_2000, 0x2000, 16),
    stack(StackKind::Vc, 0xffff_fe00_0001_5000, 0x2000, 16),
    stack(StackKind::Vc2, 0xffff_fe00_0001_8000, 0x2000, 16),
    IRQ,
    stack(StackKind::Entry, 0xffff_fe00_0000_3000, 0x1000, 0),
];

/// All of them.
pub(super) const STACKS: StackSet<'static> = StackSet {
    task: Some(TASK),
    percpu: &PERCPU,
    word: WordSize::Eight,
};

const fn stack(kind: StackKind, begin: u64, size: u64, link: u64) -> KnownStack {
    KnownStack {
        kind,
        begin,
        end: begin + size,
        may_be_empty: false,
        next_sp: if link == 0 {
            NextSp::None
        } else {
            NextSp::BelowEnd(link)
        },
    }
}

/// The stack of this kind.
pub(super) fn stack_of(kind: StackKind) -> KnownStack {
    std::iter::once(TASK)
        .chain(PERCPU)
        .find(|stack| stack.kind == kind)
        .unwrap()
}

/// A rule for code whose caller is found by a return address.
pub(super) const fn call(sp_reg: OrcRegister, sp_offset: i16) -> OrcEntry {
    OrcEntry {
        sp_offset,
        bp_offset: 0,
        sp_reg,
        bp_reg: OrcRegister::Undefined,
        kind: OrcKind::Call,
        signal: false,
    }
}

/// A rule for code with registers at sp plus the offset.
pub(super) const fn regs(sp_offset: i16) -> OrcEntry {
    OrcEntry {
        kind: OrcKind::Regs,
        signal: true,
        ..call(OrcRegister::Sp, sp_offset)
    }
}

/// The same with no more than an iret frame.
pub(super) const fn partial(sp_offset: i16) -> OrcEntry {
    OrcEntry {
        kind: OrcKind::RegsPartial,
        ..regs(sp_offset)
    }
}

/// A rule of a kind that needs no more.
pub(super) const fn marker(kind: OrcKind) -> OrcEntry {
    OrcEntry {
        kind,
        ..call(OrcRegister::Undefined, 0)
    }
}

/// Adds where the caller's frame pointer is.
pub(super) const fn saving_bp(entry: OrcEntry, bp_reg: OrcRegister, bp_offset: i16) -> OrcEntry {
    OrcEntry {
        bp_reg,
        bp_offset,
        ..entry
    }
}

/// The end of a kernel thread.
pub(super) const END: OrcEntry = marker(OrcKind::EndOfStack);

/// The bytes of an entry: the inverse of [`OrcEntry::decode`].
pub(super) fn encode(entry: &OrcEntry, format: OrcFormat) -> [u8; RAW_ENTRY_BYTES] {
    let number = |register: OrcRegister| {
        (0..16u16)
            .find(|number| {
                let raw = [0, 0, 0, 0, *number as u8, 0];
                OrcEntry::decode(raw, format).sp_reg == register
            })
            .unwrap_or_else(|| panic!("{format:?} has no {register:?}"))
    };
    let kind = match format {
        OrcFormat::V1OffsetFirst | OrcFormat::V1 | OrcFormat::V2 => {
            let end = if format == OrcFormat::V2 { 11 } else { 10 };
            match entry.kind {
                OrcKind::Undefined | OrcKind::Call => 0,
                OrcKind::Regs => 1 << 8,
                OrcKind::RegsPartial => 2 << 8,
                OrcKind::EndOfStack => 1 << end,
            }
        }
        OrcFormat::V3 | OrcFormat::V4 => (entry.kind as u16) << 8,
    };
    let signal = match format {
        OrcFormat::V1OffsetFirst | OrcFormat::V1 => 0,
        OrcFormat::V2 => u16::from(entry.signal) << 10,
        OrcFormat::V3 | OrcFormat::V4 => u16::from(entry.signal) << 11,
    };
    let flags = number(entry.sp_reg) | number(entry.bp_reg) << 4 | kind | signal;
    let [sp_low, sp_high] = entry.sp_offset.to_le_bytes();
    let [bp_low, bp_high] = entry.bp_offset.to_le_bytes();
    let [flags_low, flags_high] = flags.to_le_bytes();
    [sp_low, sp_high, bp_low, bp_high, flags_low, flags_high]
}

/// A table of entries by start.
pub(super) fn table(entries: &[(u64, [u8; RAW_ENTRY_BYTES])], format: OrcFormat) -> OrcTable {
    let base = entries[0].0;
    let (mut ips, mut raw) = (Vec::new(), Vec::new());
    for (start, entry) in entries {
        let displacement = start.wrapping_sub(base + ips.len() as u64) as i64;
        ips.extend(i32::try_from(displacement).unwrap().to_le_bytes());
        raw.extend(entry);
    }
    OrcTable::from_raw(base, &ips, &raw, format).unwrap()
}

/// The words before the iret frame are as in `struct pt_regs`.
pub(super) struct Saved {
    pub(super) ip: u64,
    pub(super) cs: u64,
    pub(super) sp: u64,
}

/// The kernel of one test.
pub(super) struct Machine {
    pub(super) format: OrcFormat,
    code: Vec<(u64, OrcEntry)>,
    words: BTreeMap<u64, u64>,
    /// Pieces of stacks whose bytes are in the sample: the whole of TASK and IRQ, unless changed.
    pub(super) captured: Vec<(u64, u64)>,
    pub(super) frame_pointers: bool,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            format: OrcFormat::V3,
            // So that an address below the first function is in the table's range.
            code: vec![(TEXT, marker(OrcKind::Undefined))],
            words: BTreeMap::new(),
            captured: vec![(TASK.begin, TASK.end), (IRQ.begin, IRQ.end)],
            frame_pointers: false,
        }
    }

    /// Adds code with this rule; returns an address in it that is good as a return address and as
    /// an interrupted one.
    pub(super) fn code(&mut self, rule: OrcEntry) -> u64 {
        let begin = TEXT + self.code.len() as u64 * CODE_BYTES;
        self.code.push((begin, rule));
        begin + CODE_BYTES / 2
    }

    /// Adds code whose rule changes at the address that is returned.
    pub(super) fn code_that_changes(&mut self, before: OrcEntry, from: OrcEntry) -> u64 {
        let at = self.code(before);
        let begin = self.code(from);
        assert_eq!(begin - at, CODE_BYTES);
        begin - CODE_BYTES / 2
    }

    /// Writes a word.
    pub(super) fn put(&mut self, address: u64, value: u64) {
        self.words.insert(address, value);
    }

    /// Writes the registers that an interrupt saves, at the address of a `struct pt_regs`.
    pub(super) fn put_regs(&mut self, address: u64, saved: &Saved) {
        let Saved { ip, cs, sp } = *saved;
        for (at, value) in [(0, ip), (8, cs), (24, sp)] {
            self.put(address + pt_regs::IP + at, value);
        }
    }

    /// Adds the whole stack of this kind to the sample.
    pub(super) fn capture(&mut self, kind: StackKind) {
        let KnownStack { begin, end, .. } = stack_of(kind);
        self.captured.push((begin, end));
    }

    pub(super) fn walk_from(&self, ip: u64, sp: u64) -> Walk {
        self.walk(&Registers {
            ip,
            sp,
            cs: KERNEL_CS,
            ..Registers::default()
        })
    }

    pub(super) fn walk(&self, event: &Registers) -> Walk {
        self.walk_start(WalkStart::Interrupted(event))
    }

    pub(super) fn walk_start(&self, start: WalkStart<'_>) -> Walk {
        let pieces: Vec<(u64, Vec<u8>)> = self
            .captured
            .iter()
            .map(|(begin, end)| (*begin, self.bytes(*begin, *end)))
            .collect();
        let mut memory = SampleMemory::new();
        for (address, bytes) in &pieces {
            memory.push(Segment {
                address: *address,
                bytes,
            });
        }
        let mut frames = Vec::new();
        let stop = walk(&self.tables(), start, &STACKS, &memory, &mut frames);
        Walk { frames, stop }
    }

    /// The rules of its code.
    pub(super) fn tables(&self) -> KernelTables {
        let end = TEXT + self.code.len() as u64 * CODE_BYTES;
        let mut entries: Vec<_> = self
            .code
            .iter()
            .map(|(begin, rule)| (*begin, encode(rule, self.format)))
            .collect();
        entries.push((end, encode(&marker(OrcKind::Undefined), self.format)));
        let orc = if self.frame_pointers {
            Vec::new()
        } else {
            vec![table(&entries, self.format)]
        };
        KernelTables {
            text: TextMap {
                ranges: vec![TextRange {
                    begin: TEXT,
                    end: TEXT_END,
                }],
                dynamic: Some(TextRange {
                    begin: DYNAMIC,
                    end: DYNAMIC_END,
                }),
            },
            orc,
        }
    }

    /// The bytes of its memory, which are 0 where nothing was written.
    pub(super) fn bytes(&self, begin: u64, end: u64) -> Vec<u8> {
        let word = |address| self.words.get(&address).copied().unwrap_or(0);
        let words = (begin..end).step_by(8).map(word);
        words.flat_map(u64::to_le_bytes).collect()
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) frames: Vec<Frame>,
    pub(super) stop: StopReason,
}

impl Walk {
    pub(super) fn ips(&self) -> Vec<u64> {
        self.frames.iter().map(|frame| frame.ip).collect()
    }

    pub(super) fn kinds(&self) -> Vec<StackKind> {
        self.frames.iter().map(|frame| frame.stack).collect()
    }

    pub(super) fn sources(&self) -> Vec<FrameSource> {
        self.frames.iter().map(|frame| frame.source).collect()
    }

    /// The addresses of the frames that were found exactly.
    pub(super) fn exact(&self) -> Vec<u64> {
        self.frames
            .iter()
            .filter(|frame| frame.reliable)
            .map(|frame| frame.ip)
            .collect()
    }
}
