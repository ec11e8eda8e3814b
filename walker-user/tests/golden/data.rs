//! Real samples in a file: what a walk needs besides the kernel, and what it must find.
//!
//! Everything is hexadecimal text, so that a change of the file can be read.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use walker_common::StackKind;
use walker_user::{
    capture::record::Sample,
    classify::{KnownStack, NextSp, StackSet, WordSize},
    unwind::{
        Frame, StopReason,
        kernel::{KernelTables, TextMap, TextRange, walk},
        orc::{OrcFormat, OrcTable, RAW_ENTRY_BYTES},
        start::WalkStart,
    },
};

/// An address or a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Hex(pub(crate) u64);

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        format!("{:x}", hex.0)
    }
}

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

/// A stack of a CPU.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Stack {
    pub(crate) kind: u8,
    pub(crate) begin: Hex,
    pub(crate) end: Hex,
    /// Zero: it leads to no other stack.
    pub(crate) next_sp_below_end: Hex,
}

/// A sample, and what is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Case {
    /// What makes it worth keeping.
    pub(crate) what: String,
    /// The expected stop reason.
    pub(crate) stop: String,
    /// The expected frames, as `line()` in `golden.rs` writes them; behind a `|` the name of the function.
    pub(crate) frames: Vec<String>,
    /// What the kernel's own unwinder found at the same event.
    pub(crate) kernel: Vec<Hex>,
    /// The record.
    pub(crate) record: Vec<String>,
}

impl Case {
    /// The bytes of the record.
    pub(crate) fn record_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for line in &self.record {
            bytes.extend(from_hex(line)?);
        }
        Ok(bytes)
    }
}

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Golden {
    pub(crate) thread_size: Hex,
    pub(crate) text_begin: Hex,
    pub(crate) text_end: Hex,
    pub(crate) dynamic_end: Hex,
    /// The stacks of each CPU that has a sample.
    pub(crate) cpus: BTreeMap<u32, Vec<Stack>>,
    /// The entries that the walks look up, by the address from which on each holds, as the kernel
    /// has them (format V3).
    pub(crate) orc: BTreeMap<Hex, String>,
    pub(crate) samples: Vec<Case>,
}

impl Golden {
    /// Where it is.
    pub(crate) fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/samples.json")
    }

    /// Reads it.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let path = Self::path();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not right", path.display()))
    }

    /// The kernel of the samples.
    pub(crate) fn machine(&self) -> anyhow::Result<Machine> {
        let base = self.orc.keys().next().context("no ORC entries")?.0;
        let (mut ips, mut entries) = (Vec::new(), Vec::new());
        for (start, entry) in &self.orc {
            // Each displacement counts from its own place.
            let displacement = i32::try_from(start.0 - base)? - i32::try_from(ips.len())?;
            ips.extend(displacement.to_le_bytes());
            let entry = from_hex(entry)?;
            anyhow::ensure!(entry.len() == RAW_ENTRY_BYTES, "an entry has another size");
            entries.extend(entry);
        }
        let stack = |stack: &Stack| -> anyhow::Result<KnownStack> {
            Ok(KnownStack {
                kind: StackKind::from_number(stack.kind).context("no such kind of stack")?,
                begin: stack.begin.0,
                end: stack.end.0,
                may_be_empty: false,
                next_sp: match stack.next_sp_below_end.0 {
                    0 => NextSp::None,
                    distance => NextSp::BelowEnd(distance),
                },
            })
        };
        let cpus = self
            .cpus
            .iter()
            .map(|(cpu, stacks)| {
                let stacks = stacks.iter().map(stack).collect::<anyhow::Result<_>>()?;
                Ok((*cpu, stacks))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Machine {
            tables: KernelTables {
                text: TextMap {
                    ranges: vec![TextRange {
                        begin: self.text_begin.0,
                        end: self.text_end.0,
                    }],
                    dynamic: Some(TextRange {
                        begin: self.text_end.0,
                        end: self.dynamic_end.0,
                    }),
                },
                orc: vec![OrcTable::from_raw(base, &ips, &entries, OrcFormat::V3)?],
            },
            thread_size: self.thread_size.0,
            cpus,
        })
    }
}

/// What a walk needs to know of a kernel and its CPUs.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) tables: KernelTables,
    pub(crate) thread_size: u64,
    pub(crate) cpus: BTreeMap<u32, Vec<KnownStack>>,
}

impl Machine {
    /// Walks a sample's stacks, as `SampledKernel::walk()` does; `frames` is emptied first.
    pub(crate) fn walk(&self, sample: &Sample<'_>, frames: &mut Vec<Frame>) -> StopReason {
        frames.clear();
        let header = sample.header();
        let stacks = StackSet {
            task: KnownStack::task(header.task_stack, self.thread_size).ok(),
            percpu: self.cpus.get(&header.cpu).map_or(&[], Vec::as_slice),
            word: WordSize::Eight,
        };
        let (regs, memory) = (sample.registers(), sample.memory());
        walk(
            &self.tables,
            WalkStart::Interrupted(regs),
            &stacks,
            &memory,
            frames,
        )
    }
}

fn from_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(
        text.is_ascii() && text.len().is_multiple_of(2),
        "not hexadecimal"
    );
    (0..text.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?))
        .collect()
}
