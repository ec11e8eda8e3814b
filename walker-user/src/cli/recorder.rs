//! What `record` does with every record: walks it and puts it into the recording.

use std::{
    fs::File,
    io,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use walker_common::wire::WIRE_VERSION;

use super::{
    run::Observer,
    summary::{self, Dropped},
    walker::{Walked, Walker},
};
use crate::{
    capture::{
        object::Sides,
        record::Record,
        session::{Captured, Session},
        sleepers::Sleepers,
    },
    recording::{
        head::{Counts, EventHead, Head, Host, KernelHead, Options},
        sink::{Sampled, Sink},
        writer::Writer,
    },
    resolve::Addresses,
    sys::clock::monotonic_ns,
    waits::Bounds,
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

/// Puts the recording's file in its place.
pub(super) type PutInPlace = Box<dyn FnOnce() -> anyhow::Result<()>>;

/// Collects the samples.
pub(super) struct Recorder {
    options: RecorderOptions,
    file: Option<File>,
    put_in_place: Option<PutInPlace>,
    pub(super) sink: Option<Sink>,
    began: Instant,
    pub(super) walker: Walker,
    /// The addresses of frames that the tree has forgotten.
    pub(super) addresses: Addresses,
    /// What waited at the start, if waits are recorded.
    sleepers: Option<Sleepers>,
    /// How many of them never woke.
    pub(super) slept_through: usize,
}

/// What wrote a file, as that says it.
pub(super) const TOOL: &str = concat!("stackwalk ", env!("CARGO_PKG_VERSION"));

/// What every recording says of itself.
pub(super) fn plain_head(session: &Session, title: String) -> Head {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Head {
        tool: TOOL.to_owned(),
        title,
        wire_version: WIRE_VERSION,
        host: Host::this(session.cpus().len() as u32),
        began_realtime_ns: now.map_or(0, |now| now.as_nanos() as u64),
        began_monotonic_ns: monotonic_ns(),
        events: session.events().iter().map(EventHead::from).collect(),
        ..Head::default()
    }
}

impl Recorder {
    /// Records into `file`, which is put in its place when the sampling has started: a mistake that
    /// is found before leaves nothing behind.
    pub(super) fn new(options: RecorderOptions, file: File, put_in_place: PutInPlace) -> Self {
        Self {
            file: Some(file),
            put_in_place: Some(put_in_place),
            sink: None,
            began: Instant::now(),
            walker: Walker::new(options.sides, options.bounds),
            addresses: Addresses::default(),
            sleepers: None,
            slept_through: 0,
            options,
        }
    }

    fn head(&self, session: &Session) -> Head {
        let kernel = &session.kernel;
        let stext = kernel.symbols.address("_stext").unwrap_or(0);
        let head = plain_head(session, self.options.title.clone());
        let mut events = head.events;
        for (number, event) in (0..).zip(&mut events) {
            event.waits = self.walker.wait_event == Some(number);
            event.interrupts = self.walker.irq_event == Some(number);
        }
        Head {
            evidence: self.options.evidence,
            events,
            options: Options {
                kernel: self.options.sides.kernel,
                user_stack_max: match self.walker.user_side {
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
            ..head
        }
    }

    fn count(&mut self, walked: Walked) {
        if let Some(sink) = &mut self.sink {
            sink.sample(&Sampled {
                record: walked.record,
                time_ns: walked.time_ns,
                tid: walked.tid,
                cpu: walked.cpu,
                event: walked.event,
                place: walked.place,
                stop: walked.stop,
                reporting: walked.reporting,
                weight: walked.weight,
                uses: &walked.uses,
            });
        }
        self.walker.reuse(walked.uses);
    }

    /// No more records will come: what waits still has waited until now.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for walked in self.walker.still_waiting() {
            self.count(walked);
        }
        let walker = &mut self.walker;
        match &mut self.sink {
            Some(sink) => sink.write_rows(&walker.tree, walker.user_side.as_mut()),
            None => Ok(()),
        }
    }

    /// Takes note of the addresses of all frames that the tree has not forgotten.
    pub(super) fn take_addresses(&mut self) {
        let tree = &self.walker.tree;
        let processes = tree.processes();
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
            filtered_waits: self.walker.waits.filtered(),
            lost_waits: self.walker.waits.lost(),
            slow_disk: sink.samples_dropped,
            slow_view: 0,
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
        self.walker.prepare(session, self.options.evidence)?;
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

    fn started(&mut self, session: &Session) -> anyhow::Result<()> {
        if self.walker.wait_event.is_some() {
            self.sleepers = Some(session.sleepers()?);
        }
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
        let walked = match record {
            Record::Sample(sample) => self.walker.sample(captured, sample, number),
            Record::WaitEnd(end) => self.walker.wait_end(end),
        };
        if let Some(walked) = walked {
            self.count(walked);
        }
    }

    fn drained(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let walker = &mut self.walker;
        if let Some(user_side) = &mut walker.user_side
            && user_side.after_samples(&mut session.object)?
        {
            session.hurry();
        }
        let full = walker.tree.is_nearly_full();
        if full || self.sink.as_ref().is_some_and(Sink::is_due) {
            let counts = self.counts(session)?;
            if let Some(sink) = &mut self.sink {
                let walker = &mut self.walker;
                sink.flush(&walker.tree, walker.user_side.as_mut(), &counts)?;
            }
            if full
                && self
                    .sink
                    .as_ref()
                    .is_some_and(|sink| sink.has_written(&self.walker.tree))
            {
                self.take_addresses();
                self.walker.tree.forget_nodes();
            }
        }
        Ok(())
    }

    fn stopped(&mut self, _session: &mut Session) -> anyhow::Result<()> {
        self.slept_through = self.sleepers.as_ref().map_or(0, Sleepers::still);
        Ok(())
    }

    fn wants_to_stop(&self) -> bool {
        self.sink
            .as_ref()
            .is_some_and(|sink| sink.failure().is_some())
    }
}
