//! What a recording says of itself: where and how it was made, the facts about the kernel that its
//! walks used, and where the events went. JSON, so that people can read it too.
//!
//! Fields that are added later are optional; unknown ones are passed over.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use walker_common::StackKind;

use crate::{
    capture::events::{EventInfo, Weight},
    classify::{KnownStack, NextSp},
    kernel::{sampled::SampledKernel, stacks::CpuStackTable},
    profile::{Meta, Missing, Totals, Unit},
    unwind::kernel::{TextMap, TextRange},
};

/// The process ID of stacks that are of several processes.
pub const NO_PID: u32 = u32::MAX;
/// Where addresses of the kernel begin that are not made up, in a recording that is
/// [named](Head::named).
pub const MADE_UP_KERNEL_END: u64 = 1 << 32;

/// The first chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// What wrote it.
    pub tool: String,
    /// What was sampled, in the words of the command line.
    pub title: String,
    /// Version of the records (`walker_common::wire::WIRE_VERSION`).
    pub wire_version: u16,
    /// Whether the records were kept; only walked stacks otherwise.
    pub evidence: bool,
    /// Whether all stacks had names before they were recorded: what has none has none, and addresses
    /// of the kernel below [`MADE_UP_KERNEL_END`] are made up.
    #[serde(default)]
    pub named: bool,
    /// The machine.
    pub host: Host,
    /// When it began, in nanoseconds since 1970.
    pub began_realtime_ns: u64,
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub began_monotonic_ns: u64,
    /// The events, by number.
    pub events: Vec<EventHead>,
    /// How it was sampled.
    pub options: Options,
    /// The kernel, if its stacks were walked.
    pub kernel: Option<KernelHead>,
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -v`.
    pub kernel_version: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// CPUs with an event.
    pub cpus: u32,
}

/// How it was sampled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether kernel stacks were captured.
    pub kernel: bool,
    /// The most bytes that were copied of a user stack; 0 for none.
    pub user_stack_max: u32,
    /// Whether samples of idle CPUs were kept.
    pub idle: bool,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHead {
    /// Its name.
    pub name: String,
    /// What its samples weigh.
    pub weight: WeightHead,
    /// Times a second on each CPU, if that was aimed at.
    pub frequency: Option<u64>,
    /// Where its function begins, if it was called by a trampoline there.
    pub entry: Option<(u64, u64)>,
    /// Whether a tracepoint reported it.
    pub traced: bool,
    /// Whether its samples are waits, which are told when they are over.
    #[serde(default)]
    pub waits: bool,
    /// Whether its samples are interrupts, which have a note.
    #[serde(default)]
    pub interrupts: bool,
}

/// What a sample weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightHead {
    /// So many events.
    Events(u64),
    /// So many nanoseconds.
    Nanoseconds(u64),
    /// The time that it took, in nanoseconds.
    Duration,
}

impl From<&EventInfo> for EventHead {
    fn from(event: &EventInfo) -> Self {
        Self {
            name: event.name.clone(),
            weight: match event.weight {
                Weight::Events(events) => WeightHead::Events(events),
                Weight::Nanoseconds(nanoseconds) => WeightHead::Nanoseconds(nanoseconds),
                Weight::Duration => WeightHead::Duration,
            },
            frequency: event.frequency,
            entry: event.entry.map(|range| (range.begin, range.end)),
            traced: event.traced,
            waits: false,
            interrupts: false,
        }
    }
}

impl EventHead {
    /// An event that is counted by ones, so many times a second on each CPU if that was aimed at.
    #[must_use]
    pub fn counted(name: &str, frequency: Option<u64>) -> Self {
        Self {
            name: name.to_owned(),
            weight: WeightHead::Events(1),
            frequency,
            entry: None,
            traced: false,
            waits: false,
            interrupts: false,
        }
    }

    /// The range of its function's entry.
    #[must_use]
    pub fn entry(&self) -> Option<TextRange> {
        self.entry.map(|(begin, end)| TextRange { begin, end })
    }
}

impl Head {
    /// What is recorded, and how; not for how long, and where samples went.
    #[must_use]
    pub fn meta(&self) -> Meta {
        let events = &self.events;
        Meta {
            title: self.title.clone(),
            events: events.iter().map(|event| event.name.clone()).collect(),
            unit: unit(events),
            frequency: match events.as_slice() {
                [event] => event.frequency.filter(|frequency| *frequency > 0),
                _ => None,
            },
            ..Meta::default()
        }
    }
}

/// What the weights of these events can be shown in together.
fn unit(events: &[EventHead]) -> Unit {
    let weighs = |weight: fn(WeightHead) -> bool| events.iter().any(|event| weight(event.weight));
    if weighs(|weight| matches!(weight, WeightHead::Nanoseconds(_) | WeightHead::Duration)) {
        Unit::Nanoseconds
    } else if weighs(|weight| weight != WeightHead::Events(1)) {
        Unit::Events
    } else {
        Unit::Samples
    }
}

/// The facts about the kernel that walks use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelHead {
    /// Bytes of a task's kernel stack.
    pub thread_size: u64,
    /// Where the kernel's text begins (`_stext`).
    pub stext: u64,
    /// Tells kernels apart whose text symbols differ, wherever they were loaded
    /// (`Kallsyms::digest`).
    pub kallsyms_digest: u32,
    /// Text of which the bounds are known.
    pub text: Vec<(u64, u64)>,
    /// Where code is placed at run time.
    pub dynamic_text: Option<(u64, u64)>,
    /// Where each unwind table begins, and how many entries it has; the entries follow in chunks.
    pub orc: Vec<(u64, u64)>,
    /// The CPUs that were online, by number.
    pub cpus: Vec<Option<CpuHead>>,
    /// Field offsets, as BTF told them.
    pub offsets: serde_json::Value,
}

/// A CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuHead {
    /// Start of its per-CPU area.
    pub base: u64,
    /// Whether its IRQ stack keeps the interrupted stack pointer above its pointer.
    pub irq_stack_has_link: bool,
    /// Its stacks, in the order of the search.
    pub stacks: Vec<StackHead>,
}

/// A stack of a CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackHead {
    /// Its kind, as an oops calls it.
    pub kind: String,
    /// Lowest address.
    pub begin: u64,
    /// First address past it.
    pub end: u64,
    /// Whether a stack pointer equal to `end` is on it.
    pub may_be_empty: bool,
    /// Where it keeps the interrupted stack pointer: so many bytes below its end.
    pub next_sp_below_end: Option<u64>,
}

impl From<&KnownStack> for StackHead {
    fn from(stack: &KnownStack) -> Self {
        Self {
            kind: stack.kind.name().to_owned(),
            begin: stack.begin,
            end: stack.end,
            may_be_empty: stack.may_be_empty,
            // All of x86_64; a sample is of no other architecture.
            next_sp_below_end: match stack.next_sp {
                NextSp::BelowEnd(distance) => Some(distance),
                NextSp::None | NextSp::AtBegin | NextSp::Value(_) => None,
            },
        }
    }
}

impl StackHead {
    /// The stack; `None` if no stack can be like that.
    fn known(&self) -> Option<KnownStack> {
        let kind = StackKind::ALL
            .into_iter()
            .find(|kind| kind.name() == self.kind)?;
        (self.begin < self.end).then_some(KnownStack {
            kind,
            begin: self.begin,
            end: self.end,
            may_be_empty: self.may_be_empty,
            next_sp: self
                .next_sp_below_end
                .map_or(NextSp::None, NextSp::BelowEnd),
        })
    }
}

impl KernelHead {
    /// The facts of a kernel. Its offsets and digest are added by who knows them.
    #[must_use]
    pub fn of(kernel: &SampledKernel, stext: u64) -> Self {
        let range = |range: &TextRange| (range.begin, range.end);
        Self {
            thread_size: kernel.thread_size,
            stext,
            kallsyms_digest: 0,
            text: kernel.tables.text.ranges.iter().map(range).collect(),
            dynamic_text: kernel.tables.text.dynamic.as_ref().map(range),
            orc: kernel
                .tables
                .orc
                .iter()
                .map(|table| (table.begin(), table.len() as u64))
                .collect(),
            cpus: kernel
                .cpus
                .iter()
                .map(|cpu| {
                    let table = cpu.as_ref()?;
                    Some(CpuHead {
                        base: table.base,
                        irq_stack_has_link: table.irq_stack_has_link,
                        stacks: table.stacks.iter().map(StackHead::from).collect(),
                    })
                })
                .collect(),
            offsets: serde_json::Value::Null,
        }
    }

    /// The kernel as walks need it, without unwind tables.
    #[must_use]
    pub fn sampled(&self) -> SampledKernel {
        let range = |&(begin, end): &(u64, u64)| TextRange { begin, end };
        let mut kernel = SampledKernel {
            thread_size: self.thread_size,
            ..SampledKernel::default()
        };
        kernel.tables.text = TextMap {
            ranges: self.text.iter().map(range).collect(),
            dynamic: self.dynamic_text.as_ref().map(range),
        };
        kernel.cpus = self
            .cpus
            .iter()
            .map(|cpu| {
                let cpu = cpu.as_ref()?;
                Some(CpuStackTable {
                    base: cpu.base,
                    irq_stack_has_link: cpu.irq_stack_has_link,
                    stacks: cpu.stacks.iter().filter_map(StackHead::known).collect(),
                })
            })
            .collect();
        kernel
    }
}

/// Where the events went, so far or in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How long it had been recorded, in nanoseconds.
    pub duration_ns: u64,
    /// How often the events fired.
    pub taken: u64,
    /// Samples that were delivered.
    pub delivered: u64,
    /// Lost, by reason.
    pub lost: Vec<(String, u64)>,
    /// Filtered, by reason.
    pub filtered: Vec<(String, u64)>,
    /// Records whose bytes were not kept because the disk was too slow; their stacks were.
    pub bytes_dropped: u64,
    /// Lines for the user that have no place elsewhere.
    pub notes: Vec<String>,
    /// The command, if one was sampled and ended by itself.
    #[serde(default)]
    pub command: Option<CommandEnd>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandEnd {
    /// Its exit status, as a shell shows it.
    pub status: u8,
    /// CPU time that it and the children it waited for took, in nanoseconds.
    pub cpu_ns: u64,
}

impl Counts {
    /// The counts of a profile's totals.
    #[must_use]
    pub fn new(totals: &Totals, duration: Duration) -> Self {
        let pairs = |missing: &[Missing]| {
            let pair = |entry: &Missing| (entry.reason.to_string(), entry.samples);
            missing.iter().map(pair).collect()
        };
        Self {
            duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            taken: totals.taken,
            delivered: totals.delivered,
            lost: pairs(&totals.lost),
            filtered: pairs(&totals.filtered),
            bytes_dropped: 0,
            notes: Vec::new(),
            command: None,
        }
    }

    /// As a profile has them.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let missing = |pairs: &[(String, u64)]| {
            let entry = |(reason, samples): &(String, u64)| Missing {
                reason: reason.clone().into(),
                samples: *samples,
            };
            pairs.iter().map(entry).collect()
        };
        Totals {
            taken: self.taken,
            delivered: self.delivered,
            lost: missing(&self.lost),
            filtered: missing(&self.filtered),
        }
    }
}

impl Host {
    /// The machine that this runs on.
    #[must_use]
    pub fn this(cpus: u32) -> Self {
        let of_kernel = |name: &str| one_line(&format!("/proc/sys/kernel/{name}"));
        Self {
            name: of_kernel("hostname"),
            kernel_release: of_kernel("osrelease"),
            kernel_version: of_kernel("version"),
            boot_id: boot_id(),
            cpus,
        }
    }
}

/// What tells this boot of this machine from all others; empty if it is not known.
#[must_use]
pub fn boot_id() -> String {
    one_line("/proc/sys/kernel/random/boot_id")
}

fn one_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}
