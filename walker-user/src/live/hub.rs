//! Between the capture and those who look: takes walked samples, names their stacks, and several
//! times a second makes a delta of what is new.
//!
//! On a thread of its own, which the capture never waits for. A stack whose names are not known yet
//! is shown by its file and address, and moves to its name when that is found.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{
            Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, TrySendError,
            sync_channel,
        },
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::watch;

pub use super::naming::{Request, Source};
pub use super::stream::Place as StreamPlace;
use super::{
    Health, Store, Window,
    health::Usage,
    naming::{self, Named},
    push::Pushed,
    store::{Flushed, KEPT_SLOTS, NamedStack, NotSingle, SLOT_NS},
    stream::{Next, Stream},
    wire::{Encoder, Heading},
};
use crate::{
    kernel::kallsyms::Kallsyms,
    process::object::ObjectId,
    profile::{
        ObjectIndex, Profile, ProfileObject,
        timeline::{Point, Timeline},
    },
    recording::head::Head,
    resolve::{self, Holder, Names, Referred, holder},
    stack_tree::{Code, Place, Process, RawFrame},
    symbolize::{CodeSymbol, KernelSymbols, Reason},
    sys::{
        clock::monotonic_ns,
        privileges::{self, Capability},
    },
    unwind::StopReason,
};

/// How often there is a delta.
const FLUSH_EVERY: Duration = Duration::from_millis(150);
/// How many batches may wait. If that many do, samples wait at the capture's side, and are dropped
/// there, and counted, if they get too many.
const WAITING: usize = 64;
/// Up to so many processes all have stacks of their own. Where there are more, those of few samples
/// share stacks by name: their PIDs tell nothing, and would fill the store.
const FEW_PROCESSES: usize = 1000;
/// How many samples a process has then before it gets stacks of its own.
const FEW_SAMPLES: u32 = 50;
/// What stands for frames and notes that are not known any more.
const FORGOTTEN: &str = "[not kept]";

/// A walked sample.
#[derive(Debug, Clone, Copy)]
pub struct LiveSample {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// The CPU.
    pub cpu: u32,
    /// The event, by number.
    pub event: u32,
    /// Its stack.
    pub place: Place,
    /// Why its walk ended.
    pub stop: StopReason,
    /// What it weighs.
    pub weight: u64,
}

/// Where events went since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Events that fired.
    pub taken: u64,
    /// Samples that arrived.
    pub delivered: u64,
    /// Samples that did not.
    pub lost: u64,
    /// Samples that nobody asked for.
    pub filtered: u64,
    /// Those of the lost that the hub was too slow for.
    pub dropped: u64,
}

/// What is new at the capture's side.
#[derive(Debug, Default)]
pub struct Batch {
    /// The number of the first frame that is not forgotten.
    pub first_node: u32,
    /// The number of the first process that is not forgotten.
    pub first_process: u32,
    /// The number of the first note that is not forgotten.
    pub first_note: u32,
    /// Names are asked for anew, so those that are known are not needed.
    pub forget_names: bool,
    /// New frames.
    pub nodes: Vec<(Place, RawFrame)>,
    /// New processes.
    pub processes: Vec<Process>,
    /// New notes.
    pub notes: Vec<String>,
    /// New objects.
    pub objects: Vec<ProfileObject>,
    /// New samples.
    pub samples: Vec<LiveSample>,
    /// New addresses of user space.
    pub requests: Vec<Request>,
    /// Where events went.
    pub counted: Counted,
}

#[derive(Debug)]
enum Message {
    Batch(Box<Batch>),
    Named(Named),
}

/// What is sampled.
#[derive(Debug)]
pub struct Subject {
    /// What, how and where, as recordings say it.
    pub head: Head,
    /// The CPUs.
    pub cpus: Vec<u32>,
    /// Symbols of the kernel.
    pub kallsyms: Arc<Kallsyms>,
    /// Whether addresses of the kernel may be told.
    pub addresses: bool,
}

