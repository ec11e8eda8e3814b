//! `stackwalk replay`: walks the recorded bytes again and shows where that comes to something else.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use rustc_hash::FxHashMap;
use walker_common::StackKind;

use super::{
    frame_text,
    input::{self, InputArgs, Progress},
    run::complain,
    summary::{grouped, percent},
};
use crate::{
    capture::record::{Record, name_text},
    recording::{
        reader::{Recording, Row},
        replay::{Replay, Unwinder, Walked, is_same},
    },
    resolve::{Addresses, Names},
    stack_tree::{Code, RawFrame},
    unwind::StopReason,
};

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    input: InputArgs,
    /// What kernel stacks are walked by
    #[arg(long, value_enum, default_value = "orc")]
    unwinder: UnwinderArg,
    /// Show at most so many samples that differ
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UnwinderArg {
    /// The recorded ORC tables, as when it was recorded
    Orc,
    /// Frame pointers
    Fp,
    /// Every word that looks like a return address
    Scan,
}

impl From<UnwinderArg> for Unwinder {
    fn from(unwinder: UnwinderArg) -> Self {
        match unwinder {
            UnwinderArg::Orc => Self::Orc,
            UnwinderArg::Fp => Self::FramePointer,
            UnwinderArg::Scan => Self::Scan,
        }
    }
}

/// How the walks came out.
#[derive(Debug, Default)]
struct Outcome {
    /// Samples that were walked again.
    walked: u64,
    /// Those whose kernel frames differ.
    kernel: u64,
    /// Those whose user frames differ.
    user: u64,
    /// Those that differ at all.
    differ: u64,
    /// Samples whose user side needs files that are not here.
    without_files: u64,
    /// Records that cannot be read.
    unreadable: u64,
    /// Records of the samples that are shown.
    shown: Vec<Difference>,
}

