//! `stackwalk core`: the stacks in the dump of a kernel's memory.

use std::{
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use crate::core_dump::{CoreDump, Report, Selection};

#[derive(Debug, Args)]
pub(super) struct CoreArgs {
    /// The dump
    #[arg(value_name = "DUMP")]
    dump: PathBuf,
    /// The symbols of its kernel: System.map, vmlinux, or a copy of /proc/kallsyms
    #[arg(short, long, value_name = "FILE")]
    symbols: PathBuf,
    /// Show the CPUs only
    #[arg(long, conflicts_with = "tasks")]
    cpus: bool,
    /// Show the tasks only
    #[arg(long)]
    tasks: bool,
    /// Show only tasks of this name
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    comm: Vec<String>,
    /// Show only these threads, and all threads of these processes
    #[arg(short, long, value_name = "PID,…", value_delimiter = ',')]
    pid: Vec<u32>,
}

pub(super) fn core(args: &CoreArgs) -> anyhow::Result<ExitCode> {
    let core = CoreDump::open(&args.dump, &args.symbols)?;
    let selection = Selection {
        cpus: !args.tasks,
        tasks: !args.cpus,
        comms: args.comm.clone(),
        pids: args.pid.clone(),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    Report::new(&core).write(&selection, &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
