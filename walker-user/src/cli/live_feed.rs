//! What `live` does with every record: walks it, and hands it with what it refers to on to the
//! [hub](crate::live::hub), several times a second.

use std::{collections::HashMap, net::TcpListener, sync::Arc};

use anyhow::Context as _;
use rustc_hash::FxHashSet;

use super::{
    live_config::Reload,
    live_privileges,
    recorder::plain_head,
    run::Observer,
    summary::{self, Dropped},
    walker::{Walked, Walker},
};
use crate::{
    capture::{
        record::Record,
        session::{Captured, Session},
    },
    live::{
        hub::{self, Batch, Counted, Intake, Live, LiveSample, Request, Source, Subject},
        push::{Prepared, Pusher},
        server::{self, Access},
        tui::Shown,
    },
    process::object::ObjectId,
    profile::ProfileObject,
    recording::head::Head,
    resolve::{Holder, UserFiles as _, holder},
    stack_tree::{Code, Place, RawFrame},
    symbolize::Reason,
    user_side::UserSide,
};

/// Most samples that wait for a hub that is too slow.
const MAX_WAITING: usize = 200_000;

/// Most addresses that names are kept of.
const MAX_ASKED: usize = 100_000;

/// Says where to look, or shows it in a terminal.
pub(super) type Announce = Box<dyn FnOnce(&Arc<Live>) -> anyhow::Result<Option<Shown>>>;

/// Who may look, and at what address.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) access: Access,
}

/// Feeds the hub.
pub(super) struct Feed {
    pub(super) walker: Walker,
    title: String,
    addresses: bool,
    door: Option<Door>,
    intake: Option<Intake>,
    pub(super) live: Option<Arc<Live>>,
    batch: Batch,
    /// How many of each were handed over.
    handed: Handed,
    /// The process of each frame of the tree.
    pids: Vec<u32>,
    /// The addresses that a name was asked for.
    asked: FxHashSet<(Holder, u64)>,
    /// Samples that the hub was too slow for.
    dropped: u64,
    /// Called when there is something to look at.
    ready: Option<Announce>,
    /// The terminal, if it is shown there.
    pub(super) shown: Option<Shown>,
    /// What sends samples on, before and after its start.
    pub(super) push: Option<Prepared>,
    pub(super) pusher: Option<Pusher>,
    /// What SIGHUP reads again.
    pub(super) reload: Option<Reload>,
    /// Whether there is a command that has to end with it.
    pub(super) ends_command: bool,
}

#[derive(Debug, Default)]
struct Handed {
    processes: usize,
    notes: usize,
    objects: usize,
    nodes: usize,
}

impl Feed {
    pub(super) fn new(
        walker: Walker,
        (title, addresses): (String, bool),
        door: Door,
        ready: Announce,
    ) -> Self {
        Self {
            walker,
            title,
            addresses,
            door: Some(door),
            intake: None,
            live: None,
            batch: Batch::default(),
            handed: Handed::default(),
            pids: Vec::new(),
            asked: FxHashSet::default(),
            dropped: 0,
            ready: Some(ready),
            shown: None,
            push: None,
            pusher: None,
            reload: None,
            ends_command: false,
        }
    }

    fn count(&mut self, walked: Walked) {
        if self.batch.samples.len() >= MAX_WAITING {
            self.dropped += 1;
        } else {
            self.batch.samples.push(LiveSample {
                time_ns: walked.time_ns,
                cpu: walked.cpu,
                event: walked.event,
                place: walked.place,
                stop: walked.stop,
                weight: walked.weight,
            });
        }
        self.walker.reuse(walked.uses);
    }

    /// What user space did not keep of the records that arrived.
    pub(super) fn dropped(&self, malformed: u64) -> Dropped {
        Dropped {
            malformed,
            filtered_waits: self.walker.waits.filtered(),
            lost_waits: self.walker.waits.lost(),
            slow_disk: 0,
            slow_view: self.dropped,
        }
    }

    fn counted(&self, session: &Session) -> anyhow::Result<Counted> {
        let counters = session.counters()?.into_iter().sum();
        let totals = summary::totals(&counters, &self.dropped(session.malformed()));
        let sum = |missing: &[crate::profile::Missing]| missing.iter().map(|m| m.samples).sum();
        Ok(Counted {
            taken: totals.taken,
            delivered: totals.delivered,
            lost: sum(&totals.lost),
            filtered: sum(&totals.filtered),
            dropped: self.dropped,
        })
    }