/// What is seen, for all who look.
#[derive(Debug)]
pub struct Live {
    shown: Mutex<Shown>,
    changed: watch::Receiver<StreamPlace>,
    began: SystemTime,
    head: Head,
    pushed: Mutex<Option<Pushed>>,
}

#[derive(Debug)]
struct Shown {
    store: Store,
    encoder: Encoder,
    stream: Stream,
    health: Health,
    /// The slot that the time had reached when nothing waited for the hub.
    settled: u32,
}

/// Where batches go.
#[derive(Debug)]
pub struct Intake(SyncSender<Message>);

impl Intake {
    /// Hands a batch over, or gives it back if too many wait.
    ///
    /// # Errors
    /// With the batch.
    pub fn offer(&self, batch: Box<Batch>) -> Result<(), Box<Batch>> {
        match self.0.try_send(Message::Batch(batch)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => match message
            {
                Message::Batch(batch) => Err(batch),
                Message::Named(_) => Ok(()),
            },
        }
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Starts the hub.
///
/// # Errors
/// If a thread cannot be started.
pub fn start(subject: Subject) -> io::Result<(Intake, Arc<Live>)> {
    let now = SystemTime::now();
    let began_ms = since_epoch(now).as_millis() as u64;
    let stream = Stream::new();
    let meta = subject.head.meta();
    let live = Arc::new(Live {
        changed: stream.subscribe(),
        began: now,
        head: subject.head,
        pushed: Mutex::new(None),
        shown: Mutex::new(Shown {
            // The time tells this run from others: a client may have been there before.
            store: Store::new(meta, subject.addresses, began_ms),
            encoder: Encoder::new(Heading {
                began_ms,
                cpus: subject.cpus,
            }),
            stream,
            health: Health::default(),
            settled: 0,
        }),
    });
    let (intake, messages) = sync_channel(WAITING);
    let answers = intake.clone();
    let requests = naming::start(move |named| answers.send(Message::Named(named)).is_ok())?;
    let shared = Arc::clone(&live);
    let kallsyms = subject.kallsyms;
    // What reads symbols stays on one thread.
    privileges::start(
        "live view",
        || {
            let mut hub = Hub::new(shared, messages, requests, kallsyms);
            // Where the kernel is, is found when the first address is looked up, and takes more
            // than to read its symbols again.
            hub.kernel.look_up(&hub.kallsyms, &[1]);
            privileges::keep(&[Capability::CAP_SYSLOG])?;
            Ok(hub)
        },
        Hub::run,
    )?;
    Ok((Intake(intake), live))
}

/// What the capture's side said of numbers that frames refer to.
#[derive(Debug, Default)]
struct Heard {
    first_node: u32,
    first_process: u32,
    first_note: u32,
    nodes: Vec<(Place, RawFrame)>,
    processes: Vec<Process>,
    notes: Vec<String>,
    objects: Vec<ProfileObject>,
}

impl Heard {
    /// Takes what a batch says in. Returns whether frames were forgotten.
    fn take(&mut self, batch: &mut Batch) -> bool {
        let forgotten = batch.first_node != self.first_node;
        if forgotten {
            self.first_node = batch.first_node;
            self.nodes.clear();
        }
        if batch.first_process != self.first_process {
            self.first_process = batch.first_process;
            self.processes.clear();
        }
        if batch.first_note != self.first_note {
            self.first_note = batch.first_note;
            self.notes.clear();
        }
        self.nodes.append(&mut batch.nodes);
        self.processes.append(&mut batch.processes);
        self.notes.append(&mut batch.notes);
        self.objects.append(&mut batch.objects);
        forgotten
    }

    fn process(&self, number: u32) -> Option<Process> {
        let index = number.checked_sub(self.first_process)?;
        self.processes.get(index as usize).copied()
    }

    /// The number of the process of a stack, if it is known; `frames` becomes its frames, root first.
    fn stack(&self, mut place: Place, frames: &mut Vec<RawFrame>) -> Option<u32> {
        frames.clear();
        loop {
            match place {
                Place::Process(process) => {
                    frames.reverse();
                    return self.process(process).map(|_| process);
                }
                Place::Node(node) => {
                    let index = node.checked_sub(self.first_node)? as usize;
                    let (parent, frame) = *self.nodes.get(index)?;
                    frames.push(frame);
                    place = parent;
                }
            }
        }
    }
}

impl Referred for Heard {
    fn note(&self, note: u32) -> &str {
        let index = note.checked_sub(self.first_note);
        let text = index.and_then(|index| self.notes.get(index as usize));
        text.map_or(FORGOTTEN, String::as_str)
    }

    fn object(&self, profile: &mut Profile, id: ObjectId) -> Option<ObjectIndex> {
        let object = self.objects.get(id.0 as usize)?;
        Some(profile.intern_object(object.clone()))
    }
}

/// What samples of one stack have in common.
type Key = (Place, u32, u8);

/// A stack that is in the store.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Its number there.
    stack: u32,
    /// The number of its process.
    process: Option<u32>,
    /// Whether it is of that process alone.
    own: bool,
}

struct Hub {
    live: Arc<Live>,
    messages: Receiver<Message>,
    requests: Sender<Request>,
    began_ns: u64,
    heard: Heard,
    kernel: KernelSymbols,
    kallsyms: Arc<Kallsyms>,
    names: Names,
    /// The stacks in the store.
    keys: FxHashMap<Key, Known>,
    /// How many samples processes had.
    samples_of: FxHashMap<u32, u32>,
    /// The stacks that wait for the name of an address.
    waiting: FxHashMap<(Holder, u64), Vec<Key>>,
    complete: u64,
    counted: Counted,
    settled: u32,
    /// How many samples there were at which time, in the last second.
    rates: VecDeque<(Instant, u64)>,
    usage: Usage,
}

impl Hub {
    fn new(
        live: Arc<Live>,
        messages: Receiver<Message>,
        requests: Sender<Request>,
        kallsyms: Arc<Kallsyms>,
    ) -> Self {
        Self {
            live,
            messages,
            requests,
            began_ns: monotonic_ns(),
            heard: Heard::default(),
            kernel: KernelSymbols::new(),
            kallsyms,
            names: Names::default(),
            keys: FxHashMap::default(),
            samples_of: FxHashMap::default(),
            waiting: FxHashMap::default(),
            complete: 0,
            counted: Counted::default(),
            settled: 0,
            rates: VecDeque::new(),
            usage: Usage::new(),
        }
    }

