//! `stackwalk verify`: every walk against the kernel's own, and what each of the two costs.

use std::{collections::BTreeMap, io::Write as _, os::fd::OwnedFd, process::ExitCode};

use anyhow::Context as _;
use aya::{
    maps::{MapData, RingBuf},
    sys::{Stats, enable_stats},
};
use clap::Args;
use serde::Serialize;
use walker_common::{
    StackKind,
    maps::{COUNTERS_OF_COST, Counters, names},
};

use super::{
    SamplingArgs, TargetArgs,
    run::{Observer, Wanted, complain, sample},
    summary::{self, Conditions, Dropped, Walks, grouped, percent},
};
use crate::{
    capture::{
        clock,
        object::Sides,
        record::Record,
        session::{Captured, Session},
    },
    kernel::{
        bpf_text::{self, BpfSymbol},
        running::RunningKernel,
        sampled::interrupted_stack,
    },
    output::json_text,
    symbolize::KernelSymbols,
    sys::perf::{Attributes, SamplingEvent},
    unwind::{Frame, StopReason},
    verify::{Agreement, Outcome, common, compare, stacks},
};

/// Most walks with frames outside the kernel image that wait for the proof of what those are.
const MAX_PENDING: usize = 20_000;
/// The cost measurement's records are thrown away each time this many samples have come.
const DISCARD_EVERY: u64 = 64;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A walk that does not agree as it is, but might if a frame is BPF text.
struct Pending {
    walk: Vec<Frame>,
    stacks: String,
    stop: String,
    kernel: Vec<u64>,
}

#[derive(Default)]
struct Verifier {
    frequency: u64,
    frames: Vec<Frame>,
    chain: Vec<u64>,
    walks: Walks,
    agreement: Agreement,
    pending: Vec<Pending>,
    unanswered: u64,
    samples: u64,
    bpf: Vec<BpfSymbol>,
    cost: Option<Cost>,
}

/// The two programs that differ only in how they get the stack.
struct Cost {
    events: Vec<SamplingEvent>,
    ring: RingBuf<MapData>,
    /// Keeps the kernel's run-time statistics on.
    _stats: OwnedFd,
    capture_ns: f64,
    kernel_unwind_ns: f64,
}

impl Observer for Verifier {
    fn prepare(&mut self, session: &mut Session) -> anyhow::Result<()> {
        self.bpf = session.bpf_text();
        self.cost = Some(Cost::start(session, self.frequency)?);
        Ok(())
    }

    fn record(&mut self, captured: &Captured<'_>, record: &Record<'_>) {
        let Record::Sample(sample) = record else {
            return;
        };
        let kernel = captured.kernel;
        self.samples += 1;
        if self.samples.is_multiple_of(DISCARD_EVERY)
            && let Some(cost) = &mut self.cost
        {
            while cost.ring.next().is_some() {}
        }
        let stop = captured.walk(sample, &mut self.frames);
        self.walks.add(
            interrupted_stack(&self.frames),
            &stop,
            sample.lacks_cpu_table(),
        );
        // Of a watchpoint that user mode hit, the kernel's unwinder sees nothing.
        let unseen = sample.registers().is_user_mode() && sample.kernel_chain().next().is_none();
        if stop == StopReason::UserSample || unseen {
            return;
        }
        if sample.kernel_chain_error().is_some() {
            self.unanswered += 1;
            return;
        }
        self.chain.clear();
        self.chain.extend(sample.kernel_chain());
        let interrupted = sample.registers().ip;
        let (walk, chain) = common(&self.frames, &self.chain, sample.start(), interrupted);
        let outcome = compare(walk, chain, &|_| false);
        let stacks = stacks(&self.frames, &stop);
        let text = &kernel.sampled.tables.text;
        let maybe_bpf = walk.iter().any(|frame| !text.is_static(frame.ip));
        if outcome == Outcome::Disagree && maybe_bpf && self.pending.len() < MAX_PENDING {
            self.pending.push(Pending {
                walk: walk.to_vec(),
                stacks,
                stop: stop.to_string(),
                kernel: chain.to_vec(),
            });
        } else {
            self.agreement
                .add(outcome, walk, (&stacks, &stop.to_string()), chain);
        }
    }

    fn stopped(&mut self, session: &mut Session) -> anyhow::Result<()> {
        if let Some(cost) = &mut self.cost {
            cost.stop(session)?;
        }
        // Programs that were loaded meanwhile are on this list, those unloaded on the first.
        self.bpf.extend(session.bpf_text());
        self.bpf.sort_unstable_by_key(|symbol| symbol.range.begin);
        Ok(())
    }
}

