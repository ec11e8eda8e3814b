//! Events of every kind: the walk of each is that of the kernel's own unwinder, over the stacks it
//! must go over, and each is told apart and counted.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use libtest_mimic::Completion;
use serde_json::Value;

use crate::{
    Test,
    corpus::{compile, has, read},
    load::{Kind, Load, MIXED},
    support::{Place, Run},
    test,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_tracepoint_in_a_softirq),
    test!(a_tracepoint_in_a_task),
    test!(events_of_the_scheduler),
    test!(a_watchpoint_on_a_buffer_that_the_kernel_reads),
    test!(a_watchpoint_on_a_counter_of_softirqs),
];

/// What is the same on every kernel.
pub(crate) const TESTS_OF_COUNTING: &[Test] = &[
    test!(a_storm_is_throttled_and_counted),
    test!(every_how_many_is_counted),
    test!(several_events_are_told_apart),
    test!(may be ignored: a_probe_in_a_program),
    test!(what_this_kernel_has_not_is_said),
];

/// Memory of this process, and a load that uses it until this is dropped.
struct Used {
    word: Arc<AtomicU64>,
    _load: Load,
}

impl Used {
    fn start(mut work: impl FnMut(&AtomicU64) + Send + 'static) -> Self {
        let word = Arc::new(AtomicU64::new(1));
        let word_there = Arc::clone(&word);
        Self {
            word,
            _load: Load::of("swload-used", move || work(&word_there)),
        }
    }

    /// A watchpoint on the word.
    fn watch(&self, access: &str) -> String {
        format!("mem:{:p}/8:{access}", Arc::as_ptr(&self.word))
    }
}

/// What `verify` found of an event.
pub(crate) fn verified(event: &str, target: &[&str]) -> Value {
    let arguments = [&["verify", "--json", "-d", "2", "-e", event], target].concat();
    let run = Place::new().run(&arguments);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    serde_json::from_str(&run.stdout).unwrap()
}

/// At least so many walks went over these stacks, and all of them agree with the kernel's.
pub(crate) fn assert_walks(report: &Value, stacks: &str, least: u64) {
    assert_eq!(report["disagree"], 0, "{report:#}");
    let [all, same] = [0, 1].map(|index| report["walks"][stacks][index].as_u64().unwrap_or(0));
    assert!(all >= least, "{all} walks over {stacks}: {report:#}");
    assert_eq!(all, same, "{report:#}");
    println!("{stacks}: {all} walks, all as the kernel's");
}

fn a_tracepoint_in_a_softirq() {
    let _load = Load::start(&[Kind::Tcp]);
    let report = verified("net:netif_receive_skb", &["-a"]);
    assert_walks(&report, "IRQ > TASK > USER", 200);
}

fn a_tracepoint_in_a_task() {
    let _load = Load::start(&MIXED);
    assert_walks(&verified("sched:sched_switch", &["-a"]), "TASK > USER", 200);
    assert_walks(
        &verified("raw_syscalls:sys_enter", &["-a"]),
        "TASK > USER",
        200,
    );
}

fn events_of_the_scheduler() {
    let _load = Load::start(&MIXED);
    assert_walks(&verified("context-switches", &["-a"]), "TASK > USER", 200);
}

/// Writes the word into a pipe, so that the kernel reads it.
fn piped() -> Used {
    let (reader, writer) = std::io::pipe().unwrap();
    let [mut reader, mut writer] = [OwnedFd::from(reader), OwnedFd::from(writer)].map(File::from);
    Used::start(move |word| {
        // SAFETY: the word lives as long as this thread has it, and has this many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(word.as_ptr().cast::<u8>(), 8) };
        writer.write_all(bytes).unwrap();
        reader.read_exact(&mut [0; 8]).unwrap();
    })
}

fn a_watchpoint_on_a_buffer_that_the_kernel_reads() {
    let used = piped();
    let me = std::process::id().to_string();
    let report = verified(&used.watch("rw"), &["-p", &me]);
    assert_walks(&report, "#DB > TASK > USER", 200);
}

fn a_watchpoint_on_a_counter_of_softirqs() {
    let _load = Load::start(&[Kind::Tcp]);
    let report = verified("mem:softnet_data.processed", &["-a"]);
    assert_walks(&report, "#DB > IRQ > TASK > USER", 200);
}

/// The number before `unit` in what a run said.
pub(crate) fn figure(run: &Run, unit: &str) -> u64 {
    let (before, _) = run
        .stderr
        .split_once(unit)
        .unwrap_or_else(|| panic!("no `{unit}` in {run:?}"));
    let digits = before.trim_end().rsplit([' ', '(']).next().unwrap();
    digits.replace(',', "").parse().unwrap()
}

pub(crate) fn assert_all_counted(run: &Run) {
    let [taken, delivered, lost, filtered] =
        ["taken =", "delivered +", "lost", "filtered"].map(|unit| figure(run, unit));
    assert_eq!(taken, delivered + lost + filtered, "{run:?}");
}