    fn run(mut self) {
        let mut due = Instant::now();
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            let message = self.messages.try_recv().or_else(|error| match error {
                TryRecvError::Empty => {
                    self.settled = self.slot();
                    self.messages.recv_timeout(wait)
                }
                TryRecvError::Disconnected => Err(RecvTimeoutError::Disconnected),
            });
            match message {
                Ok(Message::Batch(batch)) => self.batch(*batch),
                Ok(Message::Named(named)) => self.named(named),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= due {
                if self.flush().is_err() {
                    return;
                }
                due = Instant::now() + FLUSH_EVERY;
            }
        }
    }

    /// The slot that the time has reached.
    fn slot(&self) -> u32 {
        ((monotonic_ns() - self.began_ns) / SLOT_NS) as u32
    }

    fn batch(&mut self, mut batch: Batch) {
        if batch.forget_names {
            self.names = Names::default();
            self.waiting.clear();
        }
        if self.heard.take(&mut batch) {
            self.forget_keys();
        }
        self.counted = batch.counted;
        self.name_kernel(&batch.samples);
        let live = Arc::clone(&self.live);
        let mut shown = live.shown();
        for request in &batch.requests {
            let Source::Nowhere(name, reason) = &request.source else {
                continue;
            };
            let names = self.names.user.entry(request.holder).or_default();
            names.extend(request.addresses.iter().map(|&address| {
                let symbol = CodeSymbol::unnamed(name, address, *reason);
                (address, Arc::new(symbol))
            }));
        }
        for sample in &batch.samples {
            self.complete += u64::from(sample.stop.is_complete());
            let key = (sample.place, sample.event, sample.stop.number());
            let stack = self.sampled(&mut shown.store, key);
            let slot = sample.time_ns.saturating_sub(self.began_ns) / SLOT_NS;
            shown
                .store
                .add(slot as u32, sample.cpu, stack, sample.weight);
        }
        drop(shown);
        for request in batch.requests {
            if !matches!(request.source, Source::Nowhere(..)) {
                // Without the thread, names stay as they are.
                let _sent = self.requests.send(request);
            }
        }
    }

