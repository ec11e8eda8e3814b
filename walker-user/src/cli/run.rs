//! Sampling from start to end, for every command that samples: signals, time limits, the end of
//! the target, and a command's own process.

use std::{
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use walker_common::maps::Counters;

use super::{
    SamplingArgs, TargetArgs,
    absent_cpus::AbsentCpus,
    signals::{Signals, came},
    status::StatusLine,
};
use crate::{
    capture::{
        events::EventsWanted,
        object::Sides,
        record::Record,
        session::{Captured, Ended, Session, SessionOptions, online_cpus},
        target::Target,
    },
    kernel::image::KernelImage,
    recording::head::CommandEnd,
    sys::{
        clock::children_cpu_ns,
        limits::raise_open_files,
        priority::Raised,
        process::{WaitingCommand, interrupt, is_in_foreground, terminate},
    },
};

/// How often it is looked whether the target still runs.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a command that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a command may go on that may have been interrupted along with stackwalk, until it is
/// interrupted by that.
const PASS_ON_AFTER: Duration = Duration::from_secs(1);

/// Writes one line to standard error. Where that cannot be written there is nobody to tell.
pub(super) fn complain(message: &str) {
    let _written = writeln!(std::io::stderr(), "stackwalk: {message}");
}

/// A sampling that has ended.
pub(super) struct Finished {
    /// What is left of the capture.
    pub(super) ended: Ended,
    /// What became of every event, by its index.
    pub(super) counters: Vec<Counters>,
    /// How long it sampled.
    pub(super) duration: Duration,
    /// How the command ended, unless stackwalk ended it.
    pub(super) command: Option<CommandEnd>,
}

impl Finished {
    /// The command's exit status as a shell shows it; success without a command.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.command.map_or(0, |end| end.status))
    }
}

/// How the only child of this process ended that is waited for.
fn command_end(status: ExitStatus) -> CommandEnd {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    CommandEnd {
        status: u8::try_from(code).unwrap_or(u8::MAX),
        cpu_ns: children_cpu_ns(),
    }
}

/// What to sample of the target.
pub(super) struct Wanted<'a> {
    /// The events.
    pub(super) events: &'a EventsWanted,
    /// Which sides of a sample.
    pub(super) sides: Sides,
    /// Ask the kernel's own unwinder at every event.
    pub(super) oracle: bool,
}

/// Something that takes part in a sampling besides the samples themselves.
pub(super) trait Observer {
    /// A sample, or the end of a wait.
    fn record(&mut self, captured: &Captured<'_>, record: &Record<'_>);
    /// The session is open and its events are about to start.
    fn prepare(&mut self, _session: &mut Session) -> anyhow::Result<()> {
        Ok(())
    }
    /// Its events have started, and the command runs.
    fn started(&mut self, _session: &Session) -> anyhow::Result<()> {
        Ok(())
    }
    /// The samples that waited were handled.
    fn drained(&mut self, _session: &mut Session) -> anyhow::Result<()> {
        Ok(())
    }
    /// Whether more samples are of no use.
    fn wants_to_stop(&self) -> bool {
        false
    }
    /// Whether SIGHUP asks for a reload instead of ending the process.
    fn reloads(&self) -> bool {
        false
    }
    /// SIGHUP came.
    fn reload(&mut self) {}
    /// Its events have just been stopped.
    fn stopped(&mut self, _session: &mut Session) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Samples until the time is over, the target is gone, or a signal comes.
pub(super) fn sample(
    target: &TargetArgs,
    sampling: &SamplingArgs,
    wanted: &Wanted<'_>,
    observer: &mut impl Observer,
) -> anyhow::Result<Finished> {
    raise_open_files();
    let resolved = target.resolve()?;
    let image = sampling
        .vmlinux
        .as_deref()
        .map(|path| {
            KernelImage::open(path).with_context(|| {
                format!(
                    "--vmlinux {} is not the vmlinux or vmlinuz of a kernel",
                    path.display()
                )
            })
        })
        .transpose()?;
    let waiting = match target.command.split_first() {
        Some((program, arguments)) => Some(
            WaitingCommand::fork(program, arguments)
                .with_context(|| format!("cannot start `{}`", program.display()))?,
        ),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        // Before anything else, so that no signal can end it half way and leave something behind.
        let signals = Signals::new(observer.reloads())?;
        let session = Session::open(&SessionOptions {
            target: &resolved,
            // Where everything is sampled, the command only says for how long.
            waiting_pid: waiting
                .as_ref()
                .filter(|_| !target.all)
                .map(WaitingCommand::pid),
            events: wanted.events,
            keep_idle: sampling.idle,
            image: image.as_ref(),
            ring_bytes: sampling.ring_size.map(|kib| kib * 1024),
            oracle: wanted.oracle,
            sides: wanted.sides,
        })?;
        drop(image);
        let run = Run {
            target: resolved,
            deadline: sampling.duration,
            session,
            status: StatusLine::new(),
        };
        let name = target
            .command
            .first()
            .map(|name| name.display().to_string());
        run.until_finished(waiting, name.unwrap_or_default(), signals, observer)
            .await
    })
}

