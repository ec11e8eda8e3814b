//! A capture from its set-up to its last record.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use walker_common::maps::{Counters, TARGET_AT_EXEC, TARGET_PROCESS, TARGET_THREADS, names};

use super::{
    events::{EventInfo, EventSwitches, Events, EventsWanted, Machine},
    namespace,
    object::{Object, ObjectOptions, Sides},
    record::{Record, RecordError, Sample},
    sleepers::Sleepers,
    target::{RunningTask, Target},
};
use crate::{
    btf::Btf,
    kernel::{
        bpf_text::BpfSymbol, image::KernelImage, kallsyms::Kallsyms, offsets::Offsets,
        running::RunningKernel,
    },
    sys::{
        ring::watch,
        threads::{has_ended, living_thread, state_and_start},
    },
    unwind::{Frame, StopReason},
};

/// How long records may wait in the ring buffer before the reader comes by on its own.
const VISIT_EVERY: Duration = Duration::from_millis(50);
/// The same while programs are being started.
const VISIT_SOON: Duration = Duration::from_millis(3);
/// How long after the start of a program more are expected.
const HURRY_FOR: Duration = Duration::from_millis(500);
/// Records handled between two looks at signals and timers.
const BATCH: usize = 4096;
/// Ring buffer bytes for each CPU, and the least and most in all.
const RING_PER_CPU: u64 = 4 << 20;
const RING_MIN: u64 = 4 << 20;
const RING_MAX: u64 = 64 << 20;

/// What to capture.
#[derive(Debug)]
pub struct SessionOptions<'a> {
    /// What to sample.
    pub target: &'a Target,
    /// A forked command that waits to be executed, and is sampled from then on.
    pub waiting_pid: Option<u32>,
    /// The events, and how often they are samples.
    pub events: &'a EventsWanted,
    /// Keep samples of idle CPUs.
    pub keep_idle: bool,
    /// The kernel's image, for kernels whose ORC tables cannot be found in memory.
    pub image: Option<&'a KernelImage>,
    /// Bytes of the ring buffer, instead of the default for this number of CPUs; rounded up to a
    /// power of two.
    pub ring_bytes: Option<u64>,
    /// Ask the kernel's own unwinder at every event.
    pub oracle: bool,
    /// Which sides of a sample to capture.
    pub sides: Sides,
}

impl SessionOptions<'_> {
    /// The processes to sample, besides what they fork; `None` for all.
    fn targets(&self) -> Option<Vec<u32>> {
        let named: &[RunningTask] = match self.target {
            Target::System => &[],
            Target::Processes(tasks) | Target::Threads(tasks) => tasks,
        };
        let pids = named.iter().map(|task| task.pid).chain(self.waiting_pid);
        let pids: Vec<u32> = pids.collect();
        (!pids.is_empty()).then_some(pids)
    }
}

/// How to set the BPF object up.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Only tasks in the target maps are sampled.
    pub filter_targets: bool,
    /// Keep samples of idle CPUs.
    pub keep_idle: bool,
    /// The kernel's image, for kernels whose ORC tables cannot be found in memory.
    pub image: Option<&'a KernelImage>,
    /// Bytes of the ring buffer, a power of two.
    pub ring_bytes: u32,
    /// Which sides of a sample to capture.
    pub sides: Sides,
    /// What the programs have to know of the events.
    pub events: EventSwitches,
    /// Ask the kernel's own unwinder at every event.
    pub oracle: bool,
}

impl Setup<'_> {
    /// For asking the kernel questions, without taking samples.
    #[must_use]
    pub fn without_samples() -> Self {
        Self {
            filter_targets: false,
            keep_idle: false,
            image: None,
            ring_bytes: ring_size(1, Some(0)),
            sides: Sides::KERNEL,
            events: EventSwitches::default(),
            oracle: false,
        }
    }
}

/// The BPF object with what is known of the kernel it runs on, and no events yet.
#[derive(Debug)]
pub struct Prepared {
    /// The loaded object.
    pub object: Object,
    /// The kernel.
    pub kernel: RunningKernel,
}

impl Prepared {
    /// The BPF programs and trampolines that the kernel lists.
    pub fn bpf_text(&mut self) -> Vec<BpfSymbol> {
        bpf_text(&mut self.object, &self.kernel)
    }
}

fn bpf_text(object: &mut Object, kernel: &RunningKernel) -> Vec<BpfSymbol> {
    let Ok(image) = kernel.symbols.kernel_text() else {
        return Vec::new();
    };
    let cpus: Vec<u32> = kernel.cpus().map(|(cpu, _)| cpu).collect();
    object.bpf_text(&kernel.offsets, &cpus, image.begin)
}

