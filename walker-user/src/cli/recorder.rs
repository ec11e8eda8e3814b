//! What `record` does with every record: walks it and puts it into the recording.

use std::{
    fs::File,
    io,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use walker_common::wire::{WIRE_VERSION, WaitEnd};

use super::{
    run::Observer,
    summary::{self, Dropped, Walks},
};
use crate::{
    capture::{
        events::{EventInfo, Weight},
        object::Sides,
        record::{Record, Sample},
        session::{Captured, Session},
    },
    classify::StackUse,
    interrupts,
    kernel::sampled::interrupted_stack,
    recording::{
        head::{Counts, EventHead, Head, Host, KernelHead, Options},
        sink::{Sampled, Sink},
        writer::Writer,
    },
    resolve::Addresses,
    stack_tree::{Place, Process, RawFrame, StackTree},
    sys::clock::monotonic_ns,
    unwind::{self, StopReason},
    user_side::UserSide,
    waits::{Begun, Bounds, Waited, Waits},
};

/// What is to be recorded.
pub(super) struct RecorderOptions {
    /// What to call it.
    pub(super) title: String,
    /// Which sides of a sample.
    pub(super) sides: Sides,
    /// Which waits.
    pub(super) bounds: Bounds,
    /// Whether idle CPUs are sampled.
    pub(super) idle: bool,
    /// Whether the records are kept, or only walked stacks.
    pub(super) evidence: bool,
}

/// A sample whose weight is not known yet.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    record: u64,
    cpu: u32,
    place: Place,
    stop: StopReason,
    reporting: u8,
    uses: Vec<StackUse>,
}

/// Puts the recording's file in its place.
pub(super) type PutInPlace = Box<dyn FnOnce() -> anyhow::Result<()>>;

/// Collects the samples.
pub(super) struct Recorder {
    options: RecorderOptions,
    file: Option<File>,
    put_in_place: Option<PutInPlace>,
    pub(super) sink: Option<Sink>,
    began: Instant,
    pub(super) user_side: Option<UserSide>,
    frames: Vec<unwind::Frame>,
    raw: Vec<RawFrame>,
    uses: Vec<StackUse>,
    pub(super) tree: StackTree,
    /// The addresses of frames that the tree has forgotten.
    pub(super) addresses: Addresses,
    pub(super) walks: Walks,
    pub(super) waits: Waits<Taken>,
    wait_event: Option<u32>,
    irq_event: Option<u32>,
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// Samples that arrived.
    pub(super) samples: u64,
}

impl Recorder {
    /// Records into `file`, which is put in its place when the sampling has started: a mistake that
    /// is found before leaves nothing behind.
    pub(super) fn new(options: RecorderOptions, file: File, put_in_place: PutInPlace) -> Self {
        let sides = options.sides;
        Self {
            file: Some(file),
            put_in_place: Some(put_in_place),
            sink: None,
            began: Instant::now(),
            user_side: (sides.user_budget > 0).then(|| UserSide::new(sides.user_budget_max)),
            frames: Vec::new(),
            raw: Vec::new(),
            uses: Vec::new(),
            tree: StackTree::default(),
            addresses: Addresses::default(),
            walks: Walks::default(),
            waits: Waits::new(options.bounds),
            wait_event: None,
            irq_event: None,
            bytes: 0,
            samples: 0,
            options,
        }
    }

    fn head(&self, session: &Session) -> Head {
        let kernel = &session.kernel;
        let stext = kernel.symbols.address("_stext").unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut events: Vec<EventHead> = session.events().iter().map(EventHead::from).collect();
        for (number, event) in (0..).zip(&mut events) {
            event.waits = self.wait_event == Some(number);
            event.interrupts = self.irq_event == Some(number);
        }
        Head {
            tool: concat!("stackwalk ", env!("CARGO_PKG_VERSION")).to_owned(),
            title: self.options.title.clone(),
            wire_version: WIRE_VERSION,
            evidence: self.options.evidence,
            host: Host::this(session.cpus().len() as u32),
            began_realtime_ns: now.map_or(0, |now| now.as_nanos() as u64),
            began_monotonic_ns: monotonic_ns(),
            events,
            options: Options {
                kernel: self.options.sides.kernel,
                user_stack_max: match self.user_side {
                    Some(_) => self.options.sides.user_budget_max,
                    None => 0,
                },
                idle: self.options.idle,
            },
            kernel: Some(KernelHead {
                kallsyms_digest: kernel.symbols.digest(),
                offsets: serde_json::to_value(&kernel.offsets).unwrap_or_default(),
                ..KernelHead::of(&kernel.sampled, stext)
            }),
        }
    }