struct Run {
    target: Target,
    deadline: Option<Duration>,
    session: Session,
    status: StatusLine,
}

impl Run {
    async fn until_finished(
        mut self,
        waiting: Option<WaitingCommand>,
        command_name: String,
        mut signals: Signals,
        observer: &mut impl Observer,
    ) -> anyhow::Result<Finished> {
        observer.prepare(&mut self.session)?;
        anyhow::ensure!(
            !signals.came_already().await,
            "ended by a signal before the sampling began; nothing was written"
        );
        self.session
            .start()
            .context("cannot start the perf events")?;
        let started = Instant::now();
        let mut child = match waiting {
            Some(waiting) => Some(waiting.release().with_context(|| {
                format!("cannot run `{command_name}` (is it there and executable?)")
            })?),
            None => None,
        };
        // While that is allowed; what does not take samples has the usual priority.
        let raised = Raised::new();
        let result = self
            .sample_to_end(&mut signals, started, &mut child, observer)
            .await;
        drop(raised);
        if result.is_err()
            && let Some(child) = &mut child
            && let Ok(None) = child.try_wait()
        {
            terminate(child);
            complain(&format!(
                "the command (process {}) was sent SIGTERM, as it can no longer be sampled",
                child.id()
            ));
        }
        let (ended_itself, duration) = result?;
        let command = match child {
            Some(child) => end_command(child, ended_itself, &mut signals).await?,
            None => None,
        };
        let counters = self.session.counters()?;
        Ok(Finished {
            ended: self.session.finish(),
            counters,
            duration,
            command: command.map(command_end),
        })
    }

    /// Samples, and handles all samples; returns whether the command ended by itself, and how long it
    /// took.
    async fn sample_to_end(
        &mut self,
        signals: &mut Signals,
        started: Instant,
        child: &mut Option<Child>,
        observer: &mut impl Observer,
    ) -> anyhow::Result<(bool, Duration)> {
        observer.started(&self.session)?;
        let ended_itself = self
            .until_end(signals, started, child.as_mut(), observer)
            .await?;
        self.session.stop().context("cannot stop the perf events")?;
        let duration = started.elapsed();
        observer.stopped(&mut self.session)?;
        self.status.clear();
        while self
            .session
            .drain(|captured, record| observer.record(captured, record))
        {}
        observer.drained(&mut self.session)?;
        Ok((ended_itself, duration))
    }