impl Verifier {
    /// Decides the walks that waited for the list of BPF text.
    fn settle(&mut self) {
        let bpf = &self.bpf;
        for pending in self.pending.drain(..) {
            let Pending {
                walk,
                stacks,
                stop,
                kernel,
            } = pending;
            let outcome = compare(&walk, &kernel, &|ip| bpf_text::find(bpf, ip).is_some());
            self.agreement
                .add(outcome, &walk, (&stacks, &stop), &kernel);
        }
    }
}

impl Cost {
    fn start(session: &mut Session, frequency: u64) -> anyhow::Result<Self> {
        let stats = enable_stats(Stats::RunTime)
            .context("the kernel does not count the run time of BPF programs")?;
        let cpus = session.cpus().to_vec();
        let mut events = Vec::new();
        let attributes = Attributes {
            exclude_user: true,
            ..clock::attributes(clock::CPU_CLOCK, frequency)
        };
        for (index, cpu) in cpus.into_iter().enumerate() {
            // The two events of a CPU expire together. The one that runs second finds the stack in
            // the cache, so they take turns in being first.
            let mut programs = [names::PROG_CAPTURE_COST, names::PROG_KERNEL_UNWIND];
            if index % 2 == 1 {
                programs.reverse();
            }
            for program in programs {
                // A CPU that went offline meanwhile is left out.
                let Ok(mut event) = SamplingEvent::open(&attributes, cpu) else {
                    continue;
                };
                session
                    .object
                    .attach_perf(program, &mut event, COUNTERS_OF_COST)?;
                event
                    .enable()
                    .context("cannot start the cost measurement")?;
                events.push(event);
            }
        }
        let ring = session.object.take_ring(names::MAP_COST)?;
        Ok(Self {
            events,
            ring,
            _stats: stats,
            capture_ns: 0.0,
            kernel_unwind_ns: 0.0,
        })
    }

    fn stop(&mut self, session: &Session) -> anyhow::Result<()> {
        for event in &self.events {
            event
                .disable()
                .context("cannot stop the cost measurement")?;
        }
        let mean = |program| -> anyhow::Result<f64> {
            let (runs, nanos) = session.object.run_stats(program)?;
            Ok(nanos as f64 / runs.max(1) as f64)
        };
        self.capture_ns = mean(names::PROG_CAPTURE_COST)?;
        self.kernel_unwind_ns = mean(names::PROG_KERNEL_UNWIND)?;
        Ok(())
    }
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct Report {
    samples: u64,
    kernel_samples: u64,
    agree: u64,
    agree_but_hidden_bpf: u64,
    disagree: u64,
    kernel_unwind_failed: u64,
    taken: u64,
    filtered: u64,
    lost: u64,
    irq_stack_samples: u64,
    stop_reasons: BTreeMap<&'static str, u64>,
    /// By the stacks that were walked over: samples, and those that agree.
    walks: BTreeMap<String, (u64, u64)>,
    capture_ns: f64,
    kernel_unwind_ns: f64,
}

pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut verifier = Verifier {
        frequency: args.sampling.events.frequency(),
        ..Default::default()
    };
    let wanted = Wanted {
        events: &args.sampling.events.wanted(),
        sides: Sides::KERNEL,
        oracle: true,
    };
    let finished = sample(&args.target, &args.sampling, &wanted, &mut verifier)?;
    verifier.settle();
    let counters: &Counters = &finished.counters.iter().copied().sum();
    let agreement = &verifier.agreement;
    let (capture_ns, kernel_unwind_ns) = verifier
        .cost
        .as_ref()
        .map_or((0.0, 0.0), |cost| (cost.capture_ns, cost.kernel_unwind_ns));
    let report = Report {
        samples: verifier.samples,
        kernel_samples: verifier.walks.kernel_samples(),
        agree: agreement.agree,
        agree_but_hidden_bpf: agreement.agree_but_hidden_bpf,
        disagree: agreement.disagree,
        kernel_unwind_failed: verifier.unanswered,
        taken: counters.taken,
        filtered: counters.filtered_target + counters.filtered_idle + counters.filtered_period,
        lost: summary::lost(counters) + finished.ended.malformed,
        irq_stack_samples: verifier.walks.on_stack(StackKind::Irq),
        stop_reasons: verifier.walks.stops().clone(),
        walks: agreement.by_stacks.clone(),
        capture_ns,
        kernel_unwind_ns,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        json_text::write_pretty(&report, &mut out)?;
    } else {
        let conditions = Conditions {
            events: &finished.ended.events,
            cpus: finished.ended.cpus,
            duration: finished.duration,
        };
        let dropped = Dropped {
            malformed: finished.ended.malformed,
            ..Dropped::default()
        };
        let totals = summary::totals(counters, &dropped);
        for line in summary::lines(&conditions, &totals, &finished.counters, &verifier.walks) {
            writeln!(out, "{line}")?;
        }
        write_report(&mut out, &report)?;
        write_disagreements(&mut out, &verifier, &finished.ended.prepared.kernel)?;
    }
    drop(out);
    let command = finished.exit_code();
    Ok(match agreement.disagree {
        0 => command,
        _ => {
            complain("some walks differ from the kernel's own");
            ExitCode::from(1)
        }
    })
}

