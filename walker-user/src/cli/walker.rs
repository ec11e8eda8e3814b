//! From records to walked samples: walks both sides of each, keeps its stack in the tree, and brings
//! waits together with their ends. What becomes of a sample then is the business of `record` and
//! `live`.

use walker_common::wire::WaitEnd;

use super::summary::Walks;
use crate::{
    capture::{
        events::{EventInfo, Weight},
        object::Sides,
        record::Sample,
        session::{Captured, Session},
    },
    classify::StackUse,
    interrupts,
    kernel::sampled::interrupted_stack,
    process::names::ProcessNames,
    stack_tree::{Place, Process, RawFrame, StackTree},
    sys::clock::monotonic_ns,
    unwind::{self, StopReason},
    user_side::UserSide,
    waits::{Begun, Bounds, Waited, Waits},
};

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

/// A sample that was walked.
#[derive(Debug)]
pub(super) struct Walked {
    /// The number of its record.
    pub(super) record: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds. Of a wait: when it began.
    pub(super) time_ns: u64,
    /// The thread.
    pub(super) tid: u32,
    /// The CPU.
    pub(super) cpu: u32,
    /// The event, by number.
    pub(super) event: u32,
    /// Where its stack is kept.
    pub(super) place: Place,
    /// Why its walk ended.
    pub(super) stop: StopReason,
    /// How many frames at the leaf were left out because they only report the event.
    pub(super) reporting: u8,
    /// What it weighs.
    pub(super) weight: u64,
    /// The kernel stacks in use.
    pub(super) uses: Vec<StackUse>,
}

/// Walks samples.
pub(super) struct Walker {
    pub(super) sides: Sides,
    pub(super) user_side: Option<UserSide>,
    process_names: ProcessNames,
    frames: Vec<unwind::Frame>,
    raw: Vec<RawFrame>,
    uses: Vec<StackUse>,
    pub(super) tree: StackTree,
    pub(super) walks: Walks,
    pub(super) waits: Waits<Taken>,
    pub(super) wait_event: Option<u32>,
    pub(super) irq_event: Option<u32>,
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// Samples that arrived.
    pub(super) samples: u64,
}

impl Walker {
    /// For samples with these sides, and waits within these bounds.
    pub(super) fn new(sides: Sides, bounds: Bounds) -> Self {
        Self {
            sides,
            user_side: (sides.user_budget > 0).then(|| UserSide::new(sides.user_budget_max)),
            process_names: ProcessNames::new(sides.user_budget > 0),
            frames: Vec::new(),
            raw: Vec::new(),
            uses: Vec::new(),
            tree: StackTree::default(),
            walks: Walks::default(),
            waits: Waits::new(bounds),
            wait_event: None,
            irq_event: None,
            bytes: 0,
            samples: 0,
        }
    }

    /// The session is open and its events are about to start. With `evidence`, what later walks of
    /// the same bytes need is kept.
    pub(super) fn prepare(&mut self, session: &Session, evidence: bool) -> anyhow::Result<()> {
        let switches = session.switches();
        self.wait_event = switches.waits.map(|(event, _)| event);
        self.irq_event = switches.irqs;
        if let Some(user_side) = &mut self.user_side {
            if evidence {
                user_side.keep_evidence();
            }
            user_side.follow(session.cpus(), session.targets())?;
        }
        Ok(())
    }

    /// A sample arrived, as the record with this number. Of a wait, it is kept until its end.
    pub(super) fn sample(
        &mut self,
        captured: &Captured<'_>,
        sample: &Sample<'_>,
        record: u64,
    ) -> Option<Walked> {
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
            name: (self.process_names).of_sample(header.pid, header.tid, header.comm),
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
            return None;
        }
        let weight = match event.map(|event| event.weight) {
            Some(Weight::Events(weight) | Weight::Nanoseconds(weight)) => weight,
            Some(Weight::Duration) => header.duration_ns,
            None => 1,
        };
        let note = (self.irq_event == Some(header.event)).then(|| interrupts::name(header));
        Some(self.walked(
            (header.time_ns, header.tid, header.event),
            taken,
            note,
            weight,
        ))
    }

    fn walked(
        &mut self,
        (time_ns, tid, event): (u64, u32, u32),
        taken: Taken,
        note: Option<String>,
        weight: u64,
    ) -> Walked {
        Walked {
            record: taken.record,
            time_ns,
            tid,
            cpu: taken.cpu,
            event,
            place: match note {
                Some(note) => self.tree.noted(taken.place, &note),
                None => taken.place,
            },
            stop: taken.stop,
            reporting: taken.reporting,
            weight,
            uses: taken.uses,
        }
    }

    /// Most samples are done with at once, and the next can use the memory.
    pub(super) fn reuse(&mut self, mut uses: Vec<StackUse>) {
        uses.clear();
        self.uses = uses;
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
        if self.sides.kernel {
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
            && let Some(end) = user_side.walk(sample, &mut self.process_names, &mut self.raw)
        {
            self.walks.add_user(&end);
            // What is missing of the kernel's side is missing from the whole.
            if stop.is_complete() {
                stop = end;
            }
        }
        (stop, reporting)
    }

    /// The end of a wait arrived.
    pub(super) fn wait_end(&mut self, end: &WaitEnd) -> Option<Walked> {
        self.bytes += u64::from(end.size);
        let waited = self.waits.end(end)?;
        Some(self.waited(waited))
    }

    /// What still waits has waited until now.
    pub(super) fn still_waiting(&mut self) -> Vec<Walked> {
        let waited = self.waits.still_waiting(monotonic_ns());
        waited
            .into_iter()
            .map(|waited| self.waited(waited))
            .collect()
    }

    fn waited(&mut self, waited: Waited<Taken>) -> Walked {
        let event = self.wait_event.unwrap_or_default();
        self.walked(
            (waited.since_ns, waited.tid, event),
            waited.sample,
            waited.note,
            waited.duration_ns,
        )
    }
}
