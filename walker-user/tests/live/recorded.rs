//! Recordings of programs that a test made, as text, with the account of their events checked.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    corpus::{Chains, TextStack, Verdict, compile, read},
    counters::Events,
    support::{Place, Run, Running},
    wait::{until, until_sampling},
};

/// How long a program runs that is to be recorded from its start to its end, in milliseconds.
const TIME: &str = "1500";

/// What is done to record: many samples, as text.
const RECORD: [&str; 5] = ["record", "-F", "1999", "-o", "run.txt"];

/// A recording that has ended.
pub(crate) struct Recorded {
    pub(crate) run: Run,
    /// All of `run.txt`.
    pub(crate) text: String,
    pub(crate) stacks: Vec<TextStack>,
}

impl Recorded {
    fn of(place: &Place, run: Run) -> Self {
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        Events::of(&run.stderr).assert_sum();
        let path = place.path("run.txt");
        Self {
            text: fs::read_to_string(&path).unwrap(),
            stacks: read(&path),
            run,
        }
    }

    /// The stacks of the processes with this name.
    pub(crate) fn of_command<'a>(
        &'a self,
        comm: &'a str,
    ) -> impl Iterator<Item = &'a TextStack> + 'a {
        self.stacks.iter().filter(move |stack| stack.comm == comm)
    }

    /// How the stacks of a command compare with the calls that it makes.
    pub(crate) fn verdict(&self, comm: &str, chains: &Chains) -> Verdict {
        let verdict = Verdict::of(&self.stacks, comm, chains, |name| name);
        println!("{comm}: {verdict}");
        verdict
    }

    /// No stack of a command is wrong or, but for one in a hundred, broken, and so many are right.
    pub(crate) fn assert_right(&self, comm: &str, chains: &Chains, least: u64) {
        let verdict = self.verdict(comm, chains);
        assert_eq!(verdict.wrong, 0, "{verdict:#?}\n{}", self.run.stderr);
        let broken = verdict.broken + verdict.short;
        assert!(broken * 100 <= verdict.right, "{verdict:#?}");
        assert!(verdict.right >= least, "{verdict:#?}\n{}", self.run.stderr);
    }
}

/// Records with these arguments until that ends.
pub(crate) fn record(place: &Place, arguments: &[&str]) -> Recorded {
    let mut stackwalk = place.stackwalk(&[&RECORD, arguments].concat());
    let run = Running::start(stackwalk.env("CORPUS_MS", TIME)).wait();
    Recorded::of(place, run)
}

/// Records with these arguments in namespaces that `unshare` makes with these options.
pub(crate) fn record_within(place: &Place, options: &[&str], arguments: &[&str]) -> Recorded {
    let stackwalk = place.stackwalk(&[&RECORD, arguments].concat());
    let mut unshare = Command::new("unshare");
    unshare.args(options).arg(stackwalk.get_program());
    unshare.args(stackwalk.get_args()).env("CORPUS_MS", TIME);
    if let Some(folder) = stackwalk.get_current_dir() {
        unshare.current_dir(folder);
    }
    let run = Running::start(&mut unshare).wait();
    Recorded::of(place, run)
}

/// Starts to record with these arguments, and waits until samples are taken.
pub(crate) fn start(place: &Place, arguments: &[&str]) -> Running {
    let running = Running::start(&mut place.stackwalk(&[&RECORD, arguments].concat()));
    until_sampling(running.child.id());
    running
}

/// Waits for the end of a recording whose targets have ended.
pub(crate) fn finish(place: &Place, running: Running) -> Recorded {
    Recorded::of(place, running.wait())
}

/// Ends a recording.
pub(crate) fn stop(place: &Place, running: Running) -> Recorded {
    interrupt(&running.child);
    finish(place, running)
}

/// Asks stackwalk to end.
pub(crate) fn interrupt(child: &Child) {
    let pid = child.id().cast_signed();
    // SAFETY: the child has not been collected, so the ID is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
}

/// Builds a source of the corpus, and gives the program this name.
pub(crate) fn build(place: &Place, source: &str, name: &str, options: &[&str]) -> PathBuf {
    let built = compile(place, "gcc", source, &[&["-O2"], options].concat());
    let program = place.path(name);
    fs::rename(built, &program).unwrap();
    program
}

/// The options that give a source the names of its functions.
pub(crate) fn named(prefix: &str) -> [String; 2] {
    [
        format!("-DOUTER={prefix}_outer"),
        format!("-DINNER={prefix}_inner"),
    ]
}

/// The calls of the source with those names.
pub(crate) fn chain_of(prefix: &str) -> Chains {
    Chains::new(&[&format!("main {prefix}_outer {prefix}_inner")])
}

/// A program that runs; it is killed when this is dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Starts it for a minute. It is running when its name is that of its file.
    pub(crate) fn start(path: &Path) -> Self {
        let mut command = Command::new(path);
        command.env("CORPUS_MS", "60000").stdin(Stdio::null());
        let program = Self(command.spawn().unwrap());
        program.until_used(Duration::from_millis(10));
        program
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Waits until it has used so much CPU time from now on.
    pub(crate) fn until_used(&self, time: Duration) {
        let end = self.used() + time;
        until("the program has run", || self.used() >= end);
    }

    fn used(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        // The fields 14 and 15 of proc(5), in ticks of a hundredth of a second.
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(10 * ticks)
    }

    /// Kills it.
    pub(crate) fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended; both calls then do nothing.
        let _killed = self.0.kill();
        let _collected = self.0.wait();
    }
}

/// A path as an argument.
pub(crate) fn text(path: &(impl AsRef<OsStr> + ?Sized)) -> &str {
    path.as_ref().to_str().unwrap()
}
