//! A CPU that goes offline and comes back during a recording.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
};

use libtest_mimic::Completion;
use walker_user::capture::{session::online_cpus, target::Target};

use crate::{
    Test,
    capture::{Capture, Seen, options},
    counters::Events,
    helper::COPY,
    load::{Kind, Load},
    recorded::interrupt,
    support::{Place, Running},
    test,
    wait::{until, until_sampling},
};

pub(crate) const TESTS: &[Test] = &[
    test!(may be ignored: a_cpu_goes_offline_and_comes_back),
    test!(may be ignored: a_cpu_that_is_offline_at_the_start_comes_later),
    test!(may be ignored: a_recording_survives_a_cpu_that_goes_offline),
    test!(may be ignored: a_cpu_that_is_not_sampled_is_told_of),
];

const CPU: u32 = 1;
const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

/// The CPU is offline as long as this lives. A shell waits for the end of its input, which comes
/// even if this process is killed, and then turns the CPU on.
struct Offline {
    shell: Child,
    input: Option<ChildStdin>,
}

impl Offline {
    /// Turns the CPU off; the reason if this machine cannot.
    fn begin() -> Result<Self, String> {
        let mut shell = Command::new("sh")
            .args(["-c", "cat; echo 1 >$0", SWITCH])
            .stdin(Stdio::piped())
            // A Ctrl-C is for the tests and not for what cleans up after them.
            .process_group(0)
            .spawn()
            .unwrap();
        let offline = Self {
            input: shell.stdin.take(),
            shell,
        };
        fs::OpenOptions::new()
            .write(true)
            .open(SWITCH)
            .and_then(|mut switch| switch.write_all(b"0"))
            .map_err(|error| format!("this machine cannot turn CPU {CPU} off: {error}"))?;
        assert!(!online_cpus().unwrap().contains(&CPU));
        Ok(offline)
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.shell.wait();
    }
}

/// Nothing if a CPU can be turned off here, else why not.
fn unable() -> Option<Completion> {
    match Offline::begin() {
        Ok(_) => None,
        Err(reason) => Some(Completion::ignored_with(reason)),
    }
}

fn a_cpu_goes_offline_and_comes_back() -> Completion {
    if let Some(ignored) = unable() {
        return ignored;
    }
    let _load = Load::start(&[Kind::Tcp, Kind::SystemCalls]);
    let mut capture = Capture::start(&options(&Target::System));
    capture.until("samples of the CPU", |seen| {
        seen.iter().filter(|seen| seen.cpu == CPU).count() > 50
    });
    let offline = Offline::begin().unwrap();
    let others = |seen: &[Seen]| seen.iter().filter(|seen| seen.cpu != CPU).count();
    let so_far = others(&capture.seen);
    capture.until("more samples of the other CPUs", |seen| {
        others(seen) > so_far + 200
    });
    drop(offline);
    until("the CPU is back", || online_cpus().unwrap().contains(&CPU));
    let so_far = capture.seen.len();
    capture.until("more samples", |seen| seen.len() > so_far + 200);
    capture.stop();
    Completion::Completed
}

fn a_cpu_that_is_offline_at_the_start_comes_later() -> Completion {
    let offline = match Offline::begin() {
        Ok(offline) => offline,
        Err(reason) => return Completion::ignored_with(reason),
    };
    let _load = Load::start(&[Kind::Tcp, Kind::SystemCalls]);
    let mut capture = Capture::start(&options(&Target::System));
    assert!(!capture.session.cpus().contains(&CPU));
    let known = |capture: &Capture| capture.session.kernel.cpus().any(|(cpu, _)| cpu == CPU);
    assert!(!known(&capture));
    drop(offline);
    until("the CPU is back", || online_cpus().unwrap().contains(&CPU));
    capture.until("500 samples", |seen| seen.len() > 500);
    capture.stop();
    Completion::Completed
}

fn a_recording_survives_a_cpu_that_goes_offline() -> Completion {
    if let Some(ignored) = unable() {
        return ignored;
    }
    let place = Place::new();
    let record = ["record", "-d", "2", "-o", "run.txt", "--"];
    let mut command = place.stackwalk(&[&record, &COPY[..]].concat());
    let recording = Running::start(&mut command);
    until_sampling(recording.child.id());
    let offline = Offline::begin().unwrap();
    let run = recording.wait();
    drop(offline);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_eq!(place.files(), ["run.txt"]);
    Events::of(&run.stderr).assert_sum();
    Completion::Completed
}

fn a_cpu_that_is_not_sampled_is_told_of() -> Completion {
    let offline = match Offline::begin() {
        Ok(offline) => offline,
        Err(reason) => return Completion::ignored_with(reason),
    };
    let place = Place::new();
    let mut command = place.stackwalk(&["record", "-a", "-o", "run.txt"]);
    let mut recording = command.stderr(Stdio::piped()).spawn().unwrap();
    until_sampling(recording.id());
    drop(offline);
    let said = BufReader::new(recording.stderr.take().unwrap());
    let mut lines = said.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("CPU 1 has come online and is not sampled")));
    interrupt(&recording);
    // Who is not listened to any more could not say what it wrote.
    assert_eq!(lines.filter(|line| line.contains("not sampled")).count(), 0);
    assert_eq!(recording.wait().unwrap().code(), Some(0));
    Completion::Completed
}
