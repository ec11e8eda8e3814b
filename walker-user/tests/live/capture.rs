//! A capture through the library, with every sample walked and kept.

use std::{sync::LazyLock, time::Instant};

use tokio::runtime::{Builder, Runtime};
use walker_common::maps::Counters;
use walker_user::{
    capture::{
        events::EventsWanted,
        object::Sides,
        record::Record,
        session::{Captured, Session, SessionOptions},
        target::Target,
    },
    unwind::{Frame, StopReason},
};

use crate::wait::{limit, until};

/// A sample with its walk.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) cpu: u32,
    pub(crate) comm: String,
    pub(crate) frames: Vec<Frame>,
    pub(crate) stop: StopReason,
}

/// A running capture. The fields are dropped in this order: what the session registered with the
/// event loop goes before the loop.
pub(crate) struct Capture {
    pub(crate) session: Session,
    pub(crate) seen: Vec<Seen>,
    runtime: Runtime,
}

/// The events most captures have.
fn events() -> &'static EventsWanted {
    static EVENTS: LazyLock<EventsWanted> = LazyLock::new(|| EventsWanted::clock(997));
    &EVENTS
}

/// The options most captures have.
pub(crate) fn options(target: &Target) -> SessionOptions<'_> {
    SessionOptions {
        target,
        waiting_pid: None,
        events: events(),
        keep_idle: false,
        image: None,
        ring_bytes: None,
        oracle: false,
        sides: Sides::KERNEL,
    }
}

impl Capture {
    /// Sets up and starts a capture.
    pub(crate) fn start(options: &SessionOptions<'_>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut session = runtime.block_on(async { Session::open(options) }).unwrap();
        session.start().unwrap();
        Self {
            session,
            seen: Vec::new(),
            runtime,
        }
    }

    /// Takes samples until `done`, and fails the test if that does not come.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&[Seen]) -> bool) {
        let (begin, limit) = (Instant::now(), limit());
        while !done(&self.seen) {
            assert!(
                begin.elapsed() < limit,
                "not within {limit:?}: {what}; {} samples, {:?}",
                self.seen.len(),
                self.session.counters().unwrap(),
            );
            self.wait();
            let seen = &mut self.seen;
            self.session
                .drain(|captured, record| seen.extend(Seen::new(captured, record)));
        }
    }

    /// Waits until events of other tasks were filtered. They are on other CPUs too, which a virtual
    /// machine may not run for a while.
    pub(crate) fn until_filtered(&self) {
        until("events of other tasks are filtered", || {
            self.session.counters().unwrap()[0].filtered_target > 0
        });
    }

    /// Waits until it is time to look into the ring buffer.
    pub(crate) fn wait(&mut self) {
        self.runtime.block_on(self.session.ready());
    }

    /// Stops, takes the samples that are left, and proves that every event is accounted for.
    pub(crate) fn stop(&mut self) -> Counters {
        self.session.stop().unwrap();
        let seen = &mut self.seen;
        while self
            .session
            .drain(|captured, record| seen.extend(Seen::new(captured, record)))
        {}
        let counters = self.session.counters().unwrap().into_iter().sum();
        assert_every_event_is_counted(&counters);
        // Nothing in these tests makes a record that cannot be read.
        assert_eq!(counters.delivered, self.seen.len() as u64, "{counters:?}");
        counters
    }
}

impl Seen {
    /// `None` for a record that is no sample.
    pub(crate) fn new(captured: &Captured<'_>, record: &Record<'_>) -> Option<Self> {
        let Record::Sample(sample) = record else {
            return None;
        };
        let header = sample.header();
        let mut frames = Vec::new();
        let stop = captured.walk(sample, &mut frames);
        Some(Self {
            pid: header.pid,
            tid: header.tid,
            cpu: header.cpu,
            comm: String::from_utf8_lossy(sample.comm()).into_owned(),
            frames,
            stop,
        })
    }
}

pub(crate) fn assert_every_event_is_counted(counters: &Counters) {
    let lost = counters.lost_ring_full + counters.lost_no_scratch + counters.lost_throttled;
    let filtered = counters.filtered_target + counters.filtered_idle + counters.filtered_period;
    assert!(counters.taken > 0);
    assert_eq!(
        counters.taken,
        counters.delivered + lost + filtered,
        "{counters:?}"
    );
}
