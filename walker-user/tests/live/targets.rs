//! Only what is asked for is sampled: processes, threads, commands, and all that they start.

use std::collections::BTreeSet;

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use walker_common::maps::names;
use walker_user::capture::target::{RunningTask, Target};

use crate::{
    Test,
    capture::{Capture, Seen, options},
    helper::{CHILD, CHOSEN, GROWN, Helper, Programs, Role},
    output::commands,
    support::Place,
    test,
    wait::until,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_process_and_its_children_are_sampled_and_nothing_else),
    test!(a_thread_and_what_it_makes_are_sampled_and_nothing_else),
    test!(a_command_is_sampled_from_its_exec_on),
    test!(everything_is_sampled_while_a_command_runs),
    test!(short_lived_children_are_followed),
    test!(two_thousand_children_leave_next_to_no_targets),
];

fn count(seen: &[Seen], comm: &str) -> usize {
    seen.iter().filter(|seen| seen.comm == comm).count()
}

fn a_process_and_its_children_are_sampled_and_nothing_else() {
    let parent = Helper::start("swparent", Role::Parent);
    let _other = Helper::start("swother", Role::Spin(120_000));
    let pid = parent.pid();
    let target = Target::Processes(vec![RunningTask::process(pid).unwrap()]);
    let mut capture = Capture::start(&options(&target));
    let processes = |seen: &[Seen]| -> BTreeSet<u32> { seen.iter().map(|seen| seen.pid).collect() };
    capture.until("samples of the process and its children", |seen| {
        let many = count(seen, "swparent") >= 20 && count(seen, CHILD) >= 100;
        many && processes(seen).len() > 3
    });
    capture.until_filtered();
    capture.stop();
    for seen in &capture.seen {
        // A child has the parent's name until it executes.
        assert!(["swparent", CHILD].contains(&&*seen.comm), "{seen:x?}");
        assert!(seen.comm == "swparent" || seen.pid != pid, "{seen:x?}");
    }
}

fn a_thread_and_what_it_makes_are_sampled_and_nothing_else() {
    let mut helper = Helper::start("swthreads", Role::Threads);
    let tid: u32 = helper.line().parse().unwrap();
    let target = Target::Threads(vec![RunningTask::thread(tid).unwrap()]);
    let mut capture = Capture::start(&options(&target));
    capture.until("samples of the thread", |seen| seen.len() >= 100);
    let alone = |seen: &Seen| (seen.pid, seen.tid, &*seen.comm) == (helper.pid(), tid, CHOSEN);
    assert!(capture.seen.iter().all(alone), "{:x?}", capture.seen);

    helper.go();
    capture.until("samples of what the thread made", |seen| {
        count(seen, GROWN) >= 20 && count(seen, CHILD) >= 20
    });
    capture.until_filtered();
    capture.stop();
    let grown = capture.seen.iter().find(|seen| seen.comm == GROWN);
    let grown = grown.unwrap().tid;
    for seen in &capture.seen {
        let expected = match &*seen.comm {
            // What the thread makes has its name at first: the thread until it gives itself
            // another, the processes until they execute.
            CHOSEN => [tid, grown].contains(&seen.tid) || seen.pid != helper.pid(),
            GROWN => seen.pid == helper.pid() && seen.tid == grown,
            CHILD => seen.pid != helper.pid(),
            _ => false,
        };
        assert!(expected, "{seen:x?}");
    }
}

fn a_command_is_sampled_from_its_exec_on() {
    let programs = Programs::new("swcommand");
    let place = Place::new();
    let [program, role] = programs.command_line("swcommand", Role::Spin(300));
    let run = place.run(&[
        "record",
        "-F",
        "4999",
        "-o",
        "run.folded",
        "--",
        &program,
        &role,
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    // The fork of stackwalk that became the command had the name of stackwalk.
    let commands = commands(&place, "run.folded");
    assert_eq!(commands.keys().collect::<Vec<_>>(), ["swcommand"]);
    assert!(commands["swcommand"] >= 100, "{commands:?}");
    let folded = std::fs::read_to_string(place.path("run.folded")).unwrap();
    assert!(folded.contains("read_zero_[k]"), "{folded}");
}

fn everything_is_sampled_while_a_command_runs() {
    let _other = Helper::start("swother", Role::Spin(120_000));
    let programs = Programs::new("swcommand");
    let place = Place::new();
    let [program, role] = programs.command_line("swcommand", Role::Spin(300));
    let options = [
        "record",
        "-a",
        "-F",
        "1999",
        "-o",
        "run.folded",
        "--",
        &program,
        &role,
    ];
    let run = place.run(&options);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let commands = commands(&place, "run.folded");
    for name in ["swcommand", "swother"] {
        assert!(commands[name] >= 50, "{commands:?}");
    }
}

fn short_lived_children_are_followed() {
    let place = Place::new();
    let script = "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done";
    let run = place.run(&[
        "record",
        "-F",
        "4999",
        "-o",
        "run.folded",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let commands = commands(&place, "run.folded");
    assert_eq!(commands.keys().collect::<Vec<_>>(), ["sh", "true"]);
    // Of 200 children, whose start and end alone take a good part of a millisecond.
    assert!(commands["true"] >= 50, "{commands:?}");
    assert!(!run.stderr.contains("were not followed"), "{run:?}");
}

/// The map of targets with only this process in it. The library does not give the map away, so it
/// is looked for among all maps of the kernel.
fn targets_of(pid: u32) -> HashMap<MapData, u32, u32> {
    let maps = loaded_maps().filter_map(Result::ok);
    let mut named = maps
        .filter(|map| map.name_as_str() == Some(names::MAP_TARGETS))
        // Another stackwalk's map can go away meanwhile.
        .filter_map(|map| MapData::from_id(map.id()).ok())
        .filter_map(|map| HashMap::try_from(Map::HashMap(map)).ok());
    let ours = named.find(|map| map.keys().filter_map(Result::ok).eq([pid]));
    ours.unwrap()
}

fn two_thousand_children_leave_next_to_no_targets() {
    const CHILDREN: u64 = 2000;
    let mut helper = Helper::start("swforks", Role::Forks(CHILDREN));
    assert_eq!(helper.line(), "ready");
    let target = Target::Processes(vec![RunningTask::process(helper.pid()).unwrap()]);
    let mut capture = Capture::start(&options(&target));
    assert!(capture.session.object.has_targets().unwrap());
    let targets = targets_of(helper.pid());
    helper.go();
    // Samples are taken meanwhile; the helper waits when it is done.
    assert_eq!(helper.line(), "done");
    assert!(capture.session.object.has_targets().unwrap());
    assert!(target.is_alive());
    helper.finish();
    assert!(!target.is_alive());
    // The kernel frees tasks some time after they were collected, and on the virtual machine these
    // tests were written on a few frees are never seen. The four that were traced happened in a
    // softirq that had interrupted a thread of PID 1, where BPF programs seem not to run; why is not
    // known. The most that were ever left, 28 on an overloaded machine, were not traced.
    let left = || targets.keys().filter_map(Result::ok).count() as u64;
    until("nearly all targets are forgotten", || {
        left() <= CHILDREN / 20
    });
    let counters = capture.stop();
    assert_eq!(counters.targets_missed, 0, "{counters:?}");
    let parent = helper.pid();
    let of_children = capture
        .seen
        .iter()
        .filter(|seen| seen.pid != parent)
        .count();
    assert!(of_children > 0, "{} samples", capture.seen.len());
}
