//! `stackwalk record`: sample, and write what was seen.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use walker_common::wire::MAX_USER_BYTES;

use super::{
    SamplingArgs, TargetArgs,
    event_args::TimeArgs,
    output_file::{Format, OutputFile},
    recorder::Recorder,
    run::{Finished, Wanted, complain, sample},
    summary::{self, Conditions, Dropped, grouped},
};
use crate::{
    capture::{
        budget::FIRST_BUDGET,
        events::{EventInfo, Weight},
        object::Sides,
    },
    output::{folded, svg, text},
    profile::{Meta, Profile, Totals, Unit},
    resolve::{self, UserFiles},
    symbolize::{KernelSymbols, UserSymbols, service},
    user_side::{UserCounters, UserSide},
};

/// Where results go if nothing is said.
const DEFAULT_OUTPUT: &str = "stackwalk.svg";

/// The largest copy of a user stack.
const USER_STACK_MAX_KIB: u32 = MAX_USER_BYTES as u32 / 1024;

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    time: TimeArgs,
    /// Where to write; the form goes by the extension: .svg (interactive flame graph), .folded
    /// (flame-graph text), .txt (stacks as in an oops). Can be given several times; `-` is
    /// flame-graph text on standard output
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_OUTPUT)]
    output: Vec<PathBuf>,
    /// Leave the user stacks out
    #[arg(long, conflicts_with = "no_kernel")]
    no_user: bool,
    /// Leave the kernel stacks out
    #[arg(long)]
    no_kernel: bool,
    /// The most that is copied of a user stack, in KiB. How much is copied of a process's stacks
    /// adapts to how deep they are
    #[arg(long, value_name = "KIB", default_value_t = USER_STACK_MAX_KIB,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(USER_STACK_MAX_KIB)))]
    user_stack_max: u32,
    /// Do not show stack boundaries ([IRQ], [NMI], …) as frames
    #[arg(long)]
    no_stack_markers: bool,
}

impl RecordArgs {
    fn sides(&self) -> Sides {
        let most = self.user_stack_max * 1024;
        Sides {
            kernel: !self.no_kernel,
            user_budget: if self.no_user {
                0
            } else {
                FIRST_BUDGET.min(most)
            },
            user_budget_max: most,
        }
    }
}

pub(super) fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let outputs: Vec<OutputFile> = args
        .output
        .iter()
        .map(|path| OutputFile::create(path))
        .collect::<Result<_, _>>()?;
    let sides = args.sides();
    let mut recorder = Recorder::new(sides, args.time.bounds()?);
    let wanted = Wanted {
        events: &args.time.wanted(&args.sampling.events),
        sides,
        oracle: false,
    };
    let mut finished = sample(&args.target, &args.sampling, &wanted, &mut recorder)?;
    recorder.finish();

    let dropped = Dropped {
        malformed: finished.ended.malformed,
        filtered_waits: recorder.waits.filtered(),
        lost_waits: recorder.waits.lost(),
    };
    let totals = summary::totals(&finished.counters.iter().copied().sum(), &dropped);
    let events = finished.ended.events.clone();
    let conditions = Conditions {
        events: &events,
        cpus: finished.ended.cpus,
        duration: finished.duration,
    };
    let frequencies: Vec<_> = events.iter().map(|event| event.frequency).collect();
    let meta = Meta {
        title: title(&args.target),
        events: events.iter().map(|event| event.name.clone()).collect(),
        unit: unit(&events),
        frequency: match frequencies.as_slice() {
            [frequency] => *frequency,
            _ => None,
        },
        duration: conditions.duration,
        totals: totals.clone(),
    };
    let mut names = Names::new()?;
    let profile = names.profile(&mut recorder, &mut finished, meta);
    let written: Vec<String> = outputs
        .iter()
        .map(|output| output.path().display().to_string())
        .collect();
    for output in outputs {
        write(&profile, output, !args.no_stack_markers)?;
    }

    for line in summary::lines(&conditions, &totals, &finished.counters, &recorder.walks) {
        complain(&line);
    }
    for line in notes(&recorder, &names, &finished, &totals) {
        complain(&line);
    }
    complain(&format!("wrote    {}", written.join(", ")));
    Ok(finished.exit_code())
}

/// What the weights of these events can be shown in together.
fn unit(events: &[EventInfo]) -> Unit {
    let weighs = |weight: fn(Weight) -> bool| events.iter().any(|event| weight(event.weight));
    if weighs(|weight| matches!(weight, Weight::Nanoseconds(_) | Weight::Duration)) {
        Unit::Nanoseconds
    } else if weighs(|weight| weight != Weight::Events(1)) {
        Unit::Events
    } else {
        Unit::Samples
    }
}

fn write(profile: &Profile, output: OutputFile, markers: bool) -> anyhow::Result<()> {
    match output.format() {
        Format::Folded => {
            output.write(|out| folded::write(profile, &folded::Options { markers }, out))
        }
        Format::Svg => output.write(|out| {
            svg::write(
                profile,
                &svg::Options {
                    markers,
                    ..Default::default()
                },
                out,
            )
        }),
        Format::Text => output.write(|out| text::write(profile, &text::Options::default(), out)),
    }
}

/// What was sampled, in the words of the command line.
fn title(target: &TargetArgs) -> String {
    let list = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    if !target.pid.is_empty() {
        format!("stackwalk record -p {}", list(&target.pid))
    } else if !target.tid.is_empty() {
        format!("stackwalk record -t {}", list(&target.tid))
    } else if target.command.is_empty() {
        "stackwalk record -a".to_owned()
    } else {
        let words = target.command.iter().map(|word| word.to_string_lossy());
        format!(
            "stackwalk record -- {}",
            words.collect::<Vec<_>>().join(" ")
        )
    }
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
}

impl Names {
    fn new() -> anyhow::Result<Self> {
        let user = UserSymbols::new(service::Config::default());
        Ok(Self {
            kernel: KernelSymbols::new(),
            user: user.context("cannot start the thread that names addresses")?,
        })
    }

    fn profile(&mut self, recorder: &mut Recorder, finished: &mut Finished, meta: Meta) -> Profile {
        let files = recorder.user_side.as_mut();
        resolve::profile(
            &recorder.aggregate,
            meta,
            &mut finished.ended.prepared,
            &mut self.kernel,
            files.map(|files| (files as &mut dyn UserFiles, &mut self.user)),
        )
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
    let samples = recorder.samples;
    if let Some(bytes) = recorder.bytes.checked_div(samples) {
        let user = recorder.user_side.as_ref().map(UserSide::counters);
        let user = user.unwrap_or_default();
        notes.push(format!(
            "copied   {} bytes a sample, {} of them of the user stack",
            grouped(bytes),
            grouped(user.bytes / samples),
        ));
        notes.extend(user_notes(&user));
    }
    if recorder.aggregate.shortened() > 0 {
        notes.push(format!(
            "warning  {} samples are shown without their inner frames: there were too many \
             distinct stacks",
            grouped(recorder.aggregate.shortened())
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
