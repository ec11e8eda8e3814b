//! `stackwalk ci record`: runs a command several times, and records each run with a recorder of its own,
//! so that no run begins with what another left behind.

use std::{
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use regex::Regex;

use super::{calibration::calibrate, heard::Listener};
use crate::{
    ci::{
        facts::Facts,
        set::{MAX_RUNS, RunHead, SetHead, SetWriter},
    },
    cli::{
        DEFAULT_FREQUENCY, command_line,
        output_file::{Destination, Readers},
        recorder::TOOL,
        run::complain,
        signals::Signals,
        summary::grouped,
    },
    recording::{head::Head, reader::Recording},
};

/// What is run, and how it is sampled.
#[derive(Debug, Clone, Args)]
pub(super) struct RunsArgs {
    /// How often the command is run
    #[arg(long, value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=MAX_RUNS as i64))]
    runs: u32,
    /// How often it is run before that, without being recorded
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(0..=1000))]
    warmup: u32,
    /// Costs are compared by unit of work: the command prints how many it did, and this regular
    /// expression finds the number (its first group, or all of it; the last match counts). By default
    /// a run is a unit
    #[arg(long, value_name = "REGEX")]
    work_unit: Option<Regex>,
    /// What the workload is called; sets of other names are not compared [default: the command line]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Sample everything on every CPU while the command runs, not only the command: also what the
    /// kernel's own threads do for it
    #[arg(short, long)]
    all: bool,
    /// Sample this event instead of CPU time (as `stackwalk record -e`)
    #[arg(short, long, value_name = "EVENT")]
    event: Option<String>,
    /// Samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = DEFAULT_FREQUENCY,
        value_parser = clap::value_parser!(u64).range(1..))]
    frequency: u64,
    /// Leave the user stacks out
    #[arg(long, conflicts_with = "no_kernel")]
    no_user: bool,
    /// Leave the kernel stacks out
    #[arg(long)]
    no_kernel: bool,
    /// The kernel's image (vmlinux or vmlinuz), if its unwind tables cannot be found in memory
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,
    /// The command
    #[arg(last = true, value_name = "CMD ARGS…", required = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RecordArgs {
    /// Where to write the set
    #[arg(short, long, value_name = "FILE", default_value = "stackwalk.swkset")]
    output: PathBuf,
    /// Write over a file that is not stackwalk's own
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    runs: RunsArgs,
}

pub(super) fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let destination = Destination::open(&args.output, args.force, Readers::All)?;
    let set = run_all(&args.runs)?;
    let path = destination.path().to_owned();
    destination.write(|out| io::copy(&mut &set, out).map(drop))?;
    complain(&format!(
        "wrote    {} ({} runs)",
        path.display(),
        args.runs.runs
    ));
    Ok(ExitCode::SUCCESS)
}

/// Makes all runs; returns the set, in a file without a name.
pub(super) fn run_all(args: &RunsArgs) -> anyhow::Result<File> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let head = SetHead {
        tool: TOOL.to_owned(),
        workload: { args.name.clone() }.unwrap_or_else(|| command_line(&args.command)),
        began: now.map_or(0, |now| now.as_secs()),
        work_unit: args.work_unit.as_ref().map(ToString::to_string),
        facts: Facts::of_this_machine(),
        ..SetHead::default()
    };
    // A signal ends the run that goes on, and no other is begun.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let mut signals = runtime.block_on(async { Signals::new(false) })?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("run.swk");
    let mut runs = Vec::new();
    for number in 0..args.warmup + args.runs {
        let run = runtime.block_on(args.run(&path))?;
        ensure!(
            !runtime.block_on(signals.came_already()),
            "ended by a signal; nothing was written"
        );
        let recording = File::open(&path).context("cannot open the recording of a run")?;
        let (read, _) = Recording::read(recording.try_clone()?)
            .context("cannot read the recording of a run")?;
        let what = match number.checked_sub(args.warmup) {
            Some(number) => format!("run {}/{}", number + 1, args.runs),
            None => format!("warm-up {}/{}", number + 1, args.warmup),
        };
        let run = args.finished(run, &read).with_context(|| what.clone())?;
        complain(&line(&what, &run, &read));
        if number >= args.warmup {
            runs.push((run, recording, read.head));
        }
        std::fs::remove_file(&path).context("cannot remove a temporary file")?;
    }
    let mut facts = head.facts.clone();
    facts.add(
        "sampling",
        runs.first().map(|(.., head)| args.sampling(head)),
    );
    let file = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut set = SetWriter::new(io::BufWriter::new(file), SetHead { facts, ..head });
    let cannot = "cannot write the set";
    for (run, recording, _) in runs {
        set.add(run, &recording).context(cannot)?;
    }
    let file = set.finish().context(cannot)?;
    let mut file = file
        .into_inner()
        .map_err(io::IntoInnerError::into_error)
        .context(cannot)?;
    io::Seek::rewind(&mut file).context(cannot)?;
    Ok(file)
}

