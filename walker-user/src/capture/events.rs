//! The events of a recording: opening what was asked for on this kernel, and saying what works
//! instead where it does not.
//!
//! Their order is their index, by which the BPF programs and the records know them.

use std::{ffi::CString, fs, path::Path};

use anyhow::{Context as _, anyhow, bail, ensure};
use perf_event_open_sys::bindings;
use walker_common::{
    maps::{ENTRY_SLOTS, EXIT_SLOTS, EventConfig, MAX_EVENTS, TRACE_SLOTS, names},
    wire::Start,
};

use super::{
    clock,
    event::{EventKind, EventSpec, Modifiers, PerfEvent, Watchpoint},
    event_error::{explain_tracepoint, explain_trampoline, explain_watch},
    event_place::{WatchedPlace, file_offset, function_address},
    object::Object,
};
use crate::{
    btf::Btf,
    kernel::running::RunningKernel,
    sys::{
        bpf::wait_for_programs,
        perf::{Attributes, Probe, Rate, SamplingEvent, Watch},
    },
    unwind::kernel::TextRange,
};

/// Where the kernel lists its kinds of perf events.
const EVENT_SOURCES: &str = "/sys/bus/event_source/devices";
/// How long the code at the beginning of a function is that calls its trampoline.
const ENTRY_BYTES: u64 = 32;

/// How often samples are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// So many a second on each CPU, of clocks and hardware events.
    pub frequency: Option<u64>,
    /// Every how many events, of any kind.
    pub period: Option<u64>,
}

/// What a sample of an event weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// So many events.
    Events(u64),
    /// So many nanoseconds.
    Nanoseconds(u64),
    /// The time that it took, in nanoseconds.
    Duration,
}

/// One event of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventInfo {
    /// What it is called in every output.
    pub name: String,
    /// What its samples weigh.
    pub weight: Weight,
    /// Where its function begins, if it is called by a trampoline there.
    pub entry: Option<TextRange>,
    /// Times a second on each CPU, if that is aimed at.
    pub frequency: Option<u64>,
    /// A tracepoint reports it: the functions that call its programs are no part of the stack.
    pub traced: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct EventsWanted {
    /// Those of `-e`, or the clock that suits this machine if there are none.
    pub specs: Vec<EventSpec>,
    /// How often.
    pub rates: Rates,
    /// Tasks that wait.
    pub waits: Option<Waits>,
    /// Interrupts.
    pub irqs: bool,
}

impl EventsWanted {
    /// The clock that suits this machine, so many times a second on each CPU.
    #[must_use]
    pub fn clock(frequency: u64) -> Self {
        Self {
            specs: vec![clock::choose()],
            rates: Rates {
                frequency: Some(frequency),
                period: None,
            },
            waits: None,
            irqs: false,
        }
    }
}

/// Which tasks that do not run are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Those that went to sleep.
    Blocked,
    /// Also those that could run.
    All,
}

/// What events are opened on.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// The kernel.
    pub kernel: &'a RunningKernel,
    /// Its CPUs that are online.
    pub cpus: &'a [u32],
    /// The processes that are sampled; none if all are.
    pub pids: &'a [u32],
}

/// The opened events.
#[derive(Debug)]
pub struct Events {
    specs: Vec<EventSpec>,
    infos: Vec<EventInfo>,
    rates: Rates,
    /// Open perf events, each with the index of its event.
    perf: Vec<(u32, SamplingEvent)>,
    waits: Option<(u32, Waits)>,
    irqs: Option<u32>,
}

/// What the BPF object has to know of the events before it is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventSwitches {
    /// Programs can nest: there are others than those of perf events.
    pub nested: bool,
    /// The event of tasks that wait.
    pub waits: Option<(u32, Waits)>,
    /// The event of interrupts.
    pub irqs: Option<u32>,
}

