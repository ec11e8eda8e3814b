//! Chooses samples of the running kernel that are worth keeping, and collects what they need.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use walker_common::StackKind;
use walker_user::{
    capture::record::Sample,
    classify::{KnownStack, NextSp},
    kernel::{
        orc_source::{self, RawOrc},
        running::RunningKernel,
    },
    unwind::{
        Frame, FrameSource, StopReason,
        orc::{OrcFormat, RAW_ENTRY_BYTES},
    },
    verify::{Outcome, compare},
};

use super::{
    data::{Case, Golden, Hex, Machine, Stack},
    line, load,
};

/// A walk of so many frames is a long one.
pub(crate) const LONG: usize = 28;

/// Bytes of a record in one line of the file.
const LINE_BYTES: usize = 64;
/// Larger records would make the file too long to look at.
const MAX_RECORD: usize = 4096;
/// Longest time to wait for all kinds.
const TIME: Duration = Duration::from_secs(60);

type Shows = fn(&Walked<'_>) -> bool;

/// What is kept: what it shows, how many of it, and how to know it.
pub(crate) const KINDS: &[(&str, usize, Shows)] = &[
    ("interrupted thunk", 1, |walked| {
        walked.frames.len() > 3
            && walked.frames[1].source == FrameSource::Thunk
            && walked.stop.is_complete()
    }),
    ("long chain", 1, |walked| walked.frames.len() >= LONG),
    ("fault in the kernel on user memory", 1, |walked| {
        walked.has_between("asm_exc_page_fault")
    }),
    ("page fault of user mode", 1, |walked| {
        walked.stop == StopReason::UserMode && walked.ends_in("asm_exc_page_fault")
    }),
    ("softirq of a system call", 1, |walked| {
        walked.crosses_to_system_call() && !walked.has_between("asm_")
    }),
    ("interrupt of a system call", 1, |walked| {
        walked.crosses_to_system_call() && walked.has_between("asm_")
    }),
    (
        "interrupt of a kernel thread or the idle loop",
        1,
        |walked| {
            walked.kinds() == [StackKind::Irq, StackKind::Task]
                && walked.stop == StopReason::EndOfStack
        },
    ),
    ("kernel thread", 1, |walked| {
        walked.kinds() == [StackKind::Task]
            && walked.stop == StopReason::EndOfStack
            && walked.sample.header().pid != 0
    }),
    ("system call", 2, |walked| {
        walked.kinds() == [StackKind::Task]
            && walked.ends_in("entry_SYSCALL_64_after_hwframe")
            && walked.frames.len() > 4
    }),
];

/// A sample with its walk.
pub(crate) struct Walked<'a> {
    sample: &'a Sample<'a>,
    frames: &'a [Frame],
    stop: StopReason,
    names: &'a Names,
}

impl Walked<'_> {
    fn kinds(&self) -> Vec<StackKind> {
        let mut kinds: Vec<_> = self.frames.iter().map(|frame| frame.stack).collect();
        kinds.dedup();
        kinds
    }

    fn name_of(&self, frame: &Frame) -> &str {
        self.names.at(frame.lookup_address())
    }

    fn ends_in(&self, function: &str) -> bool {
        let last = self.frames.last();
        last.is_some_and(|frame| self.name_of(frame) == function)
    }

    /// Whether a frame of a function whose name begins like this has an interrupted one behind it.
    fn has_between(&self, prefix: &str) -> bool {
        self.frames.windows(2).any(|pair| {
            self.name_of(&pair[0]).starts_with(prefix) && pair[1].source == FrameSource::OrcRegs
        })
    }

    fn crosses_to_system_call(&self) -> bool {
        self.kinds() == [StackKind::Irq, StackKind::Task]
            && self.stop == StopReason::UserMode
            && self.ends_in("entry_SYSCALL_64_after_hwframe")
    }

    fn case(&self, what: &str) -> Case {
        let frames = self.frames.iter().map(|frame| {
            let name = self.names.at(frame.lookup_address());
            format!("{} | {name}", line(frame))
        });
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Case {
            what: what.to_owned(),
            stop: self.stop.to_string(),
            frames: frames.collect(),
            kernel: self.sample.kernel_chain().map(Hex).collect(),
            record: load::record_of(self.sample)
                .chunks(LINE_BYTES)
                .map(hex)
                .collect(),
        }
    }
}

/// The functions of the kernel image by address.
struct Names(BTreeMap<u64, String>);

impl Names {
    fn read() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string("/proc/kallsyms")?;
        let symbol = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            let address = u64::from_str_radix(fields.next()?, 16).ok()?;
            let is_text = fields.next()?.eq_ignore_ascii_case("t");
            is_text.then_some((address, fields.next()?.to_owned()))
        };
        Ok(Self(text.lines().filter_map(symbol).collect()))
    }

    fn at(&self, ip: u64) -> &str {
        let below = self.0.range(..=ip).next_back();
        below.map_or("?", |(_, name)| name)
    }
}

