//! The command line: what was typed, and one module for each command.
//!
//! Exit status: 0 for success, 1 for a check that failed (`verify` with disagreements, `doctor`
//! with something missing), 2 for an error. `record -- CMD` passes on the status of CMD.

mod absent_cpus;
mod ci;
mod core;
mod depth;
mod diff;
mod doctor;
mod event_args;
mod export;
mod filter_args;
mod format;
mod frame_text;
mod input;
mod inspect;
mod inspect_sample;
mod live;
mod live_config;
mod live_feed;
mod live_privileges;
mod live_push;
mod output_file;
mod owner;
mod pager;
mod record;
mod recorder;
mod recording_file;
mod replay;
mod report;
mod run;
mod signals;
mod special_file;
mod stacks;
mod status;
mod summary;
mod verify;
mod walker;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use walker_common::wire::MAX_USER_BYTES;

use crate::{
    capture::{
        budget::FIRST_BUDGET,
        object::Sides,
        target::{RunningTask, Target},
    },
    sys::limits,
};

/// Samples a second by default: not a divisor of the kernel's tick rates, so that samples do not
/// run in step with the tick.
const DEFAULT_FREQUENCY: u64 = 997;
/// The longest `-d`, a year.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;

/// Profiles Linux, walking across the kernel's stacks.
#[derive(Debug, Parser)]
#[command(name = "stackwalk", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sample and write flame graphs or stacks.
    #[command(after_help = "\
Examples:
  sudo stackwalk record -p 1234                     a process and what it forks, until Ctrl-C;
                                                    then `stackwalk report`
  sudo stackwalk record -a -d 10 -o run.html        the whole system for ten seconds
  sudo stackwalk record -o run.folded -- make -j8   a command, from its first instruction
  sudo stackwalk record -a -d 5 -o run.txt          stacks as in a kernel oops
  sudo stackwalk record -p 1234 --off-cpu           where a process waits, and who wakes it
  sudo stackwalk record -a -d 5 --irq               interrupts, and whom they interrupted
  sudo stackwalk record -e page-faults -- ./program where memory is touched first")]
    Record(record::RecordArgs),
    /// Sample, and stream what is seen to others while it goes on.
    #[command(after_help = "\
The URL that it prints has a token that nobody can guess; nothing is answered without it.
docs/live-protocol.md describes what it streams.

Examples:
  sudo stackwalk live -a                            the whole system
  sudo stackwalk live -p 1234                       a process and what it forks
  sudo stackwalk live -- make -j8                   a command, from its first instruction
  curl -o now.pb.gz 'http://127.0.0.1:7717/profile.pb.gz?seconds=10&token=TOKEN'")]
    Live(live::LiveArgs),
    /// Compare every walk with the kernel's own unwinder, taken at the same event.
    #[command(after_help = "\
Exit status: 0 if every walk agrees, 1 if one does not, 2 for an error.

Examples:
  sudo stackwalk verify -a -d 10          the whole system for ten seconds
  sudo stackwalk verify -a -d 10 --json   the same as one JSON object")]
    Verify(verify::VerifyArgs),
    /// Say what a recording is and holds, or show one of its samples in full.
    #[command(after_help = "\
Examples:
  stackwalk inspect               what stackwalk.swk holds
  stackwalk inspect run.swk 123   its sample 123: registers, stacks, every frame and its rule")]
    Inspect(inspect::InspectArgs),
    /// Walk the recorded bytes again, and show where that comes to something else.
    #[command(after_help = "\
Exit status: 0 if every walk comes to the same frames, 1 if one does not (with --unwinder fp or scan
always 0), 2 for an error.

Examples:
  stackwalk replay run.swk                  the same rules: nothing may differ
  stackwalk replay run.swk --unwinder fp    what frame pointers would have shown")]
    Replay(replay::ReplayArgs),
    /// Write a recording for other programs, or as a picture.
    #[command(after_help = "\
What reads the formats:
  folded       flamegraph.pl, inferno, and many others
  svg          a browser: an interactive flame graph
  html         a browser: a page with flame graphs, a time strip, search and an inspector
  txt          people: stacks as in a kernel oops
  perf-script  stackcollapse-perf.pl, trace viewers, scripts for `perf script`
  pprof        go tool pprof, pprof, and services built on it
  firefox      the Firefox Profiler, https://profiler.firefox.com
  speedscope   https://www.speedscope.app
  json         programs written for it; docs/json.md describes it