impl Events {
    /// Opens what needs no more than the perf subsystem: a missing privilege and a rate that is too
    /// high are told before any longer work.
    ///
    /// # Errors
    /// With what this kernel refuses, and what works instead.
    pub fn open(wanted: &EventsWanted, cpus: &[u32]) -> anyhow::Result<Self> {
        let mut events = Self {
            specs: wanted.specs.clone(),
            infos: Vec::new(),
            rates: wanted.rates,
            perf: Vec::new(),
            waits: None,
            irqs: None,
        };
        let timed = wanted.waits.is_some() || wanted.irqs;
        let count =
            wanted.specs.len() + usize::from(wanted.waits.is_some()) + usize::from(wanted.irqs);
        ensure!(
            count <= MAX_EVENTS as usize,
            "{count} events are more than the {MAX_EVENTS} that one recording can hold"
        );
        for (index, spec) in wanted.specs.iter().enumerate() {
            let index = u32::try_from(index)?;
            let mut frequency = None;
            let weight = match spec.kind {
                EventKind::Perf(event) => {
                    let rate = rate_of(event, wanted.rates);
                    if let Rate::Frequency(aimed) = rate {
                        frequency = Some(aimed);
                    }
                    events.open_perf(index, spec, &attributes_of(event, rate), cpus)?;
                    weight_of(event, rate, timed)
                }
                _ => Weight::Events(wanted.rates.period.unwrap_or(1)),
            };
            ensure!(
                !timed || matches!(weight, Weight::Nanoseconds(_)),
                "`{spec}` counts and does not measure time, so it cannot be in one picture with \
                 waits or interrupts: record it for itself, or use -e cpu-clock"
            );
            events.infos.push(EventInfo {
                name: spec.name.clone(),
                weight,
                entry: None,
                frequency,
                traced: matches!(spec.kind, EventKind::Tracepoint { .. }),
            });
        }
        if let Some(waits) = wanted.waits {
            events.waits = Some((events.add_timed("off-cpu"), waits));
        }
        if wanted.irqs {
            events.irqs = Some(events.add_timed("irq"));
        }
        Ok(events)
    }

    fn add_timed(&mut self, name: &str) -> u32 {
        self.infos.push(EventInfo {
            name: name.to_owned(),
            weight: Weight::Duration,
            entry: None,
            frequency: None,
            traced: true,
        });
        self.infos.len() as u32 - 1
    }

    /// What the BPF object has to know of them.
    #[must_use]
    pub fn switches(&self) -> EventSwitches {
        let only_perf = |spec: &EventSpec| matches!(spec.kind, EventKind::Perf(_));
        EventSwitches {
            nested: self.waits.is_some()
                || self.irqs.is_some()
                || !self.specs.iter().all(only_perf),
            waits: self.waits,
            irqs: self.irqs,
        }
    }

    /// What they are, by index.
    #[must_use]
    pub fn infos(&self) -> &[EventInfo] {
        &self.infos
    }

    fn open_perf(
        &mut self,
        index: u32,
        spec: &EventSpec,
        attributes: &Attributes,
        cpus: &[u32],
    ) -> anyhow::Result<()> {
        for &cpu in cpus {
            match SamplingEvent::open(attributes, cpu) {
                Ok(event) => self.perf.push((index, event)),
                // A CPU that went offline meanwhile is left out.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(clock::explain(error, &spec.name, cpu, attributes)),
            }
        }
        Ok(())
    }

    /// Opens the others, and has the BPF programs run at all of them.
    ///
    /// # Errors
    /// With what this kernel refuses, and what works instead.
    pub fn attach(&mut self, object: &mut Object, on: &Machine<'_>) -> anyhow::Result<()> {
        let mut slots = Slots::default();
        for index in 0..self.specs.len() {
            let spec = self.specs[index].clone();
            self.attach_one(index as u32, &spec, object, on, &mut slots)
                .with_context(|| format!("cannot use the event `{spec}`"))?;
        }
        for (index, event) in &mut self.perf {
            let spec = self.specs.get(*index as usize);
            object.attach_perf(program_of(spec.map(|spec| &spec.kind)), event, *index)?;
        }
        let timed = self
            .waits
            .map(|(event, _)| event)
            .into_iter()
            .chain(self.irqs);
        for event in timed {
            let every_one = EventConfig {
                period: 1,
                start: Start::Caller as u64,
            };
            object.set_event(event, &every_one)?;
        }
        if self.waits.is_some() {
            object.attach_raw_tracepoint(names::PROG_WAKING, "sched_waking")?;
            object.attach_raw_tracepoint(names::PROG_SWITCH, "sched_switch")?;
        }
        if self.irqs.is_some() {
            attach_irqs(object)?;
        }
        Ok(())
    }