fn write_report(out: &mut impl std::io::Write, report: &Report) -> std::io::Result<()> {
    let same = report.agree + report.agree_but_hidden_bpf;
    let compared = same + report.disagree;
    writeln!(
        out,
        "agree    {} of {} walks ({}), {} of them but for BPF frames that the kernel hides",
        grouped(same),
        grouped(compared),
        percent(same, compared),
        grouped(report.agree_but_hidden_bpf),
    )?;
    writeln!(out, "disagree {}", grouped(report.disagree))?;
    for (stacks, (samples, same)) in &report.walks {
        writeln!(
            out,
            "stacks   {stacks}: {} samples, {} agree",
            grouped(*samples),
            grouped(*same)
        )?;
    }
    if report.kernel_unwind_failed > 0 {
        let failed = grouped(report.kernel_unwind_failed);
        writeln!(
            out,
            "unknown  {failed} samples without an answer of the kernel's unwinder"
        )?;
    }
    writeln!(
        out,
        "cost     capture {:.0} ns, kernel's unwinder {:.0} ns a sample (ratio {:.2})",
        report.capture_ns,
        report.kernel_unwind_ns,
        report.capture_ns / report.kernel_unwind_ns.max(1.0),
    )
}

/// The distinct disagreements, side by side.
fn write_disagreements(
    out: &mut impl std::io::Write,
    verifier: &Verifier,
    kernel: &RunningKernel,
) -> std::io::Result<()> {
    let disagreements = verifier.agreement.disagreements();
    if disagreements.is_empty() {
        return Ok(());
    }
    let mut addresses: Vec<u64> = Vec::new();
    for disagreement in &disagreements {
        addresses.extend(disagreement.walk.iter().map(|frame| frame.ip));
        addresses.extend(&disagreement.kernel);
    }
    addresses.sort_unstable();
    addresses.dedup();
    let symbols = KernelSymbols::new().look_up(&kernel.symbols, &addresses);
    let name = |ip: u64| match symbols.get(&ip) {
        Some(symbol) => {
            format!("{}+{:#x}", symbol.name, symbol.offset)
        }
        None => match bpf_text::find(&verifier.bpf, ip) {
            Some(bpf) => format!("{}+{:#x}", bpf.name, ip - bpf.range.begin),
            None => format!("{ip:#x}"),
        },
    };
    for disagreement in disagreements {
        writeln!(out)?;
        let samples = grouped(disagreement.samples);
        writeln!(
            out,
            "{samples} samples differ; the walk ended: {}",
            disagreement.stop
        )?;
        writeln!(out, "  {:<60} kernel", "stackwalk")?;
        let rows = disagreement.walk.len().max(disagreement.kernel.len());
        for row in 0..rows {
            let ours = disagreement.walk.get(row).map(|frame| {
                let mark = if frame.reliable { "" } else { "? " };
                let (stack, source) = (frame.stack.name(), frame.source.name());
                format!("{mark}{} ({stack}, {source})", name(frame.ip))
            });
            let theirs = disagreement.kernel.get(row).map(|ip| name(*ip));
            let same =
                disagreement.walk.get(row).map(|frame| &frame.ip) == disagreement.kernel.get(row);
            writeln!(
                out,
                "{} {:<60} {}",
                if same { ' ' } else { '!' },
                ours.unwrap_or_default(),
                theirs.unwrap_or_default()
            )?;
        }
    }
    Ok(())
}
