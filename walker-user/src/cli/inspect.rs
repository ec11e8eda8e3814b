//! `stackwalk inspect`: what a recording is and holds, or one of its samples in full.

use std::{
    io::{self, BufWriter, Write as _},
    process::ExitCode,
};

use clap::Args;

use super::{input::InputArgs, summary::grouped};
use crate::{
    output::{byte_size, duration, printable},
    recording::reader::Recording,
};

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    input: InputArgs,
}

pub(super) fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let (recording, _) = args.input.open()?;
    let mut out = BufWriter::new(io::stdout().lock());
    for (name, text) in overview(&recording) {
        writeln!(out, "{name:<10}{}", printable(&text))?;
    }
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
    let evidence = match recording.has_evidence() {
        true => "kept: `stackwalk inspect RECORDING NUMBER` shows a sample in full",
        false => "not kept (--compact, or only pictures were asked for)",
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
