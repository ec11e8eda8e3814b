//! `stackwalk record`: sample, and write what was seen.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    SamplingArgs, SidesArgs, TargetArgs,
    event_args::TimeArgs,
    format::Format,
    output_file::Destination,
    recorder::{Recorder, RecorderOptions},
    recording_file::RecordingFile,
    run::{Finished, Wanted, complain, sample},
    signals::Hurry,
    summary::{self, Conditions, grouped},
};
use crate::{
    output::byte_size,
    profile::Totals,
    recording::{encode::code_row, head::Counts, reader::Recording, rows::NameRow},
    resolve,
    stack_tree::Code,
    symbolize::{KernelSymbols, UserSymbols, service},
    user_side::{UserCounters, UserSide},
};

/// Where results go if nothing is said.
const DEFAULT_OUTPUT: &str = "stackwalk.swk";

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    time: TimeArgs,
    /// Where to write; the form goes by the extension: .swk (recording, for `stackwalk report` and
    /// all others), .svg (interactive flame graph), .html (page with a time strip and an inspector),
    /// .folded (flame-graph text), .txt (stacks as in an oops), or another of `stackwalk export`. Can
    /// be given several times; `-` is flame-graph text on standard output
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_OUTPUT)]
    output: Vec<PathBuf>,
    #[command(flatten)]
    sides: SidesArgs,
    /// Keep walked stacks only, not the bytes they were walked from: small, and no other program's
    /// memory is in the recording
    #[arg(long)]
    compact: bool,
    /// Write over files that are not stackwalk's own
    #[arg(long)]
    force: bool,
    /// Do not show stack boundaries ([IRQ], [NMI], …) as frames
    #[arg(long)]
    no_stack_markers: bool,
}

/// Where everything goes.
struct Outputs {
    /// The recording, or a file without a name if only pictures are wanted.
    recording: RecordingFile,
    /// What is made of the recording.
    exports: Vec<(Format, Destination)>,
}