    fn sample(&mut self, captured: &Captured<'_>, sample: &Sample<'_>, record: u64) {
        let header = sample.header();
        self.bytes += u64::from(header.size);
        self.samples += 1;
        let event = captured.events.get(header.event as usize);
        if let Some(user_side) = &mut self.user_side {
            user_side.at_record(record);
        }
        let (stop, reporting) = self.walk(captured, event, sample);
        let process = Process {
            pid: header.pid,
            comm: header.comm,
        };
        let place = self.tree.place(process, &self.raw);
        let taken = Taken {
            record,
            cpu: header.cpu,
            place,
            stop,
            reporting,
            uses: std::mem::take(&mut self.uses),
        };
        if self.wait_event == Some(header.event) {
            self.waits.begin(Begun {
                tid: header.tid,
                since_ns: header.time_ns,
                sample: taken,
                runnable: header.subject == 0,
            });
            return;
        }
        let weight = match event.map(|event| event.weight) {
            Some(Weight::Events(weight) | Weight::Nanoseconds(weight)) => weight,
            Some(Weight::Duration) => header.duration_ns,
            None => 1,
        };
        let note = (self.irq_event == Some(header.event)).then(|| interrupts::name(header));
        self.count(
            header.time_ns,
            header.tid,
            header.event,
            taken,
            note,
            weight,
        );
    }

    fn count(
        &mut self,
        time_ns: u64,
        tid: u32,
        event: u32,
        taken: Taken,
        note: Option<String>,
        weight: u64,
    ) {
        let place = match note {
            Some(note) => self.tree.noted(taken.place, &note),
            None => taken.place,
        };
        if let Some(sink) = &mut self.sink {
            sink.sample(&Sampled {
                record: taken.record,
                time_ns,
                tid,
                cpu: taken.cpu,
                event,
                place,
                stop: taken.stop,
                reporting: taken.reporting,
                weight,
                uses: &taken.uses,
            });
        }
        // Most samples are counted at once, and the next can use the memory.
        self.uses = taken.uses;
        self.uses.clear();
    }

    /// Walks both sides of a sample into `raw`, leaf first; also returns how many frames at the leaf
    /// were left out because they only report the event.
    fn walk(
        &mut self,
        captured: &Captured<'_>,
        event: Option<&EventInfo>,
        sample: &Sample<'_>,
    ) -> (StopReason, u8) {
        self.raw.clear();
        self.uses.clear();
        let mut stop = StopReason::UserSample;
        let mut reporting = 0;
        if self.options.sides.kernel {
            stop = captured.walk(sample, &mut self.frames);
            let mut frames = self.frames.as_slice();
            if event.is_some_and(|event| event.traced) {
                while let [first, rest @ ..] = frames
                    && reporting < u8::MAX
                    && captured.kernel.symbols.is_reporting(first.lookup_address())
                {
                    frames = rest;
                    reporting += 1;
                }
            }
            self.walks
                .add(interrupted_stack(frames), &stop, sample.lacks_cpu_table());
            self.raw.extend(frames.iter().map(RawFrame::kernel));
            let kernel = &captured.kernel.sampled;
            self.uses.extend(kernel.stack_uses(sample, &self.frames));
        }
        if let Some(user_side) = &mut self.user_side
            && let Some(end) = user_side.walk(sample, &mut self.raw)
        {
            self.walks.add_user(&end);
            // What is missing of the kernel's side is missing from the whole.
            if stop.is_complete() {
                stop = end;
            }
        }
        (stop, reporting)
    }