    /// The numbers of stacks mean something else now. Names are still waited for.
    fn forget_keys(&mut self) {
        self.keys.clear();
        let first = self.heard.first_process;
        self.samples_of.retain(|process, _| *process >= first);
        for keys in self.waiting.values_mut() {
            keys.clear();
        }
    }

    fn name_kernel(&mut self, samples: &[LiveSample]) {
        let mut unknown = FxHashSet::default();
        let mut frames = Vec::new();
        let mut seen = FxHashSet::default();
        for sample in samples {
            let key = (sample.place, sample.event, sample.stop.number());
            if self.keys.contains_key(&key) || !seen.insert(sample.place) {
                continue;
            }
            self.heard.stack(sample.place, &mut frames);
            unknown.extend(frames.iter().filter_map(|frame| match frame {
                RawFrame::Kernel { lookup, .. } if !self.names.kernel.contains_key(lookup) => {
                    Some(*lookup)
                }
                _ => None,
            }));
        }
        if !unknown.is_empty() {
            let addresses: Vec<u64> = unknown.into_iter().collect();
            let names = self.kernel.look_up(&self.kallsyms, &addresses);
            self.names.kernel.extend(names);
        }
    }

    /// Whether a process has stacks of its own.
    fn is_own(&self, process: Option<u32>) -> bool {
        let few = self.heard.processes.len() <= FEW_PROCESSES;
        let samples = process.and_then(|process| self.samples_of.get(&process));
        few || samples.is_some_and(|samples| *samples > FEW_SAMPLES)
    }

    /// The number in the store of the stack of a sample.
    fn sampled(&mut self, store: &mut Store, key: Key) -> u32 {
        let known = match self.keys.get(&key) {
            Some(known) if known.own || !self.is_own(known.process) => *known,
            _ => self.stack(store, key),
        };
        if let Some(process) = known.process {
            let samples = self.samples_of.entry(process).or_default();
            *samples = samples.saturating_add(1);
        }
        known.stack
    }

    /// Puts a stack into the store, with its names as they are now.
    fn stack(&mut self, store: &mut Store, key: Key) -> Known {
        let (place, event, stop) = key;
        let mut raw = Vec::new();
        let number = self.heard.stack(place, &mut raw);
        // Code that was made at run time is of its process alone.
        let made = |frame: &RawFrame| {
            matches!(
                frame,
                RawFrame::User {
                    code: Code::Memory | Code::Unmapped,
                    ..
                }
            )
        };
        let own = self.is_own(number) || raw.iter().any(made);
        let process = number.and_then(|number| self.heard.process(number));
        let (process, frames) = match process {
            Some(process) => {
                self.expect_names(process.pid, &raw, key);
                let profile = &mut store.profile;
                (
                    process,
                    self.names.frames(profile, &self.heard, process.pid, &raw),
                )
            }
            None => {
                let process = Process {
                    pid: 0,
                    comm: *b"[unknown]\0\0\0\0\0\0\0",
                    name: *b"[unknown]\0\0\0\0\0\0\0",
                };
                (process, vec![store.profile.note(FORGOTTEN)])
            }
        };
        let [name, comm] = resolve::process_names(&mut store.profile, &process);
        let stack = store.stack(NamedStack {
            process: name,
            comm,
            pid: own.then_some(process.pid),
            event: event as usize,
            frames,
            stop: StopReason::NAMES
                .get(usize::from(stop))
                .copied()
                .unwrap_or("unknown"),
            complete: StopReason::completes(stop),
        });
        let known = Known {
            stack,
            process: number,
            own,
        };
        self.keys.insert(key, known);
        known
    }

