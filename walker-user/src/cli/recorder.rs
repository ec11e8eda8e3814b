//! What `record` does with every record: walks it and keeps its stack.

use walker_common::wire::WaitEnd;

use super::{run::Observer, summary::Walks};
use crate::{
    aggregate::{Aggregate, Process, RawFrame},
    capture::{
        events::{EventInfo, Weight},
        object::Sides,
        record::{Record, Sample},
        session::{Captured, Session},
    },
    interrupts,
    sys::clock::monotonic_ns,
    unwind::{self, StopReason},
    user_side::UserSide,
    waits::{Begun, Bounds, Waited, Waits},
};

/// Collects the stacks.
pub(super) struct Recorder {
    kernel_side: bool,
    pub(super) user_side: Option<UserSide>,
    frames: Vec<unwind::Frame>,
    raw: Vec<RawFrame>,
    pub(super) aggregate: Aggregate,
    pub(super) walks: Walks,
    pub(super) waits: Waits,
    wait_event: Option<u32>,
    irq_event: Option<u32>,
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// Samples that arrived.
    pub(super) samples: u64,
}

impl Recorder {
    pub(super) fn new(sides: Sides, bounds: Bounds) -> Self {
        Self {
            kernel_side: sides.kernel,
            user_side: (sides.user_budget > 0).then(|| UserSide::new(sides.user_budget_max)),
            frames: Vec::new(),
            raw: Vec::new(),
            aggregate: Aggregate::default(),
            walks: Walks::default(),
            waits: Waits::new(bounds),
            wait_event: None,
            irq_event: None,
            bytes: 0,
            samples: 0,
        }
    }

    fn sample(&mut self, captured: &Captured<'_>, sample: &Sample<'_>) {
        let header = sample.header();
        self.bytes += u64::from(header.size);
        self.samples += 1;
        let event = captured.events.get(header.event as usize);
        let stop = self.walk(captured, event, sample);
        let process = Process {
            pid: header.pid,
            comm: header.comm,
        };
        let place = self.aggregate.place(process, &self.raw);
        if self.wait_event == Some(header.event) {
            self.waits.begin(Begun {
                tid: header.tid,
                since_ns: header.time_ns,
                place,
                stop,
                runnable: header.subject == 0,
            });
            return;
        }
        let place = match self.irq_event == Some(header.event) {
            true => self.aggregate.noted(place, &interrupts::name(header)),
            false => place,
        };
        let weight = match event.map(|event| event.weight) {
            Some(Weight::Events(weight) | Weight::Nanoseconds(weight)) => weight,
            Some(Weight::Duration) => header.duration_ns,
            None => 1,
        };
        self.aggregate.count(place, header.event, stop, weight);
    }

    /// Walks both sides of a sample into `raw`, leaf first.
    fn walk(
        &mut self,
        captured: &Captured<'_>,
        event: Option<&EventInfo>,
        sample: &Sample<'_>,
    ) -> StopReason {
        self.raw.clear();
        let mut stop = StopReason::UserSample;
        if self.kernel_side {
            stop = captured.walk(sample, &mut self.frames);
            let mut frames = self.frames.as_slice();
            if event.is_some_and(|event| event.traced) {
                while let [first, rest @ ..] = frames
                    && captured.kernel.symbols.is_reporting(first.lookup_address())
                {
                    frames = rest;
                }
            }
            self.walks.add(
                captured.kernel.interrupted_stack(frames),
                &stop,
                sample.lacks_cpu_table(),
            );
            self.raw.extend(frames.iter().map(RawFrame::kernel));
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
        stop
    }

    fn wait_end(&mut self, end: &WaitEnd) {
        self.bytes += u64::from(end.size);
        if let Some(waited) = self.waits.end(end) {
            self.count_wait(waited);
        }
    }

    fn count_wait(&mut self, waited: Waited) {
        let place = match &waited.note {
            Some(note) => self.aggregate.noted(waited.place, note),
            None => waited.place,
        };
        let event = self.wait_event.unwrap_or_default();
        self.aggregate
            .count(place, event, waited.stop, waited.duration_ns);
    }

    /// No more records will come.
    pub(super) fn finish(&mut self) {
        for waited in self.waits.still_waiting(monotonic_ns()) {
            self.count_wait(waited);
        }
    }
}

impl Observer for Recorder {
    fn prepare(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let switches = session.switches();
        self.wait_event = switches.waits.map(|(event, _)| event);
        self.irq_event = switches.irqs;
        match &mut self.user_side {
            Some(user_side) => user_side.follow(session.cpus(), session.targets()),
            None => Ok(()),
        }
    }

    fn record(&mut self, captured: &Captured<'_>, record: &Record<'_>) {
        match record {
            Record::Sample(sample) => self.sample(captured, sample),
            Record::WaitEnd(end) => self.wait_end(end),
        }
    }

    fn drained(&mut self, session: &mut Session) -> anyhow::Result<()> {
        match &mut self.user_side {
            Some(user_side) => user_side.after_samples(&mut session.object),
            None => Ok(()),
        }
    }
}
