//! `stackwalk record`: sample, and write what was seen.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use rustc_hash::{FxHashMap, FxHashSet};
use walker_common::maps::names;

use super::{
    SamplingArgs, TargetArgs,
    output_file::{Format, OutputFile},
    run::{Finished, Observer, complain, sample},
    summary::{self, Conditions, Walks, grouped},
};
use crate::{
    aggregate::{Aggregate, Process, RawFrame},
    capture::record::Sample,
    kernel::{bpf_text, running::RunningKernel},
    output::{folded, svg, text},
    profile::{Frame, FrameClass, Meta, Profile, Totals, WeightedStack},
    symbolize::{Symbol, Symbols},
    unwind::{self, StopReason},
};

/// Where results go if nothing is said.
const DEFAULT_OUTPUT: &str = "stackwalk.svg";

#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Where to write; the form goes by the extension: .svg (interactive flame graph), .folded
    /// (flame-graph text), .txt (stacks as in an oops). Can be given several times; `-` is
    /// flame-graph text on standard output
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_OUTPUT)]
    output: Vec<PathBuf>,
    /// Do not show stack boundaries ([IRQ], [NMI], …) as frames
    #[arg(long)]
    no_stack_markers: bool,
}

/// Collects the samples.
#[derive(Default)]
struct Recorder {
    frames: Vec<unwind::Frame>,
    raw: Vec<RawFrame>,
    aggregate: Aggregate,
    walks: Walks,
    symbols: Symbols,
}

impl Observer for Recorder {
    fn sample(&mut self, kernel: &RunningKernel, sample: &Sample<'_>) {
        let header = sample.header();
        let stop = kernel.walk(sample, &mut self.frames);
        self.walks.add(
            kernel.interrupted_stack(&self.frames),
            &stop,
            sample.lacks_cpu_table(),
        );
        self.raw.clear();
        if stop == StopReason::UserSample {
            self.symbols.remember(header.pid);
            self.raw.push(RawFrame::User { ip: header.regs.ip });
        } else {
            self.raw.extend(self.frames.iter().map(RawFrame::from));
        }
        let process = Process {
            pid: header.pid,
            comm: header.comm,
        };
        self.aggregate.add(process, &self.raw, &stop);
    }
}

pub(super) fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let outputs: Vec<OutputFile> = args
        .output
        .iter()
        .map(|path| OutputFile::create(path))
        .collect::<Result<_, _>>()?;
    let mut recorder = Recorder::default();
    let mut finished = sample(
        &args.target,
        &args.sampling,
        names::PROG_CAPTURE,
        &mut recorder,
    )?;

    let totals = summary::totals(&finished.counters, finished.ended.malformed);
    let conditions = Conditions {
        clock: finished.ended.clock,
        frequency: args.sampling.frequency,
        cpus: finished.ended.cpus,
        duration: finished.duration,
    };
    let meta = Meta {
        title: title(&args.target),
        event: conditions.clock.name().to_owned(),
        frequency: Some(conditions.frequency),
        duration: conditions.duration,
        totals: totals.clone(),
    };
    let profile = symbolized(&mut recorder, &mut finished, meta);
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
    for line in notes(&recorder, &finished, &totals) {
        complain(&line);
    }
    complain(&format!("wrote    {}", written.join(", ")));
    Ok(finished.exit_code())
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