    /// Gives addresses that have no name yet one for the meantime.
    fn expect_names(&mut self, pid: u32, raw: &[RawFrame], key: Key) {
        for frame in raw {
            let RawFrame::User { code, lookup, .. } = *frame else {
                continue;
            };
            let holder = holder(code, pid);
            let names = self.names.user.entry(holder).or_default();
            let waiting = self.waiting.entry((holder, lookup));
            if let std::collections::hash_map::Entry::Vacant(vacant) = names.entry(lookup) {
                let module = match code {
                    Code::Object(id) => self.heard.objects.get(id.0 as usize).map(|object| {
                        let name = object.path.file_name().unwrap_or_default();
                        name.to_string_lossy().into_owned()
                    }),
                    _ => None,
                };
                // Not in brackets, so that the address is a part of the name, and different
                // addresses are not taken for the same.
                let module = module.unwrap_or_else(|| "code".to_owned());
                vacant.insert(Arc::new(CodeSymbol::unnamed(
                    &module,
                    lookup,
                    Reason::Unreadable,
                )));
                waiting.or_default().push(key);
            } else if let std::collections::hash_map::Entry::Occupied(mut keys) = waiting {
                keys.get_mut().push(key);
            }
        }
    }

    fn named(&mut self, named: Named) {
        let mut keys = FxHashSet::default();
        for address in named.names.keys() {
            keys.extend(
                self.waiting
                    .remove(&(named.holder, *address))
                    .unwrap_or_default(),
            );
        }
        let names = self.names.user.entry(named.holder).or_default();
        names.extend(named.names);
        let live = Arc::clone(&self.live);
        let mut shown = live.shown();
        for key in keys {
            if let Some(before) = self.keys.remove(&key) {
                let now = self.stack(&mut shown.store, key);
                shown.store.move_stack(before.stack, now.stack);
            }
        }
    }

    fn health(&mut self, clients: u64) -> Health {
        let now = Instant::now();
        let delivered = self.counted.delivered;
        self.rates.push_back((now, delivered));
        while self.rates.len() > 1 && now - self.rates[0].0 > Duration::from_secs(1) {
            self.rates.pop_front();
        }
        let (first, before) = self.rates[0];
        let seconds = (now - first).as_secs_f64();
        let (cpu, memory) = self.usage.now();
        Health {
            taken: self.counted.taken,
            delivered,
            lost: self.counted.lost,
            filtered: self.counted.filtered,
            complete: self.complete,
            rate: match seconds > 0.2 {
                true => ((delivered - before) as f64 / seconds).round() as u64,
                false => 0,
            },
            cpu,
            memory,
            clients,
            unnamed: self.waiting.len() as u64,
            kept_slots: KEPT_SLOTS.into(),
            dropped: self.counted.dropped,
            push: self.live.pushed(),
        }
    }