    fn wait_end(&mut self, end: &WaitEnd) {
        self.bytes += u64::from(end.size);
        if let Some(waited) = self.waits.end(end) {
            self.count_wait(waited);
        }
    }

    fn count_wait(&mut self, waited: Waited<Taken>) {
        let event = self.wait_event.unwrap_or_default();
        self.count(
            waited.since_ns,
            waited.tid,
            event,
            waited.sample,
            waited.note,
            waited.duration_ns,
        );
    }

    /// No more records will come: what waits still has waited until now.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for waited in self.waits.still_waiting(monotonic_ns()) {
            self.count_wait(waited);
        }
        match &mut self.sink {
            Some(sink) => sink.write_rows(&self.tree, self.user_side.as_mut()),
            None => Ok(()),
        }
    }

    /// Takes note of the addresses of all frames that the tree has not forgotten.
    pub(super) fn take_addresses(&mut self) {
        let (tree, processes) = (&self.tree, self.tree.processes());
        self.addresses.add_nodes(
            tree.first_node(),
            tree.nodes().iter().copied().map(Some),
            |process| processes[process as usize].pid,
        );
    }

    /// What user space did not keep.
    pub(super) fn dropped(&self, malformed: u64) -> Dropped {
        let sink = self.sink.as_ref().map(Sink::counters).unwrap_or_default();
        Dropped {
            malformed,
            filtered_waits: self.waits.filtered(),
            lost_waits: self.waits.lost(),
            slow_disk: sink.samples_dropped,
        }
    }

    fn counts(&self, session: &Session) -> anyhow::Result<Counts> {
        let counters = session.counters()?.into_iter().sum();
        let totals = summary::totals(&counters, &self.dropped(session.malformed()));
        Ok(Counts::new(&totals, self.began.elapsed()))
    }
}

impl Observer for Recorder {
    fn prepare(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let switches = session.switches();
        self.wait_event = switches.waits.map(|(event, _)| event);
        self.irq_event = switches.irqs;
        if let Some(user_side) = &mut self.user_side {
            if self.options.evidence {
                user_side.keep_evidence();
            }
            user_side.follow(session.cpus(), session.targets())?;
        }
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let writer = Writer::start(file).context("cannot write the recording")?;
        let orc = &session.kernel.sampled.tables.orc;
        let sink = Sink::begin(writer, self.options.evidence, orc, || self.head(session))
            .context("cannot write the recording's head")?;
        self.sink = Some(sink);
        self.began = Instant::now();
        Ok(())
    }

    fn started(&mut self) -> anyhow::Result<()> {
        match self.put_in_place.take() {
            Some(put_in_place) => put_in_place(),
            None => Ok(()),
        }
    }

    fn record(&mut self, captured: &Captured<'_>, record: &Record<'_>) {
        let number = match &mut self.sink {
            Some(sink) => sink.record(record),
            None => 0,
        };
        match record {
            Record::Sample(sample) => self.sample(captured, sample, number),
            Record::WaitEnd(end) => self.wait_end(end),
        }
    }

    fn drained(&mut self, session: &mut Session) -> anyhow::Result<()> {
        if let Some(user_side) = &mut self.user_side {
            user_side.after_samples(&mut session.object)?;
        }
        let full = self.tree.is_nearly_full();
        if full || self.sink.as_ref().is_some_and(Sink::is_due) {
            let counts = self.counts(session)?;
            if let Some(sink) = &mut self.sink {
                sink.flush(&self.tree, self.user_side.as_mut(), &counts)?;
            }
            if full
                && self
                    .sink
                    .as_ref()
                    .is_some_and(|sink| sink.has_written(&self.tree))
            {
                self.take_addresses();
                self.tree.forget_nodes();
            }
        }
        Ok(())
    }

    fn wants_to_stop(&self) -> bool {
        self.sink
            .as_ref()
            .is_some_and(|sink| sink.failure().is_some())
    }
}