/// Loads the object and learns what the kernel is like.
///
/// # Errors
/// With the first thing that is missing, and what to do about it.
pub fn prepare(setup: &Setup<'_>) -> anyhow::Result<Prepared> {
    let btf = Btf::of_running_kernel().context(
        "this kernel does not describe its types (BTF): stackwalk needs one built with \
         CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels since 2020 are",
    )?;
    let offsets = Offsets::from_btf(&btf)
        .context("this kernel's types lack something that stackwalk needs")?;
    drop(btf);
    let namespace = match namespace::is_initial()? {
        true => None,
        false => Some(offsets.pid_namespace.context(
            "this is not the host's PID namespace, and the numbers of its processes are not where \
             stackwalk looks for them in this kernel: run it on the host, or in a container with \
             --pid=host",
        )?),
    };
    let symbols = Kallsyms::of_running_kernel()?;
    let idle_text = symbols.range("__cpuidle_text_start", "__cpuidle_text_end");
    let cpus = u32::try_from(possible_cpus()?).context("more CPUs than there can be")?;
    let mut object = Object::load(
        &offsets,
        &ObjectOptions {
            filter_targets: setup.filter_targets,
            keep_idle: setup.keep_idle,
            idle_text,
            ring_bytes: setup.ring_bytes,
            cpus,
            sides: setup.sides,
            events: setup.events,
            oracle: setup.oracle,
            namespace,
        },
    )?;
    if namespace.is_some() {
        object.find_namespace()?;
    }
    let kernel = RunningKernel::inspect(&mut object, offsets, symbols, cpus, setup.image)?;
    for (cpu, stacks) in kernel.stack_tables() {
        object.set_stacks(cpu, &stacks)?;
    }
    Ok(Prepared { object, kernel })
}

/// The ring buffer's size: by the number of CPUs, or as asked for.
#[must_use]
pub fn ring_size(cpus: usize, asked: Option<u64>) -> u32 {
    let bytes = asked.unwrap_or_else(|| (cpus as u64 * RING_PER_CPU).clamp(RING_MIN, RING_MAX));
    // Never more than half the 32-bit range, so that rounding up cannot overflow.
    bytes.clamp(4096, 1 << 30).next_power_of_two() as u32
}

fn possible_cpus() -> anyhow::Result<usize> {
    aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("cannot read {path}: {error}"))
}

/// The CPUs that are online.
///
/// # Errors
/// If sysfs does not say.
pub fn online_cpus() -> anyhow::Result<Vec<u32>> {
    aya::util::online_cpus().map_err(|(path, error)| anyhow::anyhow!("cannot read {path}: {error}"))
}

/// What is left of a capture that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The object, without programs that run, and the kernel.
    pub prepared: Prepared,
    /// The events that made the samples, by index.
    pub events: Vec<EventInfo>,
    /// How many CPUs had an event.
    pub cpus: usize,
    /// Records that could not be parsed. Never expected; counted all the same.
    pub malformed: u64,
}

/// What there is to know of a record besides what it holds.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// The kernel.
    pub kernel: &'a RunningKernel,
    /// The events, by index.
    pub events: &'a [EventInfo],
}

impl Captured<'_> {
    /// Walks the kernel stacks of a sample; `frames` is emptied first.
    pub fn walk(&self, sample: &Sample<'_>, frames: &mut Vec<Frame>) -> StopReason {
        let event = self.events.get(sample.header().event as usize);
        let entry = event.and_then(|event| event.entry);
        self.kernel.sampled.walk(sample, entry, frames)
    }
}

/// A running capture.
pub struct Session {
    /// The object whose programs are running.
    pub object: Object,
    /// The kernel they run on.
    pub kernel: RunningKernel,
    ring: AsyncFd<RingBuf<MapData>>,
    events: Events,
    cpus: Vec<u32>,
    targets: Option<Vec<u32>>,
    malformed: u64,
    hurry_until: Option<Instant>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("events", &self.events)
            .field("cpus", &self.cpus)
            .field("malformed", &self.malformed)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Sets everything up; [`Session::start`] starts the events.
    ///
    /// # Errors
    /// With the first thing that is missing, and what to do about it.
    pub fn open(options: &SessionOptions<'_>) -> anyhow::Result<Self> {
        let cpus = online_cpus()?;
        let mut events = Events::open(options.events, &cpus)?;
        let targets = options.targets();
        let filter = targets.is_some();
        let Prepared { mut object, kernel } = prepare(&Setup {
            filter_targets: filter,
            keep_idle: options.keep_idle,
            image: options.image,
            ring_bytes: ring_size(cpus.len(), options.ring_bytes),
            sides: options.sides,
            events: events.switches(),
            oracle: options.oracle,
        })?;
        if filter {
            follow(&mut object, options)?;
        }
        let machine = Machine {
            kernel: &kernel,
            cpus: &cpus,
            pids: targets.as_deref().unwrap_or_default(),
        };
        events.attach(&mut object, &machine)?;
        let ring = object.take_ring(names::MAP_SAMPLES)?;
        let ring = watch(ring).context("cannot wait for the ring buffer")?;
        Ok(Self {
            object,
            kernel,
            ring,
            events,
            cpus,
            targets,
            malformed: 0,
            hurry_until: None,
        })
    }

    /// The events, by index.
    #[must_use]
    pub fn events(&self) -> &[EventInfo] {
        self.events.infos()
    }

    /// What the programs were told of the events.
    #[must_use]
    pub fn switches(&self) -> EventSwitches {
        self.events.switches()
    }