fn line(what: &str, run: &RunHead, recording: &Recording) -> String {
    let counts = &recording.counts;
    let lost: u64 = counts.lost.iter().map(|(_, lost)| lost).sum();
    let work = run
        .work
        .map_or_else(String::new, |work| format!(", {work} units of work"));
    format!(
        "{what}: {:.2} s, {:.2} s of CPU time, {} samples, {} lost{work}",
        run.wall_ns as f64 / 1e9,
        run.cpu_ns as f64 / 1e9,
        grouped(counts.delivered),
        grouped(lost),
    )
}

/// A run that has ended, as far as its recorder tells.
struct Ended {
    calibration_ns: u64,
    work: Option<f64>,
}

impl RunsArgs {
    /// How it is sampled, for the facts.
    fn sampling(&self, head: &Head) -> String {
        let events = head.events.iter().map(|event| event.name.as_str());
        let sides = match (self.no_kernel, self.no_user) {
            (true, _) => "user",
            (_, true) => "kernel",
            _ => "kernel and user",
        };
        let events = events.collect::<Vec<_>>().join(", ");
        let tasks = if self.all { " of all tasks" } else { "" };
        format!("{events} at {} Hz, {sides} stacks{tasks}", self.frequency)
    }

    /// Runs and records the command once.
    async fn run(&self, path: &Path) -> anyhow::Result<Ended> {
        let calibration_ns = calibrate();
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["record", "--compact", "--force", "-o"])
            .arg(path);
        command.args(["-F", &self.frequency.to_string()]);
        command.args(self.all.then_some("-a"));
        if let Some(event) = &self.event {
            command.args(["-e", event]);
        }
        command.args(self.no_user.then_some("--no-user"));
        command.args(self.no_kernel.then_some("--no-kernel"));
        if let Some(vmlinux) = &self.vmlinux {
            command.arg("--vmlinux").arg(vmlinux);
        }
        command.arg("--").args(&self.command);
        let (out, out_writer) = io::pipe().context("cannot make a pipe")?;
        let (err, err_writer) = io::pipe().context("cannot make a pipe")?;
        command
            .stdin(Stdio::null())
            .stdout(out_writer)
            .stderr(err_writer);
        let mut command = tokio::process::Command::from(command);
        let mut child = command.spawn().context("cannot start a recorder")?;
        // The writing ends are the recorder's alone.
        drop(command);
        let search = self.work_unit.as_ref();
        let mut out = Listener::new(out, io::stdout(), search)?;
        let mut err = Listener::new(err, io::stderr(), search)?;
        loop {
            tokio::select! {
                readable = out.readable(), if !out.closed => {
                    readable?;
                    out.take();
                }
                readable = err.readable(), if !err.closed => {
                    readable?;
                    err.take();
                }
                ended = child.wait() => {
                    ended.context("cannot wait for the recorder")?;
                    break;
                }
            }
        }
        out.take();
        err.take();
        if !path.exists() {
            let why = err.own.as_deref().unwrap_or("it does not say why");
            bail!("the recorder failed: {why}");
        }
        Ok(Ended {
            calibration_ns,
            work: out.work.or(err.work),
        })
    }

    /// What is known of a run that was recorded.
    fn finished(&self, run: Ended, recording: &Recording) -> anyhow::Result<RunHead> {
        let counts = &recording.counts;
        ensure!(
            recording.ended,
            "the recorder was killed: {}",
            recording.defects().join("; ")
        );
        let end = counts
            .command
            .context("the command did not end by itself")?;
        ensure!(
            end.status == 0,
            "the command failed with status {}: only runs that succeed can be compared",
            end.status
        );
        if let Some(regex) = &self.work_unit {
            let work = run.work.with_context(|| {
                format!("the command did not print a number where `{regex}` (--work-unit) finds it")
            })?;
            ensure!(
                work.is_finite() && work > 0.0,
                "the command did {work} units of work: a run has to do some"
            );
        }
        Ok(RunHead {
            file: String::new(),
            status: end.status.into(),
            wall_ns: counts.duration_ns,
            cpu_ns: end.cpu_ns,
            work: run.work,
            calibration_ns: run.calibration_ns,
        })
    }
}
