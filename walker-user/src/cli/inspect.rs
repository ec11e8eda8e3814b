//! `stackwalk inspect`: what a recording is and holds, or one of its samples in full.

use std::{
    io::{self, BufWriter, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{
    input::{self, InputArgs},
    inspect_sample::{self, Inspected},
    summary::grouped,
};
use crate::{
    capture::record::Record,
    output::{byte_size, duration, printable},
    recording::{
        reader::{Recording, RecordingFile},
        replay::{Replay, Unwinder, Walked},
    },
    resolve::Addresses,
    stack_tree::RawFrame,
};

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Show the sample with this number, from 1 in the order of time
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    number: Option<u32>,
}

pub(super) fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let (recording, file) = args.input.open()?;
    if let Some(number) = args.number {
        return sample(args, recording, file, number);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for (name, text) in overview(&recording) {
        writeln!(out, "{name:<10}{}", printable(&text))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn sample(
    args: &InspectArgs,
    mut recording: Recording,
    mut file: RecordingFile,
    number: u32,
) -> anyhow::Result<ExitCode> {
    let path = args.input.path().display();
    let Some(row) = recording.rows.get(number as usize - 1).copied() else {
        bail!(
            "`{path}` has no sample {number}: it has {}",
            recording.rows.len()
        );
    };
    input::require_evidence(&recording, args.input.path())?;
    let record = file
        .record(&recording, row.record)
        .with_context(|| format!("cannot read `{path}`"))?;
    let record = record.with_context(|| {
        format!(
            "the bytes of sample {number} are not in `{path}`: damaged, or the disk was too slow"
        )
    })?;
    let Ok(Record::Sample(sample)) = Record::parse(&record) else {
        bail!("the bytes of sample {number} in `{path}` are no sample");
    };
    let mut walked = Walked::default();
    Replay::new(&recording, Unwinder::Orc, args.input.symfs()).walk(
        row.record,
        &sample,
        &mut walked,
    );
    let mut addresses = Addresses::default();
    let kernel = walked.kernel.iter().map(RawFrame::kernel);
    for frame in kernel.chain(walked.raw_user()) {
        addresses.add(sample.header().pid, frame);
    }
    let missing = recording.without_names(addresses);
    input::name(&mut recording, missing, args.input.symfs())?;
    let mut replay = Replay::new(&recording, Unwinder::Orc, args.input.symfs());
    let inspected = Inspected {
        recording: &recording,
        number,
        row: &row,
        sample: &sample,
        walked: &walked,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    inspect_sample::write(&inspected, &mut replay, &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What the recording is, line by line.
fn overview(recording: &Recording) -> Vec<(&'static str, String)> {
    let (head, counts) = (&recording.head, &recording.counts);
    let samples = recording.rows.len() as u64;
    let events: Vec<String> = head
        .events
        .iter()
        .map(|event| match event.frequency {
            Some(frequency) => format!("{} at {frequency} Hz", event.name),
            None => event.name.clone(),
        })
        .collect();
    let pairs = |pairs: &[(String, u64)]| match pairs {
        [] => "none".to_owned(),
        pairs => {
            let pair = |(reason, count): &(String, u64)| format!("{} {reason}", grouped(*count));
            pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
    };
    let mut lines = vec![
        ("command", head.title.clone()),
        ("by", head.tool.clone()),
        (
            "on",
            format!(
                "{}, Linux {}, {} CPUs",
                head.host.name, head.host.kernel_release, head.host.cpus
            ),
        ),
        ("events", events.join(", ")),
        ("for", duration(counts.duration_ns)),
        (
            "samples",
            format!(
                "{}; {} taken, lost: {}, filtered: {}",
                grouped(samples),
                grouped(counts.taken),
                pairs(&counts.lost),
                pairs(&counts.filtered)
            ),
        ),
        (
            "stacks",
            format!(
                "{} distinct frames, {} processes and names, {} object files",
                grouped(recording.nodes.len() as u64),
                grouped(recording.processes.len() as u64),
                grouped(recording.objects.len() as u64)
            ),
        ),
    ];
    let each = recording.bytes.checked_div(samples);
    let each = each.map_or_else(String::new, |each| format!(", {} a sample", grouped(each)));
    lines.push(("bytes", format!("{}{each}", grouped(recording.bytes))));
    for (kind, bytes) in &recording.bytes_by_kind {
        lines.push(("", format!("{:>12}  {}", byte_size(*bytes), kind.name())));
    }
    let evidence = match (recording.has_evidence(), head.named) {
        (true, _) => "kept: `stackwalk inspect RECORDING NUMBER` shows a sample in full",
        (false, true) => "not kept: a live view keeps named stacks, and samples by slots of 50 ms",
        (false, false) => "not kept (--compact, or only pictures were asked for)",
    };
    lines.push(("evidence", evidence.to_owned()));
    if counts.bytes_dropped > 0 {
        let dropped = grouped(counts.bytes_dropped);
        let text = format!("the disk was too slow for the stack bytes of {dropped} records");
        lines.push(("dropped", text));
    }
    lines.extend(counts.notes.iter().map(|note| ("note", note.clone())));
    lines
}