Examples:
  stackwalk export -o run.pb.gz && go tool pprof -top run.pb.gz
  stackwalk export run.swk -o run.html
  stackwalk export run.swk -o run.firefox.json
  stackwalk export run.swk --format perf-script | stackcollapse-perf.pl
  stackwalk export --format json | jq .totals")]
    Export(export::ExportArgs),
    /// Show functions, processes, interrupts or the tree of calls of a recording.
    #[command(after_help = "\
Examples:
  stackwalk report                          functions of stackwalk.swk, by what they weigh themselves
  stackwalk report run.swk --sort total     by what they weigh with all that they call
  stackwalk report --by irq                 interrupts and softirqs, and whom they interrupted
  stackwalk report --tree --comm dd         who calls what in the processes named dd
  stackwalk report --time 1.5-3 --cpu 0,4-7 a part of the recording
  stackwalk report --grep ^ext4_ --json     samples in ext4, for a program")]
    Report(report::ReportArgs),
    /// Show how much of the kernel's stacks was in use, by call path.
    #[command(after_help = "\
Examples:
  stackwalk depth                           the deepest calls of stackwalk.swk on each kernel stack
  stackwalk depth run.swk --stack-kind irq  of samples in interrupts")]
    Depth(depth::DepthArgs),
    /// Show what changed from one recording to another.
    #[command(after_help = "\
Examples:
  stackwalk diff old.swk new.swk                    functions whose share changed most
  stackwalk diff old.swk new.swk -o diff.svg        a flame graph: red grew, blue shrank
  stackwalk diff old.swk new.swk --absolute         what changed in a second
  stackwalk diff old.swk new.swk -o - | flamegraph.pl > diff.svg")]
    Diff(diff::DiffArgs),
    /// Stop regressions: record runs of a workload, and compare them with those of another build.
    #[command(
        subcommand,
        after_help = "\
docs/ci.md shows how to use it in a CI job.

Examples:
  sudo stackwalk ci record -o base.swkset -- ./benchmark   on the old kernel, and on the new one
  stackwalk ci compare base.swkset new.swkset              what got slower, and how sure that is"
    )]
    Ci(ci::CiCommand),
    /// Show the stacks of all CPUs and tasks in the dump of a kernel's memory.
    #[command(after_help = "\
DUMP is an ELF core as kdump and QEMU's `dump-guest-memory` write it, of x86_64 or i386.

Examples:
  stackwalk core vmcore --symbols System.map                    all CPUs, then all tasks
  stackwalk core vmcore --symbols vmlinux --cpus                what the CPUs were doing
  stackwalk core vmcore --symbols System.map --tasks --pid 1    one process, with its threads")]
    Core(core::CoreArgs),
    /// Show the stacks of every CPU: kind, range, size.
    Stacks,
    /// Say what this kernel and this user allow, what is missing, and what to do.
    Doctor,
}

/// What to sample.
#[derive(Debug, Args)]
struct TargetArgs {
    /// Sample these processes, all their threads and what they fork
    #[arg(
        short,
        long,
        value_name = "PID,…",
        value_delimiter = ',',
        group = "target"
    )]
    pid: Vec<u32>,
    /// Sample these threads and what they create
    #[arg(
        short,
        long,
        value_name = "TID,…",
        value_delimiter = ',',
        group = "target"
    )]
    tid: Vec<u32>,
    /// Sample everything on every CPU; with a command, while that runs
    #[arg(short, long, group = "target")]
    all: bool,
    /// Sample this command and what it forks, from its first instruction
    #[arg(last = true, value_name = "CMD ARGS…", conflicts_with_all = ["pid", "tid"])]
    command: Vec<OsString>,
}

/// How to sample.
#[derive(Debug, Args)]
struct SamplingArgs {
    #[command(flatten)]
    events: event_args::EventArgs,
    /// Stop after this many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Keep samples of idle CPUs
    #[arg(long)]
    idle: bool,
    /// The kernel's image (vmlinux or vmlinuz), if its unwind tables cannot be found in memory
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,
    /// Size of the ring buffer in KiB, instead of 4 MiB a CPU
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u64).range(4..=1_048_576))]
    ring_size: Option<u64>,
}