    /// Handles samples until something says to stop; returns whether the command ended by itself.
    async fn until_end(
        &mut self,
        signals: &mut Signals,
        started: Instant,
        mut child: Option<&mut Child>,
        observer: &mut impl Observer,
    ) -> anyhow::Result<bool> {
        let deadline = self
            .deadline
            .map(|after| tokio::time::Instant::from_std(started + after));
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut absent = AbsentCpus::new(self.session.cpus(), &online_cpus()?);
        let mut cpus_unknown = false;
        let mut more = false;
        let mut interrupted = false;
        let mut pass_on = None;
        let mut patience = None;
        loop {
            tokio::select! {
                biased;
                _ = signals.interrupt.recv() => {
                    if child.is_none() || interrupted {
                        return Ok(false);
                    }
                    interrupted = true;
                    // A terminal's Ctrl-C has reached the command as well. Elsewhere it is not known
                    // whether the signal was for both: what goes on gets it from here.
                    if !is_in_foreground() {
                        pass_on = Some(tokio::time::Instant::now() + PASS_ON_AFTER);
                    }
                    self.status.clear();
                    complain(
                        "the command may end in its own time, and is sampled until then; once \
                         more ends it",
                    );
                }
                () = at(pass_on) => {
                    if let Some(child) = child.as_deref() {
                        interrupt(child);
                    }
                    pass_on = None;
                    patience = Some(tokio::time::Instant::now() + PATIENCE);
                }
                () = at(patience) => return Ok(false),
                _ = signals.terminate.recv() => return Ok(false),
                () = at(deadline) => return Ok(false),
                () = came(&mut signals.hangup) => match observer.reloads() {
                    true => observer.reload(),
                    false => return Ok(false),
                },
                _ = look.tick() => {
                    if let Some(child) = child.as_deref_mut()
                        && child.try_wait().context("cannot ask after the command")?.is_some()
                    {
                        return Ok(true);
                    }
                    if !self.target.is_alive() && !self.session.has_living_target()? {
                        complain(
                            "the target has ended, and so has everything it started: the \
                             sampling ends",
                        );
                        return Ok(false);
                    }
                    match online_cpus() {
                        Ok(online) => {
                            for cpu in absent.look(&online) {
                                complain(&format!(
                                    "warning  CPU {cpu} has come online and is not sampled: start \
                                     again to have its samples"
                                ));
                            }
                        }
                        // What fails for want of a descriptor may go well the next time.
                        Err(error) if !cpus_unknown => {
                            cpus_unknown = true;
                            complain(&format!("warning  {error:#}; it is tried again"));
                        }
                        Err(_) => {}
                    }
                    let counters = self.session.counters()?;
                    let all = counters.into_iter().sum();
                    self.status.show(started.elapsed(), &all);
                }
                _ = signals.child.recv() => {
                    if let Some(child) = child.as_deref_mut()
                        && child.try_wait().context("cannot ask after the command")?.is_some()
                    {
                        return Ok(true);
                    }
                }
                () = ready(&mut self.session, more) => {
                    more = self.session.drain(|captured, record| observer.record(captured, record));
                    observer.drained(&mut self.session)?;
                    if observer.wants_to_stop() {
                        return Ok(false);
                    }
                }
            }
        }
    }
}

async fn ready(session: &mut Session, more: bool) {
    if more {
        tokio::task::yield_now().await;
    } else {
        session.ready().await;
    }
}

async fn at(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Collects the command's status, after asking it to end if it has not. `None` if it was our
/// doing that it ended.
async fn end_command(
    mut child: Child,
    ended_itself: bool,
    signals: &mut Signals,
) -> anyhow::Result<Option<ExitStatus>> {
    let wait = |child: &mut Child| child.try_wait().context("cannot ask after the command");
    if ended_itself {
        return wait(&mut child);
    }
    if let Some(status) = wait(&mut child)? {
        return Ok(Some(status));
    }
    terminate(&child);
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => {
                complain(&format!("process {} goes on", child.id()));
                return Ok(None);
            }
            _ = signals.child.recv() => {
                if wait(&mut child)?.is_some() {
                    return Ok(None);
                }
            }
            () = sleep_until(patience) => {
                complain(&format!("process {} goes on: it does not react to SIGTERM", child.id()));
                return Ok(None);
            }
        }
    }
}