    fn attach_one(
        &mut self,
        index: u32,
        spec: &EventSpec,
        object: &mut Object,
        on: &Machine<'_>,
        slots: &mut Slots,
    ) -> anyhow::Result<()> {
        object.set_event(index, &config_of(&spec.kind, self.rates))?;
        match &spec.kind {
            EventKind::Perf(_) => {}
            EventKind::Watch(watch) => self.open_watch(index, spec, watch, on)?,
            EventKind::Tracepoint { category, name } => {
                let slot = slots.next(Slot::Trace)?;
                object.set_slot(slot, index)?;
                let program = names::PROG_TRACE[slot as usize];
                object
                    .attach_raw_tracepoint(program, name)
                    .map_err(|error| explain_tracepoint(error, category, name))?;
            }
            EventKind::Entry { function } | EventKind::Exit { function } => {
                let at_end = matches!(spec.kind, EventKind::Exit { .. });
                let address = function_address(function)?;
                let slot = slots.next(if at_end { Slot::Exit } else { Slot::Entry })?;
                object.set_slot(slot, index)?;
                object
                    .attach_trampoline(slot, function)
                    .map_err(|error| explain_trampoline(&error, function, at_end))?;
                self.infos[index as usize].entry = Some(TextRange {
                    begin: address,
                    end: address + ENTRY_BYTES,
                });
            }
            EventKind::Kprobe {
                function,
                offset,
                returns,
            } => {
                function_address(function)?;
                let place = CString::new(function.as_str())?;
                let probe = Probe {
                    place,
                    offset: *offset,
                };
                self.open_probe(index, "kprobe", probe, *returns)?;
            }
            EventKind::Uprobe {
                binary,
                symbol,
                offset,
                returns,
            } => {
                let base = match symbol {
                    Some(symbol) => file_offset(binary, symbol)?,
                    None => 0,
                };
                let path = fs::canonicalize(binary)
                    .with_context(|| format!("cannot find {}", binary.display()))?;
                let place = CString::new(path.into_os_string().into_encoded_bytes())?;
                let offset = base.wrapping_add(*offset);
                self.open_probe(index, "uprobe", Probe { place, offset }, *returns)?;
            }
        }
        Ok(())
    }

    /// A probe is there for all CPUs.
    fn open_probe(
        &mut self,
        index: u32,
        source: &str,
        probe: Probe,
        returns: bool,
    ) -> anyhow::Result<()> {
        let folder = Path::new(EVENT_SOURCES).join(source);
        let read = |file: &str| fs::read_to_string(folder.join(file));
        let kind = read("type").ok().and_then(|text| text.trim().parse().ok());
        let Some(kind) = kind else {
            match source {
                "kprobe" => bail!(
                    "this kernel has no kprobes (CONFIG_KPROBE_EVENTS): a tracepoint \
                     (`-e CATEGORY:NAME`) or `-e uprobe:BINARY:SYMBOL` works"
                ),
                _ => bail!(
                    "this kernel has no uprobes (CONFIG_UPROBE_EVENTS): a tracepoint \
                     (`-e CATEGORY:NAME`) works"
                ),
            }
        };
        // Such as `config:0`.
        let return_bit = read("format/retprobe").ok();
        let return_bit =
            return_bit.and_then(|text| text.trim().strip_prefix("config:")?.parse().ok());
        let config = match returns {
            true => 1 << return_bit.unwrap_or(0_u32),
            false => 0,
        };
        let attributes = Attributes {
            probe: Some(probe),
            ..Attributes::new(kind, config, Rate::Period(1))
        };
        match SamplingEvent::open(&attributes, 0) {
            Ok(event) => {
                self.perf.push((index, event));
                Ok(())
            }
            Err(error) => Err(anyhow!(
                "the kernel refuses a probe there ({error}): code that probes themselves need \
                 cannot be probed, nor can the middle of an instruction"
            )),
        }
    }

    fn open_watch(
        &mut self,
        index: u32,
        spec: &EventSpec,
        watch: &Watchpoint,
        on: &Machine<'_>,
    ) -> anyhow::Result<()> {
        let place = WatchedPlace::find(&watch.place, on.pids)?;
        for &cpu in on.cpus {
            let address = match place {
                WatchedPlace::Fixed(address) => address,
                WatchedPlace::PerCpu(offset) => {
                    let table = on.kernel.cpus().find(|(number, _)| *number == cpu);
                    let (_, table) = table.with_context(|| format!("CPU {cpu} is not known"))?;
                    table.base.wrapping_add(offset)
                }
            };
            let attributes = Attributes {
                watch: Some(Watch {
                    address,
                    length: watch.length,
                    access: watch.access,
                }),
                ..Attributes::new(
                    bindings::PERF_TYPE_BREAKPOINT,
                    0,
                    Rate::Period(self.rates.period.unwrap_or(1)),
                )
            };
            match SamplingEvent::open(&attributes, cpu) {
                Ok(event) => self.perf.push((index, event)),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(explain_watch(error, watch, spec, cpu)),
            }
        }
        Ok(())
    }

    /// Starts all of them.
    ///
    /// # Errors
    /// If one cannot be enabled.
    pub fn start(&self, object: &mut Object) -> anyhow::Result<()> {
        object.set_enabled(true)?;
        for (_, event) in &self.perf {
            event.enable().context("cannot start a perf event")?;
        }
        Ok(())
    }

    /// Stops all of them.
    ///
    /// # Errors
    /// If one cannot be disabled.
    pub fn stop(&self, object: &mut Object) -> anyhow::Result<()> {
        for (_, event) in &self.perf {
            event.disable().context("cannot stop a perf event")?;
        }
        object.set_enabled(false)?;
        // One that has begun still has to say what became of its event.
        wait_for_programs();
        Ok(())
    }

