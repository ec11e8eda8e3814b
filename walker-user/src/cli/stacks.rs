//! `stackwalk stacks`: where every CPU has its stacks.

use std::{io::Write as _, process::ExitCode};

use crate::{
    capture::session::{Setup, prepare},
    classify::{KnownStack, NextSp},
};

pub(super) fn stacks() -> anyhow::Result<ExitCode> {
    let prepared = prepare(&Setup::without_samples())?;
    let mut out = std::io::stdout().lock();
    for (cpu, table) in prepared.kernel.cpus() {
        writeln!(out, "CPU {cpu} (per-CPU area at {:#018x})", table.base)?;
        writeln!(
            out,
            "  {:<16} {:<18} {:<18} {:>8}  interrupted stack pointer",
            "kind", "begin", "end", "bytes"
        )?;
        for stack in &table.stacks {
            writeln!(out, "  {}", row(stack))?;
        }
    }
    let size = prepared.kernel.offsets.thread_size;
    writeln!(out, "Every task")?;
    writeln!(
        out,
        "  {:<16} {:<37} {size:>8}",
        "TASK", "at task_struct.stack"
    )?;
    Ok(ExitCode::SUCCESS)
}

fn row(stack: &KnownStack) -> String {
    let link = match stack.next_sp {
        NextSp::BelowEnd(distance) => format!("at {:#018x}", stack.end - distance),
        NextSp::AtBegin => format!("at {:#018x}", stack.begin),
        NextSp::Value(sp) => format!("{sp:#018x}"),
        NextSp::None => "-".to_owned(),
    };
    format!(
        "{:<16} {:#018x} {:#018x} {:>8}  {link}",
        stack.kind.name(),
        stack.begin,
        stack.end,
        stack.end - stack.begin
    )
}