    /// The CPUs with an event.
    #[must_use]
    pub fn cpus(&self) -> &[u32] {
        &self.cpus
    }

    /// The processes that are sampled, besides what they fork; `None` if all are.
    #[must_use]
    pub fn targets(&self) -> Option<Vec<u32>> {
        self.targets.clone()
    }

    /// The threads of the targets that wait now.
    ///
    /// # Errors
    /// If the targets cannot be read.
    pub fn sleepers(&self) -> anyhow::Result<Sleepers> {
        if self.targets.is_none() {
            return Ok(Sleepers::now(None));
        }
        let (processes, threads) = self.object.targets()?;
        Ok(Sleepers::now(Some((&processes, &threads))))
    }

    /// Whether a target still runs, or something that a target started.
    ///
    /// # Errors
    /// If the targets cannot be read.
    pub fn has_living_target(&self) -> anyhow::Result<bool> {
        let proc = Path::new("/proc");
        let (processes, threads) = self.object.targets()?;
        let lives =
            |tid: u32| state_and_start(proc, tid, tid).is_some_and(|(state, _)| !has_ended(state));
        Ok(threads.into_iter().any(lives)
            || processes
                .into_iter()
                .any(|pid| living_thread(proc, pid).is_some()))
    }

    /// The BPF programs and trampolines that the kernel lists.
    pub fn bpf_text(&mut self) -> Vec<BpfSymbol> {
        bpf_text(&mut self.object, &self.kernel)
    }

    /// Programs have just been started: for a while records are handled soon after they come, so
    /// that the files of those that live for a few milliseconds are opened while they are there.
    pub fn hurry(&mut self) {
        self.hurry_until = Some(Instant::now() + HURRY_FOR);
    }

    /// Starts sampling.
    ///
    /// # Errors
    /// If an event cannot be enabled.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.hurry();
        self.events.start(&mut self.object)
    }

    /// Stops sampling. Records that are in the ring buffer stay there to be drained.
    ///
    /// # Errors
    /// If an event cannot be disabled.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.events.stop(&mut self.object)
    }

    /// Gives up the events and the ring buffer and keeps what is still of use: naming addresses
    /// takes memory of its own.
    #[must_use]
    pub fn finish(self) -> Ended {
        Ended {
            prepared: Prepared {
                object: self.object,
                kernel: self.kernel,
            },
            events: self.events.into_infos(),
            cpus: self.cpus.len(),
            malformed: self.malformed,
        }
    }

    /// The counters of each event so far.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn counters(&self) -> anyhow::Result<Vec<Counters>> {
        let events = 0..self.events.infos().len() as u32;
        Ok(events
            .map(|event| self.object.counters(event))
            .collect::<Result<_, _>>()?)
    }

    /// Records so far that could not be parsed.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Waits until it is time to drain: records wait and are many, or a while has passed.
    pub async fn ready(&mut self) {
        // Both outcomes lead to the same thing; a wake-up is only a hint to come early.
        let hurries = self.hurry_until.is_some_and(|until| Instant::now() < until);
        let patience = if hurries { VISIT_SOON } else { VISIT_EVERY };
        if let Ok(Ok(mut guard)) = tokio::time::timeout(patience, self.ring.readable_mut()).await {
            guard.clear_ready();
        }
    }

    /// Hands the waiting records to `sink`, at most a batch; returns whether more may wait.
    pub fn drain(&mut self, mut sink: impl FnMut(&Captured<'_>, &Record<'_>)) -> bool {
        #[cfg(feature = "bpf-log")]
        self.object.flush_log();
        let ring = self.ring.get_mut();
        let captured = Captured {
            kernel: &self.kernel,
            events: self.events.infos(),
        };
        for _ in 0..BATCH {
            let Some(record) = ring.next() else {
                return false;
            };
            match Record::parse(&record) {
                Ok(record) => sink(&captured, &record),
                Err(
                    RecordError::Truncated { .. }
                    | RecordError::Version(_)
                    | RecordError::Invalid(_),
                ) => self.malformed += 1,
            }
        }
        true
    }
}

/// Makes the targets known to the BPF programs, those that follow forks first, so that no child
/// falls between.
fn follow(object: &mut Object, options: &SessionOptions<'_>) -> anyhow::Result<()> {
    object.attach_raw_tracepoint(names::PROG_FORK, "sched_process_fork")?;
    object.attach_raw_tracepoint(names::PROG_EXEC, "sched_process_exec")?;
    object.attach_raw_tracepoint(names::PROG_FREE, "sched_process_free")?;
    if let Some(pid) = options.waiting_pid {
        object.set_target(pid, TARGET_AT_EXEC)?;
    }
    match options.target {
        Target::System => {}
        Target::Processes(tasks) => {
            for task in tasks {
                object.set_target(task.pid, TARGET_PROCESS)?;
            }
        }
        Target::Threads(tasks) => {
            for task in tasks {
                object.add_thread(task.tid)?;
                object.set_target(task.pid, TARGET_THREADS)?;
            }
        }
    }
    Ok(())
}
