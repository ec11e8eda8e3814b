//! stackwalk's own commands, run as `cargo xtask COMMAND`: building the BPF object, running every
//! check and test, running the benchmarks, packing.
//!
//! This file names the commands and turns an error into an exit code; it does none of the work,
//! and nothing of what it starts is part of the profiler.

mod build_ebpf;
mod dist;
mod guest;
mod live;
mod object_record;
mod process;
mod report;
mod sources;
mod tally;
mod test;
mod toolchain;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    build_ebpf::BuildEbpfArgs,
    dist::DistArgs,
    guest::{GuestArgs, ci::GuestCiArgs},
    test::TestArgs,
    workspace::Workspace,
};

/// stackwalk's own build and test commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the BPF object, or check that the committed one belongs to the sources
    BuildEbpf(BuildEbpfArgs),
    /// Run every lint, check and test; the last line is `N passed, N failed, N skipped`
    Test(TestArgs),
    /// Run a command in a virtual machine with another kernel and the built `stackwalk`
    Guest(GuestArgs),
    /// Run the gate's whole story in a virtual machine: record a workload on a kernel twice, with other
    /// parameters, and compare
    GuestCi(GuestCiArgs),
    /// Build the program, its manual pages and its shell completions for a package
    Dist(DistArgs),
    /// Run the benchmarks of walker-user; arguments go to `cargo bench`
    Bench {
        /// Arguments for `cargo bench -p walker-user`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match &cli.command {
        Command::BuildEbpf(args) => {
            build_ebpf::run(&workspace, args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Test(args) => test::run(&workspace, args),
        Command::Guest(args) => guest::run(&workspace, args),
        Command::GuestCi(args) => guest::ci::run(&workspace, args),
        Command::Dist(args) => {
            dist::run(&workspace, args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { args } => {
            let mut cargo = workspace.cargo();
            cargo
                .args(["bench", "--locked", "-p", "walker-user"])
                .args(args);
            process::stream(&mut cargo)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