    /// Closes them, and keeps what they were.
    #[must_use]
    pub fn into_infos(self) -> Vec<EventInfo> {
        self.infos
    }
}

/// The program that takes the samples of an event that is opened as a perf event.
const fn program_of(kind: Option<&EventKind>) -> &'static str {
    match kind {
        Some(EventKind::Kprobe { .. } | EventKind::Uprobe { .. }) => names::PROG_PROBE,
        // These come no faster than they are asked for.
        Some(EventKind::Perf(event)) if event.is_clock() || event.is_hardware() => {
            names::PROG_CAPTURE
        }
        _ => names::PROG_CAPTURE_EVENT,
    }
}

/// How an event is taken by the programs. perf events are counted by the kernel.
fn config_of(kind: &EventKind, rates: Rates) -> EventConfig {
    let (period, start) = match kind {
        EventKind::Perf(event) if event.is_of_scheduler() => (1, Start::Frame),
        EventKind::Perf(_) => (1, Start::Registers),
        EventKind::Watch(_) => (1, Start::Caller),
        _ => (rates.period.unwrap_or(1), Start::Registers),
    };
    EventConfig {
        period,
        start: start as u64,
    }
}

/// By frequency what measures time or work; everything that is counted one by one otherwise.
fn rate_of(event: PerfEvent, rates: Rates) -> Rate {
    match (rates.period, rates.frequency) {
        (Some(period), _) => Rate::Period(period),
        (None, Some(frequency)) if event.is_clock() || event.is_hardware() => {
            Rate::Frequency(frequency)
        }
        (None, _) => Rate::Period(1),
    }
}

/// A period of a clock is in nanoseconds.
const fn weight_of(event: PerfEvent, rate: Rate, timed: bool) -> Weight {
    match rate {
        Rate::Frequency(frequency) if timed && event.is_clock() => {
            Weight::Nanoseconds(1_000_000_000 / frequency)
        }
        Rate::Period(period) if timed && event.is_clock() => Weight::Nanoseconds(period),
        Rate::Period(period) if !event.is_clock() => Weight::Events(period),
        _ => Weight::Events(1),
    }
}

fn attributes_of(event: PerfEvent, rate: Rate) -> Attributes {
    let Modifiers {
        user,
        kernel,
        precise,
    } = event.modifiers;
    Attributes {
        exclude_user: kernel && !user,
        exclude_kernel: user && !kernel,
        precise,
        ..Attributes::new(event.kind, event.config, rate)
    }
}

/// The slots of programs that are there several times.
#[derive(Debug, Default)]
struct Slots {
    used: [u32; 3],
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Trace,
    Entry,
    Exit,
}

impl Slots {
    /// The next free one, counted over all kinds.
    fn next(&mut self, kind: Slot) -> anyhow::Result<u32> {
        let (first, count, what) = match kind {
            Slot::Trace => (0, TRACE_SLOTS, "tracepoints"),
            Slot::Entry => (TRACE_SLOTS, ENTRY_SLOTS, "fentry events"),
            Slot::Exit => (TRACE_SLOTS + ENTRY_SLOTS, EXIT_SLOTS, "fexit events"),
        };
        let used = &mut self.used[kind as usize];
        ensure!(
            *used < count,
            "there can be {count} {what} in one recording"
        );
        *used += 1;
        Ok(first + *used - 1)
    }
}

/// Interrupts that CPUs send themselves and each other: pairs of tracepoints that not every kernel
/// has all of.
///
/// `irq_work` is not one of them: with it the ring buffer's reader is woken, so that it would cause
/// itself.
const VECTORS: [&str; 6] = [
    "local_timer",
    "reschedule",
    "call_function",
    "call_function_single",
    "x86_platform_ipi",
    "thermal_apic",
];

fn attach_irqs(object: &mut Object) -> anyhow::Result<()> {
    for (program, tracepoint) in [
        (names::PROG_IRQ_ENTRY, "irq_handler_entry"),
        (names::PROG_IRQ_EXIT, "irq_handler_exit"),
        (names::PROG_SOFTIRQ_ENTRY, "softirq_entry"),
        (names::PROG_SOFTIRQ_EXIT, "softirq_exit"),
    ] {
        object.attach_raw_tracepoint(program, tracepoint)?;
    }
    let btf = Btf::of_running_kernel()?;
    for vector in VECTORS {
        let [entry, exit] = ["entry", "exit"].map(|end| format!("{vector}_{end}"));
        if btf.tracepoint_arguments(&entry).is_some() && btf.tracepoint_arguments(&exit).is_some() {
            object.attach_raw_tracepoint(names::PROG_VECTOR_ENTRY, &entry)?;
            object.attach_raw_tracepoint(names::PROG_VECTOR_EXIT, &exit)?;
        }
    }
    Ok(())
}