fn a_storm_is_throttled_and_counted() {
    let used = Used::start(|word| {
        for _ in 0..1000 {
            word.fetch_add(1, Ordering::Relaxed);
            // SAFETY: it has no arguments, and does nothing.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
    });
    let place = Place::new();
    let me = std::process::id().to_string();
    let run = place.run(&[
        "record",
        "-p",
        &me,
        "-d",
        "1",
        "-e",
        "raw_syscalls:sys_enter",
        "-c",
        "1",
        "-o",
        "run.folded",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_all_counted(&run);
    let throttled = figure(&run, "faster than the limit");
    assert!(throttled > 1000, "{run:?}");
    // What is left is no more than the limit of one CPU at a time.
    assert!(figure(&run, "delivered +") < 150_000, "{run:?}");
    // A watchpoint can hit at any rate as well.
    let run = place.run(&[
        "record",
        "-p",
        &me,
        "-d",
        "1",
        "-e",
        &used.watch("w"),
        "-c",
        "1",
        "-o",
        "again.folded",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_all_counted(&run);
}

fn every_how_many_is_counted() {
    let _load = Load::start(&[Kind::SystemCalls]);
    let place = Place::new();
    let run = place.run(&[
        "record",
        "-a",
        "-d",
        "1",
        "-e",
        "raw_syscalls:sys_enter",
        "-c",
        "100",
        "-o",
        "run.folded",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_all_counted(&run);
    let [taken, between] = ["taken =", "between samples"].map(|unit| figure(&run, unit));
    // Each CPU may have begun a hundred that it did not end.
    assert!(between * 100 >= taken * 98, "{run:?}");
    // Every sample weighs the hundred that it stands for.
    let text = std::fs::read_to_string(place.path("run.folded")).unwrap();
    let weights = text.lines().map(|line| line.rsplit(' ').next().unwrap());
    let sum: u64 = weights.map(|weight| weight.parse::<u64>().unwrap()).sum();
    assert_eq!(sum, figure(&run, "delivered +") * 100, "{run:?}");
}

fn several_events_are_told_apart() {
    let _load = Load::start(&MIXED);
    let place = Place::new();
    let events = "cpu-clock,page-faults,sched:sched_switch";
    let run = place.run(&[
        "record",
        "-a",
        "-d",
        "1",
        "-e",
        events,
        "-o",
        "run.folded",
        "-o",
        "run.txt",
        "-o",
        "run.svg",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert_all_counted(&run);
    let folded = std::fs::read_to_string(place.path("run.folded")).unwrap();
    let text = std::fs::read_to_string(place.path("run.txt")).unwrap();
    let svg = std::fs::read_to_string(place.path("run.svg")).unwrap();
    for event in events.split(',') {
        let begins = |line: &&str| line.starts_with(&format!("{event};"));
        let lines = folded.lines().filter(begins);
        let counts = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        let said = run.stderr.split(&format!("{event} ")).last().unwrap();
        let said = said.split(" taken, ").nth(1).unwrap();
        let said = said.split(' ').next().unwrap().replace(',', "");
        assert_eq!(
            counts.sum::<u64>(),
            said.parse::<u64>().unwrap(),
            "{event}: {run:?}"
        );
        assert!(
            text.lines()
                .any(|line| line.starts_with(&format!("{event}  ")))
        );
        assert!(
            svg.contains(&format!("<title>{event}\n")),
            "{event} is not in the picture"
        );
    }
    // A switch is told from where the scheduler is, not from what calls its programs.
    let switches = folded
        .lines()
        .filter(|line| line.starts_with("sched:sched_switch;"));
    for line in switches {
        let (stack, _) = line.rsplit_once(' ').unwrap();
        assert!(
            stack.ends_with(";__schedule_[k]") || stack.contains("[not unwound]"),
            "{line}"
        );
    }
}

fn a_probe_in_a_program() -> Completion {
    if !has("gcc") {
        return Completion::ignored_with("gcc is not there");
    }
    let place = Place::new();
    let program = compile(&place, "gcc", "plain.c", &["-O2"]);
    let program = program.to_str().unwrap();
    let event = format!("uprobe:{program}:leaf");
    let mut stackwalk = place.stackwalk(&["record", "-e", &event, "-o", "run.txt", "--", program]);
    let run = crate::support::Running::start(stackwalk.env("CORPUS_MS", "500")).wait();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let stacks = read(&place.path("run.txt"));
    let samples: u64 = stacks.iter().map(|stack| stack.samples).sum();
    assert!(samples > 100, "{run:?}");
    for stack in &stacks {
        let tail = ["main", "top_", "mid", "leaf"];
        assert!(stack.user.ends_with(&tail.map(str::to_owned)), "{stack:?}");
    }
    Completion::Completed
}

fn what_this_kernel_has_not_is_said() {
    let refused = |event: &str, what: &str, hint: &str| {
        let place = Place::new();
        let run = place.run(&["record", "-a", "-d", "1", "-e", event]);
        run.assert_is_error(what, hint);
        assert_eq!(place.files(), [""; 0], "{event}");
    };
    refused("sched:sched_swich", "no tracepoint", "perf list");
    refused(
        "syscalls:sys_enter_read",
        "no tracepoints",
        "raw_syscalls:sys_enter",
    );
    refused("mem:0xffffffff81000000/8:r", "refuses", "use rw");
    refused("mem:no_such_variable", "no variable", "mem:0x");
    refused(
        "uprobe:/bin/sh:no_such_function",
        "in its symbols",
        "0xOFFSET",
    );
    refused("uprobe:/no/such/file:f", "/no/such/file", "cannot");
    refused("kprobe:no_such_function", "no", "kprobe");
    refused("fentry:no_such_function", "no function", "/proc/kallsyms");
    let counts = std::path::Path::new("/sys/bus/event_source/devices/cpu").exists();
    if !counts {
        refused("instructions", "does not count", "cpu-clock");
    }
    let place = Place::new();
    let run = place.run(&["record", "-a", "-e", "page-faults", "--off-cpu"]);
    run.assert_is_error("does not measure time", "cpu-clock");
}