    fn flush(&mut self) -> serde_json::Result<()> {
        let slot = self.slot();
        let live = Arc::clone(&self.live);
        let mut shown = live.shown();
        // One is the hub's own.
        let clients = shown.stream.listeners().saturating_sub(1);
        shown.health = self.health(clients as u64);
        shown.settled = self.settled;
        let Shown {
            store,
            encoder,
            stream,
            health,
            settled: _,
        } = &mut *shown;
        let mut flushed = store.flush(slot);
        if store.is_full() {
            *store = store.next_generation();
            *encoder = encoder.next_generation();
            // Those who were told of the stacks before get a snapshot.
            flushed = Flushed::default();
            self.forget_keys();
        }
        let delta = encoder.delta(store, &flushed, health)?;
        let place = StreamPlace {
            generation: store.generation,
            seq: encoder.seq(),
        };
        stream.push(place, delta);
        Ok(())
    }
}

impl Live {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        // What is shown is whole between any two calls.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The samples of a window.
    #[must_use]
    pub fn window(&self, window: Window) -> Profile {
        self.shown().store.window(window).0
    }

    /// The samples of a window in the form that the outputs for other tools want, which are not told
    /// one by one.
    #[must_use]
    pub fn timeline(&self, window: Window) -> Timeline {
        let (profile, from) = self.shown().store.window(window);
        self.as_timeline(profile, Vec::new(), from)
    }

    /// The samples of a window one by one, and the head of a recording of them.
    ///
    /// # Errors
    /// If they cannot be told one by one.
    pub fn samples(&self, window: Window) -> Result<(Timeline, Head), NotSingle> {
        let (profile, points, from) = self.shown().store.samples(window)?;
        let timeline = self.as_timeline(profile, points, from);
        let began = timeline.began.unwrap_or(self.began);
        let head = Head {
            began_realtime_ns: since_epoch(began).as_nanos() as u64,
            ..self.head.clone()
        };
        Ok((timeline, head))
    }

    /// The samples of these slots, the second not included. No more will be in them: what comes
    /// later counts for a later slot.
    #[must_use]
    pub fn take(&self, from: u32, to: u32) -> Timeline {
        let mut shown = self.shown();
        shown.store.close(to);
        let (profile, from) = shown.store.window(Window::Slots(from, to));
        drop(shown);
        self.as_timeline(profile, Vec::new(), from)
    }

    fn as_timeline(&self, profile: Profile, points: Vec<Point>, from: u32) -> Timeline {
        Timeline {
            profile,
            points,
            uses: Vec::new(),
            began: self
                .began
                .checked_add(Duration::from_nanos(u64::from(from) * SLOT_NS)),
        }
    }

    /// The slot up to which everything that the capture's side has handed over was seen.
    #[must_use]
    pub fn settled(&self) -> u32 {
        self.shown().settled
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shown().health.clone()
    }

    /// The slot that the time has reached.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.shown().store.slot
    }

    /// The first slot whose samples are kept.
    #[must_use]
    pub fn first_slot(&self) -> u32 {
        self.shown().store.first_slot
    }

    /// When slot 0 began.
    #[must_use]
    pub const fn began(&self) -> SystemTime {
        self.began
    }

    /// What became of the batches that are sent on.
    #[must_use]
    pub fn pushed(&self) -> Option<Pushed> {
        *self.pushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what became of the batches that are sent on.
    pub fn tell_pushed(&self, pushed: Pushed) {
        *self.pushed.lock().unwrap_or_else(PoisonError::into_inner) = Some(pushed);
    }

    /// Tells of each delta.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<StreamPlace> {
        self.changed.clone()
    }

    /// What comes after a place in the stream: whether it is a snapshot, its place and its text;
    /// `None` if that is still to come.
    #[must_use]
    pub fn after(&self, place: StreamPlace) -> Option<(bool, StreamPlace, Arc<str>)> {
        let mut shown = self.shown();
        match shown.stream.after(place) {
            Next::Nothing => None,
            Next::Delta(place, text) => Some((false, place, text)),
            Next::Snapshot(place, text) => Some((true, place, text)),
            Next::MakeSnapshot => {
                let Shown {
                    store,
                    encoder,
                    stream,
                    health,
                    settled: _,
                } = &mut *shown;
                let text = encoder.snapshot(store, health).ok()?;
                let (place, text) = stream.keep(text);
                Some((true, place, text))
            }
        }
    }
}