    /// Adds what is new since the batch before.
    fn collect(&mut self) {
        let tree = &self.walker.tree;
        let batch = &mut self.batch;
        let processes = tree.processes();
        batch.processes.extend(&processes[self.handed.processes..]);
        self.handed.processes = processes.len();
        let notes = tree.notes();
        batch.notes.extend_from_slice(&notes[self.handed.notes..]);
        self.handed.notes = notes.len();
        let new = &tree.nodes()[self.handed.nodes..];
        batch.first_node = tree.first_node();
        batch.first_process = tree.first_process();
        batch.first_note = tree.first_note();
        batch.nodes.extend_from_slice(new);
        self.handed.nodes = tree.nodes().len();

        let mut wanted: HashMap<Holder, Vec<u64>> = HashMap::new();
        for (place, frame) in new {
            let pid = match place {
                Place::Process(process) => process
                    .checked_sub(tree.first_process())
                    .and_then(|index| processes.get(index as usize))
                    .map_or(0, |process| process.pid),
                // What is kept below a frame that was forgotten is a note, which has no address.
                Place::Node(node) => node
                    .checked_sub(tree.first_node())
                    .and_then(|index| self.pids.get(index as usize).copied())
                    .unwrap_or(0),
            };
            self.pids.push(pid);
            if let RawFrame::User { code, lookup, .. } = *frame {
                let holder = holder(code, pid);
                if self.asked.insert((holder, lookup)) {
                    wanted.entry(holder).or_default().push(lookup);
                }
            }
        }
        if let Some(user_side) = &mut self.walker.user_side {
            let objects = user_side.objects();
            let new = self.handed.objects..objects.len();
            batch.objects.extend(new.map(|index| {
                let object = objects.get(ObjectId(index as u32));
                ProfileObject {
                    path: object.path().to_owned(),
                    build_id: object.build_id(),
                }
            }));
            self.handed.objects = objects.len();
            batch.requests.extend(
                wanted
                    .into_iter()
                    .map(|(holder, addresses)| request(user_side, holder, addresses)),
            );
        }
    }

    /// Hands what was collected over, if the hub takes it.
    fn hand_over(&mut self, session: &Session) -> anyhow::Result<()> {
        self.collect();
        let Some(intake) = &self.intake else {
            return Ok(());
        };
        self.batch.counted = self.counted(session)?;
        match intake.offer(Box::new(std::mem::take(&mut self.batch))) {
            Ok(()) if self.walker.tree.has_little_room() => {
                self.walker.tree.forget_all();
                self.handed = Handed {
                    objects: self.handed.objects,
                    ..Handed::default()
                };
                self.pids.clear();
                if self.asked.len() > MAX_ASKED {
                    self.asked.clear();
                    self.batch.forget_names = true;
                }
            }
            Ok(()) => {}
            Err(batch) => self.batch = *batch,
        }
        Ok(())
    }
}

/// Asks for the names of addresses of one piece of code.
fn request(user_side: &mut UserSide, holder: Holder, addresses: Vec<u64>) -> Request {
    let source = match holder {
        (Code::Object(id), _) => match user_side.object(id) {
            Ok(object) => Source::Object(object),
            Err(name) => Source::Nowhere(name, Reason::Unreadable),
        },
        (Code::NoFile(number), _) => {
            Source::Nowhere(user_side.name(number).to_owned(), Reason::Unreadable)
        }
        (Code::Memory, pid) => Source::Jit(user_side.perf_map(pid).cloned()),
        (Code::Unmapped, _) => Source::Nowhere("[unknown]".to_owned(), Reason::Unmapped),
    };
    Request {
        holder,
        addresses,
        source,
    }
}

impl Observer for Feed {
    fn prepare(&mut self, session: &mut Session) -> anyhow::Result<()> {
        self.walker.prepare(session, false)?;
        let subject = Subject {
            head: Head {
                began_monotonic_ns: 0,
                ..plain_head(session, self.title.clone())
            },
            cpus: session.cpus().to_vec(),
            kallsyms: Arc::clone(&session.kernel.symbols),
            addresses: self.addresses,
        };
        let (intake, live) = hub::start(subject).context("cannot start the live view")?;
        self.intake = Some(intake);
        self.live = Some(live);
        Ok(())
    }

    fn started(&mut self, session: &Session) -> anyhow::Result<()> {
        live_privileges::give_up(session, self.ends_command)?;
        if let (Some(live), Some(push)) = (&self.live, self.push.take()) {
            let pusher = push.start(Arc::clone(live));
            self.pusher = Some(pusher.context("cannot start to send samples on")?);
        }
        if let (Some(live), Some(door)) = (&self.live, self.door.take()) {
            server::start(door.listener, door.access, Arc::clone(live))
                .context("cannot start the server")?;
            if let Some(ready) = self.ready.take() {
                self.shown = ready(live)?;
            }
        }
        Ok(())
    }

    fn reloads(&self) -> bool {
        self.reload.is_some()
    }

    fn reload(&mut self) {
        if let (Some(reload), Some(pusher)) = (&self.reload, &self.pusher) {
            reload.again(pusher);
        }
    }

    fn record(&mut self, captured: &Captured<'_>, record: &Record<'_>) {
        let walked = match record {
            Record::Sample(sample) => self.walker.sample(captured, sample, 0),
            Record::WaitEnd(end) => self.walker.wait_end(end),
        };
        if let Some(walked) = walked {
            self.count(walked);
        }
    }

    fn drained(&mut self, session: &mut Session) -> anyhow::Result<()> {
        if let Some(user_side) = &mut self.walker.user_side
            && user_side.after_samples(&mut session.object)?
        {
            session.hurry();
        }
        self.hand_over(session)
    }

    fn wants_to_stop(&self) -> bool {
        self.shown.as_ref().is_some_and(Shown::has_ended)
    }
}