/// A sample that came out differently.
#[derive(Debug)]
struct Difference {
    number: u32,
    pid: u32,
    comm: String,
    recorded: (Vec<RawFrame>, &'static str),
    again: (Vec<RawFrame>, Option<&'static str>),
}

pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let (mut recording, mut file) = args.input.open()?;
    input::require_evidence(&recording, args.input.path())?;
    let outcome = walk_all(args, &recording, &mut file)?;
    let again = outcome
        .shown
        .iter()
        .flat_map(|shown| shown.again.0.iter().map(|frame| (shown.pid, *frame)));
    let names = name(&mut recording, args, again)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for difference in &outcome.shown {
        show(difference, &names, &mut out)?;
    }
    write_summary(&outcome, args, &mut out)?;
    out.flush()?;
    let check = args.unwinder == UnwinderArg::Orc;
    Ok(match check && outcome.differ > 0 {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn walk_all(
    args: &ReplayArgs,
    recording: &Recording,
    file: &mut crate::recording::reader::RecordingFile,
) -> anyhow::Result<Outcome> {
    let rows: FxHashMap<u64, u32> = (0..)
        .zip(&recording.rows)
        .map(|(index, row)| (row.record, index))
        .collect();
    let mut replay = Replay::new(recording, args.unwinder.into(), args.input.symfs());
    let mut outcome = Outcome::default();
    let mut walked = Walked::default();
    let mut recorded = Vec::new();
    let bar = Progress::new(recording.bytes, "walking");
    let mut bytes = 0;
    let damages = file.records(recording, |number, record| {
        bytes += record.len() as u64;
        bar.at(bytes.min(recording.bytes));
        let Some(&index) = rows.get(&number) else {
            return true;
        };
        let row = &recording.rows[index as usize];
        let Ok(Record::Sample(sample)) = Record::parse(record) else {
            outcome.unreadable += 1;
            return true;
        };
        let stack = row
            .place
            .and_then(|place| recording.stack(place, &mut recorded));
        let Some(process) = stack else {
            outcome.unreadable += 1;
            return true;
        };
        recorded.reverse();
        recorded.retain(|frame| !matches!(frame, RawFrame::Note(_)));
        replay.walk(number, &sample, &mut walked);
        let files_here = recorded.iter().all(|frame| match frame {
            RawFrame::User {
                code: Code::Object(id),
                ..
            } => replay.code.object(id.0).is_some(),
            _ => true,
        });
        outcome.compare(
            row,
            &recorded,
            &walked,
            files_here,
            args.limit,
            index,
            || (process.pid, name_text(&process.comm).into_owned()),
        );
        true
    })?;
    for damage in damages {
        complain(&format!(
            "warning  damaged at byte {} ({} bytes): {}",
            damage.at, damage.bytes, damage.what
        ));
    }
    Ok(outcome)
}

impl Outcome {
    #[expect(
        clippy::too_many_arguments,
        reason = "all that there is to know of one sample"
    )]
    fn compare(
        &mut self,
        row: &Row,
        recorded: &[RawFrame],
        walked: &Walked,
        files_here: bool,
        limit: usize,
        index: u32,
        process: impl FnOnce() -> (u32, String),
    ) {
        self.walked += 1;
        self.without_files += u64::from(!files_here);
        let is_kernel = |frame: &&RawFrame| matches!(frame, RawFrame::Kernel { .. });
        let boundary = recorded.iter().take_while(is_kernel).count();
        let (kernel, user) = recorded.split_at(boundary);
        let reporting = usize::from(row.reporting).min(walked.kernel.len());
        let kernel_again: Vec<RawFrame> = walked.kernel[reporting..]
            .iter()
            .map(RawFrame::kernel)
            .collect();
        let user_again: Vec<RawFrame> = match files_here {
            true => walked.raw_user().collect(),
            false => user.to_vec(),
        };
        let same = |recorded: &[RawFrame], again: &[RawFrame]| {
            let mut both = recorded.iter().zip(again);
            recorded.len() == again.len() && both.all(|(recorded, again)| is_same(recorded, again))
        };
        let stop_again = match (walked.kernel_stop, walked.user_stop) {
            (Some(stop), _) if !stop.is_complete() => Some(stop),
            (_, Some(stop)) if files_here => Some(stop),
            (_, Some(_)) => None,
            (stop, None) => stop,
        };
        let stop_again = stop_again.map(|stop| stop.number());
        let kernel_differs = !same(kernel, &kernel_again);
        let stop_differs = stop_again.is_some_and(|stop| stop != row.stop);
        let user_differs = !same(user, &user_again) || (stop_differs && !kernel_differs);
        self.kernel += u64::from(kernel_differs);
        self.user += u64::from(user_differs);
        if !kernel_differs && !user_differs {
            return;
        }
        self.differ += 1;
        if self.shown.len() < limit {
            let (pid, comm) = process();
            let name = |stop: u8| StopReason::NAMES.get(usize::from(stop)).copied();
            self.shown.push(Difference {
                number: index + 1,
                pid,
                comm,
                recorded: (recorded.to_vec(), name(row.stop).unwrap_or("unknown")),
                again: (
                    kernel_again.into_iter().chain(user_again).collect(),
                    stop_again.and_then(name),
                ),
            });
        }
    }
}

/// The names of the recording, and those of frames that were found now.
fn name(
    recording: &mut Recording,
    args: &ReplayArgs,
    frames: impl Iterator<Item = (u32, RawFrame)>,
) -> anyhow::Result<Names> {
    let mut addresses = Addresses::default();
    frames.for_each(|(pid, frame)| addresses.add(pid, frame));
    let missing = recording.without_names(addresses);
    input::name(recording, missing, args.input.symfs())?;
    Ok(std::mem::take(&mut recording.names))
}

/// Both walks, one below the other, leaf first; frames that only one has are marked.
fn show(difference: &Difference, names: &Names, out: &mut impl Write) -> io::Result<()> {
    let Difference {
        number, pid, comm, ..
    } = difference;
    let comm = crate::output::printable(comm);
    writeln!(out, "sample {number}  {comm} ({pid})")?;
    let (recorded, recorded_stop) = &difference.recorded;
    let (again, again_stop) = &difference.again;
    let has =
        |frames: &[RawFrame], frame: &RawFrame| frames.iter().any(|other| is_same(frame, other));
    for (title, frames, others, mark, stop) in [
        ("recorded", recorded, again, '-', Some(*recorded_stop)),
        ("now", again, recorded, '+', *again_stop),
    ] {
        let stop = stop.map_or_else(String::new, |stop| format!(" ({stop})"));
        writeln!(out, " {title}{stop}:")?;
        for frame in frames {
            let mark = if has(others, frame) { ' ' } else { mark };
            let stack = match frame {
                RawFrame::Kernel { stack, .. } => stack.name(),
                _ => StackKind::User.name(),
            };
            for line in frame_text::lines(names, *pid, frame) {
                writeln!(out, "  {mark} {stack:<5} {line}")?;
            }
        }
    }
    writeln!(out)
}

fn write_summary(outcome: &Outcome, args: &ReplayArgs, out: &mut impl Write) -> io::Result<()> {
    let same = outcome.walked - outcome.differ;
    writeln!(
        out,
        "{} samples walked again by {}: {} the same ({}), {} differ (kernel {}, user {})",
        grouped(outcome.walked),
        match args.unwinder {
            UnwinderArg::Orc => "the recorded tables",
            UnwinderArg::Fp => "frame pointers",
            UnwinderArg::Scan => "a scan",
        },
        grouped(same),
        percent(same, outcome.walked),
        grouped(outcome.differ),
        grouped(outcome.kernel),
        grouped(outcome.user),
    )?;
    if outcome.without_files > 0 {
        writeln!(
            out,
            "{} of them have user frames in files that are not here (--symfs names another \
             folder): only their kernel side was walked",
            grouped(outcome.without_files)
        )?;
    }
    if outcome.unreadable > 0 {
        let unreadable = grouped(outcome.unreadable);
        writeln!(out, "{unreadable} records or their stacks are damaged")?;
    }
    Ok(())
}