/// The largest copy of a user stack.
const USER_STACK_MAX_KIB: u32 = MAX_USER_BYTES as u32 / 1024;

/// Which sides of a sample to take.
#[derive(Debug, Args)]
struct SidesArgs {
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
}

impl SidesArgs {
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

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MAX_SECONDS => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err("not a number of seconds above 0 and up to a year".to_owned()),
    }
}

/// A command in one line.
fn command_line(command: &[OsString]) -> String {
    let words = command.iter().map(|word| word.to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}

impl TargetArgs {
    /// What is sampled, in the words of the command line.
    fn title(&self, command: &str) -> String {
        let list = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let target = if !self.pid.is_empty() {
            format!("-p {}", list(&self.pid))
        } else if !self.tid.is_empty() {
            format!("-t {}", list(&self.tid))
        } else if self.command.is_empty() {
            "-a".to_owned()
        } else {
            let all = if self.all { "-a " } else { "" };
            format!("{all}-- {}", command_line(&self.command))
        };
        format!("stackwalk {command} {target}")
    }

    /// Looks the targets up.
    fn resolve(&self) -> anyhow::Result<Target> {
        if !self.pid.is_empty() {
            let tasks = self.pid.iter().map(|pid| RunningTask::process(*pid));
            return Ok(Target::Processes(tasks.collect::<Result<_, _>>()?));
        }
        if !self.tid.is_empty() {
            let tasks = self.tid.iter().map(|tid| RunningTask::thread(*tid));
            return Ok(Target::Threads(tasks.collect::<Result<_, _>>()?));
        }
        anyhow::ensure!(
            self.all || !self.command.is_empty(),
            "nothing to sample: give -p PID, -t TID, -a for the whole system, or -- CMD"
        );
        Ok(Target::System)
    }
}

/// The definition of the command line, which manual pages and completions are made from.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    limits::ignore_file_size_signal();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    let result = match cli.command {
        Command::Record(args) => record::record(&args),
        Command::Live(args) => live::live(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Export(args) => export::export(&args),
        Command::Report(args) => report::report(&args),
        Command::Depth(args) => depth::depth(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Ci(command) => ci::ci(&command),
        Command::Core(args) => core::core(&args),
        Command::Stacks => stacks::stacks(),
        Command::Doctor => doctor::doctor(),
    };
    result.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        run::complain(&format!("{error:#}"));
        ExitCode::from(2)
    })
}

/// Help and version as clap writes them; a mistake in one line.
fn usage_error(error: &clap::Error) -> ExitCode {
    let asked_for = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if asked_for || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nothing can be said where even the help cannot be written.
        let _written = error.print();
        return if asked_for {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    }
    let text = error.to_string();
    let line = text
        .lines()
        .next()
        .unwrap_or("cannot read the command line");
    run::complain(&format!(
        "{} (see `stackwalk --help`)",
        line.trim_start_matches("error: ")
    ));
    ExitCode::from(2)
}

/// Whether the reader of our output went away, which is no error of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Cli, command, parse_seconds};

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn one_kind_of_target_at_a_time() {
        assert!(Cli::try_parse_from(["stackwalk", "record", "-p", "1,2"]).is_ok());
        assert!(Cli::try_parse_from(["stackwalk", "record", "-a", "-p", "1"]).is_err());
        assert!(Cli::try_parse_from(["stackwalk", "record", "-t", "1", "--", "ls"]).is_err());
        assert!(Cli::try_parse_from(["stackwalk", "record", "--", "ls", "-a", "-F", "x"]).is_ok());
        assert!(Cli::try_parse_from(["stackwalk", "record", "-a", "--", "ls"]).is_ok());
    }

    #[test]
    fn nonsense_numbers_are_refused() {
        for frequency in ["0", "-1", "abc", "1.5", "99999999999999999999"] {
            let parsed = Cli::try_parse_from(["stackwalk", "record", "-a", "-F", frequency]);
            assert!(parsed.is_err(), "-F {frequency} was accepted");
        }
        for seconds in ["0", "-1", "nan", "inf", "1e300", ""] {
            assert!(parse_seconds(seconds).is_err(), "-d {seconds} was accepted");
        }
        assert_eq!(parse_seconds("0.5").unwrap().as_millis(), 500);
    }
}