/// Takes samples until there are enough of each kind.
pub(crate) fn golden() -> anyhow::Result<Golden> {
    let names = Names::read()?;
    let mut missing: Vec<_> = KINDS.iter().map(|(_, count, _)| *count).collect();
    let mut samples = Vec::new();
    let mut lookups = BTreeSet::new();
    let mut frames = Vec::new();
    let mut keep = |kernel: &RunningKernel, sample: &Sample<'_>| {
        let stop = kernel.sampled.walk(sample, None, &mut frames);
        let own = sample.header().pid == std::process::id();
        // Of other processes nothing is kept, of the kernel's own threads nothing is secret.
        if !own && stop != StopReason::EndOfStack {
            return true;
        }
        let chain: Vec<u64> = sample.kernel_chain().collect();
        let walked = Walked {
            sample,
            frames: &frames,
            stop,
            names: &names,
        };
        let text = &kernel.sampled.tables.text;
        if compare(&frames, &chain, &|_| false) != Outcome::Agree
            || frames.iter().any(|frame| !text.is_static(frame.ip))
            || load::record_of(sample).len() > MAX_RECORD
        {
            return true;
        }
        for ((what, _, shows), missing) in KINDS.iter().zip(&mut missing) {
            if *missing > 0 && shows(&walked) {
                *missing -= 1;
                let case = walked.case(what);
                samples.push((sample.header().cpu, case));
                let memory = sample.memory();
                let sp = sample.registers().sp;
                // A thunk is known by the two words on top.
                let words = [sp, sp.wrapping_add(8)].map(|sp| memory.read_u64(sp).unwrap_or(0));
                for ip in frames.iter().map(|frame| frame.ip).chain(words) {
                    lookups.extend([ip, ip.wrapping_sub(1)]);
                }
                break;
            }
        }
        missing.iter().any(|missing| *missing > 0)
    };
    let mut session = load::sample(true, TIME, &mut keep)?;
    for ((what, ..), missing) in KINDS.iter().zip(&missing) {
        ensure!(*missing == 0, "{missing} samples are missing: {what}");
    }

    let kernel = &session.kernel;
    let table = kernel.sampled.tables.orc.first().context("no ORC table")?;
    let starts: BTreeSet<u64> = lookups
        .iter()
        .filter_map(|ip| Some(table.find_with_start(*ip)?.0))
        .collect();
    let location = match orc_source::by_symbols(&kernel.symbols) {
        Some(location) => location,
        None => orc_source::by_operands(&mut session.object, &kernel.symbols)?,
    };
    let raw = RawOrc::read(&mut session.object, location)?;
    let bits = kernel.offsets.orc.context("no ORC entries")?;
    ensure!(raw.format(bits, true)? == OrcFormat::V3, "not format V3");
    let mut orc = BTreeMap::new();
    let (entries, _) = raw.entries.as_chunks::<RAW_ENTRY_BYTES>();
    for (index, (ip, entry)) in raw.ips.as_chunks::<4>().0.iter().zip(entries).enumerate() {
        let displacement = i64::from(i32::from_le_bytes(*ip));
        let start = (raw.ips_address + 4 * index as u64).wrapping_add_signed(displacement);
        if starts.contains(&start) {
            // The last of those with the same start is the one that holds.
            let hex = entry.iter().map(|byte| format!("{byte:02x}"));
            orc.insert(Hex(start), hex.collect());
        }
    }

    let text = kernel
        .sampled
        .tables
        .text
        .ranges
        .first()
        .context("no text")?;
    let dynamic = kernel
        .sampled
        .tables
        .text
        .dynamic
        .context("no dynamic text")?;
    let cpus: BTreeSet<u32> = samples.iter().map(|(cpu, _)| *cpu).collect();
    let golden = Golden {
        thread_size: Hex(kernel.offsets.thread_size),
        text_begin: Hex(text.begin),
        text_end: Hex(text.end),
        dynamic_end: Hex(dynamic.end),
        cpus: kernel
            .cpus()
            .filter(|(cpu, _)| cpus.contains(cpu))
            .map(|(cpu, table)| (cpu, table.stacks.iter().map(stack).collect()))
            .collect(),
        orc,
        samples: samples.into_iter().map(|(_, case)| case).collect(),
    };
    // What is missing in the file must show now.
    check(&golden, &golden.machine()?)?;
    Ok(golden)
}

fn stack(stack: &KnownStack) -> Stack {
    Stack {
        kind: stack.kind as u8,
        begin: Hex(stack.begin),
        end: Hex(stack.end),
        next_sp_below_end: Hex(match stack.next_sp {
            NextSp::BelowEnd(distance) => distance,
            _ => 0,
        }),
    }
}

fn check(golden: &Golden, machine: &Machine) -> anyhow::Result<()> {
    let mut frames = Vec::new();
    for case in &golden.samples {
        let record = case.record_bytes()?;
        let sample = Sample::parse(&record)?;
        let stop = machine.walk(&sample, &mut frames);
        ensure!(
            stop.to_string() == case.stop && frames.len() == case.frames.len(),
            "a walk with the entries in the file differs: {}",
            case.what
        );
    }
    Ok(())
}