/// What else is worth knowing, and only then.
fn notes(recorder: &Recorder, finished: &Finished, totals: &Totals) -> Vec<String> {
    let mut notes = Vec::new();
    let unnamed = recorder.symbols.unnamed();
    if !unnamed.is_empty() {
        let reasons = unnamed
            .iter()
            .map(|(reason, count)| format!("{} {reason}", grouped(*count)));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        notes.push(format!("symbols  addresses without a name: {reasons}"));
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

/// Names every distinct address and builds the profile.
fn symbolized(recorder: &mut Recorder, finished: &mut Finished, meta: Meta) -> Profile {
    let stacks: Vec<_> = recorder.aggregate.stacks().collect();
    let mut kernel: FxHashSet<u64> = FxHashSet::default();
    let mut user: FxHashMap<u32, FxHashSet<u64>> = FxHashMap::default();
    for stack in &stacks {
        for frame in &stack.frames {
            match *frame {
                RawFrame::Kernel { lookup, .. } => kernel.insert(lookup),
                RawFrame::User { ip } => user.entry(stack.process.pid).or_default().insert(ip),
            };
        }
    }
    let kernel = kernel_symbols(recorder, finished, kernel);
    let user: FxHashMap<u32, FxHashMap<u64, Symbol>> = user
        .into_iter()
        .map(|(pid, addresses)| {
            let addresses: Vec<u64> = addresses.into_iter().collect();
            (pid, recorder.symbols.user(pid, &addresses))
        })
        .collect();

    let mut profile = Profile::new(meta);
    for stack in stacks {
        let names = user.get(&stack.process.pid);
        let frames = stack
            .frames
            .iter()
            .map(|frame| {
                let frame = match *frame {
                    RawFrame::Kernel {
                        ip,
                        lookup,
                        stack,
                        reliable,
                    } => {
                        let class = FrameClass::Kernel(stack);
                        named(
                            &mut profile,
                            kernel.get(&lookup),
                            (ip, lookup),
                            class,
                            reliable,
                        )
                    }
                    RawFrame::User { ip } => {
                        let symbol = names.and_then(|names| names.get(&ip));
                        named(&mut profile, symbol, (ip, ip), FrameClass::User, true)
                    }
                };
                profile.intern_frame(frame)
            })
            .collect();
        let comm = profile.intern(&comm(&stack.process.comm));
        profile.push(WeightedStack {
            comm,
            pid: Some(stack.process.pid),
            frames,
            samples: stack.samples,
            stop: stack.stop,
            complete: stack.complete,
        });
    }
    profile
}

/// Symbols of kernel addresses: kallsyms, then the kernel's list of BPF programs, which some
/// kernels do not show in kallsyms.
fn kernel_symbols(
    recorder: &mut Recorder,
    finished: &mut Finished,
    addresses: FxHashSet<u64>,
) -> FxHashMap<u64, Symbol> {
    let prepared = &mut finished.ended.prepared;
    let in_image = |address: &u64| prepared.kernel.tables.text.is_static(*address);
    let (image, dynamic): (Vec<u64>, Vec<u64>) = addresses.into_iter().partition(in_image);
    let mut symbols = recorder.symbols.kernel(&prepared.kernel.symbols, &image);
    if dynamic.is_empty() {
        return symbols;
    }
    let bpf = prepared.bpf_text();
    let mut others = Vec::new();
    for address in dynamic {
        match bpf_text::find(&bpf, address) {
            Some(found) => {
                symbols.insert(
                    address,
                    Symbol {
                        name: Some(found.name.clone()),
                        module: Some("bpf".to_owned()),
                        offset: address - found.range.begin,
                        size: found.range.end - found.range.begin,
                    },
                );
            }
            None => others.push(address),
        }
    }
    symbols.extend(recorder.symbols.kernel(&prepared.kernel.symbols, &others));
    symbols
}

fn named(
    profile: &mut Profile,
    symbol: Option<&Symbol>,
    (address, lookup): (u64, u64),
    class: FrameClass,
    reliable: bool,
) -> Frame {
    let name = symbol.and_then(|symbol| symbol.name.as_deref());
    let module = symbol.and_then(|symbol| symbol.module.as_deref());
    Frame {
        name: name.map(|name| profile.intern(name)),
        module: module.map(|module| profile.intern(module)),
        class,
        reliable,
        inlined: false,
        source: None,
        address,
        // A return address is shown as it is, though it was looked up one byte before.
        offset: symbol.map_or(0, |symbol| symbol.offset + (address - lookup)),
        size: symbol.map_or(0, |symbol| symbol.size),
    }
}

fn comm(padded: &[u8; 16]) -> String {
    let length = padded
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(padded.len());
    String::from_utf8_lossy(&padded[..length]).into_owned()
}