impl Outputs {
    fn open(paths: &[PathBuf], force: bool) -> anyhow::Result<Self> {
        let (recordings, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
            paths.iter().partition(|path| RecordingFile::is_name(path));
        Ok(Self {
            recording: match recordings.as_slice() {
                [] => RecordingFile::unnamed()?,
                [path] => RecordingFile::create(path, force)?,
                [_, second, ..] => anyhow::bail!(
                    "`{}` would be a second recording of the same: copy the first instead",
                    second.display()
                ),
            },
            exports: others
                .into_iter()
                .map(|path| {
                    let format = match path.as_path() == Path::new("-") {
                        true => Format::Folded,
                        false => Format::wanted(path)?,
                    };
                    Ok((format, Destination::open(path, force, format.readers())?))
                })
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

pub(super) fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let Outputs { recording, exports } = Outputs::open(&args.output, args.force)?;
    let (path, file) = (recording.path(), recording.file()?);
    let out = recording.file()?;
    let sides = args.sides.sides();
    let options = RecorderOptions {
        title: args.target.title("record"),
        sides,
        bounds: args.time.bounds()?,
        idle: args.sampling.idle,
        evidence: path.is_some() && !args.compact,
    };
    let evidence = options.evidence;
    let mut recorder = Recorder::new(options, out, Box::new(|| recording.put_in_place()));
    let wanted = Wanted {
        events: &args.time.wanted(&args.sampling.events),
        sides,
        oracle: false,
    };
    let mut finished = sample(&args.target, &args.sampling, &wanted, &mut recorder)?;
    recorder.finish()?;

    let dropped = recorder.dropped(finished.ended.malformed);
    let totals = summary::totals(&finished.counters.iter().copied().sum(), &dropped);
    let hurry = Hurry::new()?;
    let mut names = Names::new(hurry)?;
    names.find(&mut recorder, &mut finished)?;
    let notes = notes(&recorder, &names, &finished, &totals);
    let counts = Counts {
        notes: notes.clone(),
        command: finished.command,
        ..Counts::new(&totals, finished.duration)
    };
    let events = finished.ended.events.clone();
    let conditions = Conditions {
        events: &events,
        cpus: finished.ended.cpus,
        duration: finished.duration,
    };
    for line in summary::lines(
        &conditions,
        &totals,
        &finished.counters,
        &recorder.walker.walks,
    ) {
        complain(&line);
    }
    for line in &notes {
        complain(line);
    }
    let samples = recorder.walker.samples;
    let bytes = match recorder.sink.take() {
        Some(sink) => sink.end(&counts),
        None => Ok(0),
    };
    let exit = finished.exit_code();
    // Naming and drawing take memory of their own.
    drop((recorder, finished, names));
    let mut written = Vec::new();
    match (&path, bytes) {
        (_, Err(error)) => {
            let place = match &path {
                Some(path) => format!("`{}`", path.display()),
                None => format!("a file in {}", std::env::temp_dir().display()),
            };
            anyhow::bail!(
                "cannot write {place}: {error}. The recording stopped there; what it holds can be \
                 read. `-o FILE` writes to another place, --compact writes less"
            );
        }
        (Some(path), Ok(bytes)) => written.push(format!(
            "{} ({}{}, {})",
            path.display(),
            byte_size(bytes),
            match bytes.checked_div(samples) {
                Some(each) => format!(", {} bytes a sample", grouped(each)),
                None => String::new(),
            },
            match evidence {
                true => "with the bytes of all stacks",
                false => "walked stacks only",
            }
        )),
        (None, Ok(_)) => {}
    }
    if !exports.is_empty() {
        let (recording, _) = Recording::read(file).context("cannot read the recording again")?;
        let timeline = recording.timeline();
        for (format, destination) in exports {
            written.push(destination.path().display().to_string());
            destination.write(|out| format.write(&timeline, !args.no_stack_markers, out))?;
        }
    }
    complain(&format!("wrote    {}", written.join(", ")));
    Ok(exit)
}

/// The same of the user side.
fn user_notes(counters: &UserCounters) -> Vec<String> {
    let mut notes = Vec::new();
    if counters.lost_records > 0 {
        let lost = grouped(counters.lost_records);
        notes.push(format!(
            "warning  {lost} records of what processes mapped were lost: some of their files may \
             be taken for others that were there before"
        ));
    }
    if counters.unkept_mappings > 0 {
        notes.push(
            "warning  there were too many mappings of processes to keep all: `replay` and `inspect` \
             cannot walk the user stacks of later samples again"
                .to_owned(),
        );
    }
    if counters.unreadable_tables > 0 {
        let files = grouped(counters.unreadable_tables);
        notes.push(format!(
            "warning  the unwind tables of {files} files could not be read"
        ));
    }
    notes
}

/// Who names addresses, and what had no name.
struct Names {
    kernel: KernelSymbols,
    user: UserSymbols,
    hurry: Hurry,
    /// Files and processes whose addresses were left without names in a hurry.
    left_out: usize,
}

impl Names {
    fn new(hurry: Hurry) -> anyhow::Result<Self> {
        let user = UserSymbols::new(service::Config::default());
        Ok(Self {
            kernel: KernelSymbols::new(),
            user: user.context("cannot start the thread that names addresses")?,
            hurry,
            left_out: 0,
        })
    }

    /// Names all addresses and puts the names into the recording, first those that cannot be found
    /// later: of the kernel as it is loaded now, of code without a file, of files that are gone.
    fn find(&mut self, recorder: &mut Recorder, finished: &mut Finished) -> anyhow::Result<()> {
        recorder.take_addresses();
        let Some(sink) = &mut recorder.sink else {
            return Ok(());
        };
        let addresses = std::mem::take(&mut recorder.addresses);
        let prepared = &mut finished.ended.prepared;
        let kernel = resolve::name_kernel(prepared, &mut self.kernel, addresses.kernel);
        let mut rows: Vec<NameRow> = kernel.into_iter().map(NameRow::from).collect();
        sort_names(&mut rows);
        sink.names(&rows)?;
        let Some(files) = &mut recorder.walker.user_side else {
            return Ok(());
        };
        let mut holders: Vec<_> = addresses.user.into_iter().collect();
        holders.sort_unstable_by_key(|((code, pid), _)| match code {
            Code::Memory => (0, *pid),
            Code::Unmapped | Code::NoFile(_) => (1, 0),
            Code::Object(id) => (2 + u8::from(files.is_named(*id)), id.0),
        });
        for (holder, addresses) in holders {
            if self.hurry.is_asked() {
                self.left_out += 1;
                continue;
            }
            let names = resolve::name_user(files, &mut self.user, holder, addresses);
            let names = names.into_iter();
            let mut rows: Vec<NameRow> = names
                .map(|(lookup, symbol)| NameRow::User {
                    code: code_row(holder.0),
                    pid: holder.1,
                    lookup,
                    symbol: Arc::unwrap_or_clone(symbol),
                })
                .collect();
            sort_names(&mut rows);
            sink.names(&rows)?;
        }
        Ok(())
    }

    /// How many distinct addresses got no name, by reason.
    fn unnamed(&self) -> BTreeMap<&'static str, u64> {
        let mut unnamed = self.kernel.unnamed().clone();
        for (reason, count) in self.user.unnamed() {
            *unnamed.entry(reason).or_default() += count;
        }
        unnamed
    }
}

/// By address, so that the same samples make the same file.
fn sort_names(names: &mut [NameRow]) {
    names.sort_unstable_by_key(|name| match name {
        NameRow::Kernel { lookup, .. } | NameRow::User { lookup, .. } => *lookup,
    });
}

/// What else is worth knowing, and only then.
fn notes(recorder: &Recorder, names: &Names, finished: &Finished, totals: &Totals) -> Vec<String> {
    let mut notes = Vec::new();
    let unnamed = names.unnamed();
    if !unnamed.is_empty() {
        let reasons = unnamed
            .iter()
            .map(|(reason, count)| format!("{} {reason}", grouped(*count)));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        notes.push(format!("symbols  addresses without a name: {reasons}"));
    }
    let unused: Vec<(&str, usize)> = names.user.unused_debug_info().collect();
    if !unused.is_empty() {
        let files: usize = unused.iter().map(|(_, files)| files).sum();
        let reasons = { unused.iter() }.map(|(reason, files)| format!("{files} {reason}"));
        notes.push(format!(
            "symbols  debug info not usable: {files} file{}: {}",
            if files == 1 { "" } else { "s" },
            reasons.collect::<Vec<_>>().join(", ")
        ));
    }
    if names.left_out > 0 {
        notes.push(format!(
            "warning  a signal ended the search for names: the addresses of {} files and processes \
             have none",
            names.left_out
        ));
    }
    let samples = recorder.walker.samples;
    if let Some(bytes) = recorder.walker.bytes.checked_div(samples) {
        let user = recorder.walker.user_side.as_ref().map(UserSide::counters);
        let user = user.unwrap_or_default();
        notes.push(format!(
            "copied   {} bytes a sample, {} of them of the user stack",
            grouped(bytes),
            grouped(user.bytes / samples),
        ));
        notes.extend(user_notes(&user));
    }
    let bytes_dropped = recorder
        .sink
        .as_ref()
        .map_or(0, |sink| sink.counters().bytes_dropped);
    if bytes_dropped > 0 {
        notes.push(format!(
            "warning  the file could not be written as fast as samples came: the stacks of {} records \
             were walked, but their bytes are not kept",
            grouped(bytes_dropped)
        ));
    }
    if recorder.slept_through > 0 {
        let (threads, are) = match recorder.slept_through {
            1 => ("thread", "is"),
            _ => ("threads", "are"),
        };
        notes.push(format!(
            "warning  {} {threads} waited before the sampling began and until its end, and {are} in no \
             stack: a wait is seen from its beginning",
            grouped(recorder.slept_through as u64),
        ));
    }
    if recorder.walker.tree.shortened() > 0 {
        notes.push(format!(
            "warning  {} samples are shown without their inner frames: there were too many \
             distinct stacks",
            grouped(recorder.walker.tree.shortened())
        ));
    }
    if finished.ended.prepared.kernel.unreadable_modules > 0 {
        notes.push(format!(
            "warning  the unwind tables of {} modules could not be read",
            finished.ended.prepared.kernel.unreadable_modules
        ));
    }
    if totals.delivered == 0 {
        notes.push(
            "warning  no sample was taken: the target did not run, or ended at once".to_owned(),
        );
    }
    notes
}
