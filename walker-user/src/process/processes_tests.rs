use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::*;
use crate::process::mapped_file::Backing;

/// A time after everything that was read.
const LATER: u64 = u64::MAX / 2;

fn record(time_ns: u64, event: Event) -> SideBand {
    let (pid, tid) = (0, 0);
    SideBand {
        time_ns,
        pid,
        tid,
        event,
    }
}

fn map(time: u64, pid: u32, start: u64, path: &str) -> SideBand {
    let mmap = Mmap {
        pid,
        start,
        len: 0x1000,
        file_offset: 0,
        executable: true,
        build_id: None,
        inode: None,
        path: path.as_bytes().to_vec(),
    };
    record(time, Event::Mmap(mmap))
}

fn exec(time: u64, pid: u32) -> SideBand {
    let (tid, exec, name) = (pid, true, Vec::new());
    let event = Event::Comm {
        pid,
        tid,
        exec,
        name,
    };
    record(time, event)
}

/// The main thread of `parent_pid` makes a task.
fn new_task(time: u64, parent_pid: u32, (pid, tid): (u32, u32)) -> SideBand {
    let event = Event::Fork {
        pid,
        parent_pid,
        tid,
        parent_tid: parent_pid,
    };
    record(time, event)
}

fn fork(time: u64, parent_pid: u32, pid: u32) -> SideBand {
    new_task(time, parent_pid, (pid, pid))
}

fn thread(time: u64, pid: u32, tid: u32) -> SideBand {
    new_task(time, pid, (pid, tid))
}

fn exit(time: u64, pid: u32) -> SideBand {
    record(time, Event::Exit { pid, tid: pid })
}

fn paths(space: &AddressSpace) -> Vec<String> {
    let path = |mapping: &Mapping| match &mapping.backing {
        Backing::File(file) => Some(String::from_utf8_lossy(&file.path).into_owned()),
        _ => None,
    };
    space.iter().filter_map(path).collect()
}

/// Processes and a `/proc` for them, empty at first.
struct World {
    proc: TempDir,
    processes: Processes,
}

impl World {
    fn new(follow: &Follow) -> Self {
        Self::with_limits(follow, 100, 1000)
    }

    fn with_limits(follow: &Follow, processes: usize, mappings: usize) -> Self {
        let proc = tempfile::tempdir().unwrap();
        let path = proc.path().to_owned();
        let processes = Processes::with_limits(follow, path, processes, mappings);
        Self { proc, processes }
    }

    /// Makes a process be there that runs this program, since before the records.
    fn runs(&self, pid: u32, program: &str) {
        let folder = self.proc.path().join(pid.to_string());
        fs::create_dir_all(folder.join(format!("task/{pid}"))).unwrap();
        let line = format!("9000-a000 r-xp 00000000 08:01 5   {program}\n");
        fs::write(folder.join("maps"), line).unwrap();
    }

    fn is_gone(&self, pid: u32) {
        fs::remove_dir_all(self.proc.path().join(pid.to_string())).unwrap();
    }

    fn apply(&mut self, records: &[SideBand]) {
        records
            .iter()
            .for_each(|record| self.processes.apply(record));
    }

    fn at(&mut self, pid: u32, time: u64) -> Result<Vec<String>, NoSpace> {
        self.processes.space(pid, time).map(paths)
    }
}

#[test]
fn a_program_is_known_from_its_exec_on() {
    let mut world = World::new(&Follow::All);
    world.apply(&[
        exec(10, 1),
        map(11, 1, 0x1000, "/old"),
        fork(12, 1, 2),
        exec(13, 2),
        map(13, 2, 0x1000, "/new"),
        map(14, 2, 0x2000, "/lib"),
    ]);
    assert_eq!(world.at(1, 15).unwrap(), ["/old"]);
    assert_eq!(world.at(2, 15).unwrap(), ["/new", "/lib"]);
    assert_eq!(world.processes.counters(), ProcessCounters::default());
}

#[test]
fn a_fork_has_the_mappings_of_its_parent_and_then_its_own() {
    let mut world = World::new(&Follow::All);
    world.apply(&[
        exec(10, 1),
        map(11, 1, 0x1000, "/a"),
        fork(12, 1, 2),
        map(13, 1, 0x2000, "/of parent"),
        map(14, 2, 0x2000, "/of child"),
    ]);
    assert_eq!(world.at(1, 15).unwrap(), ["/a", "/of parent"]);
    assert_eq!(world.at(2, 15).unwrap(), ["/a", "/of child"]);
}

#[test]
fn data_in_place_of_code_takes_it_away() {
    let mut world = World::new(&Follow::All);
    world.apply(&[
        exec(10, 1),
        map(11, 1, 0x1000, "/a"),
        map(11, 1, 0x2000, "/b"),
    ]);
    let mut data = map(12, 1, 0x1000, "/data");
    if let Event::Mmap(mmap) = &mut data.event {
        mmap.executable = false;
    }
    world.apply(&[data]);
    assert_eq!(world.at(1, 13).unwrap(), ["/b"]);
}

#[test]
fn what_ran_before_is_read_when_it_is_needed_and_older_records_are_not_applied() {
    let mut world = World::new(&Follow::All);
    world.runs(1, "/before");
    world.apply(&[map(5, 1, 0x1000, "/earlier")]);
    assert!(world.processes.is_empty());
    assert_eq!(world.at(1, 6).unwrap(), ["/before"]);
    // These come from before the reading, when the mappings were already there or gone again.
    world.apply(&[map(7, 1, 0x9000, "/gone again"), exit(8, 1), fork(9, 3, 1)]);
    assert_eq!(world.at(1, 10).unwrap(), ["/before"]);
    world.apply(&[map(LATER, 1, 0x1000, "/later")]);
    assert_eq!(world.at(1, LATER).unwrap(), ["/later", "/before"]);
    assert_eq!(world.processes.counters().read, 1);
}

#[test]
fn an_exec_between_sample_and_reading_is_counted() {
    let mut world = World::new(&Follow::All);
    world.runs(1, "/after exec");
    assert_eq!(world.at(1, 6).unwrap(), ["/after exec"]);
    world.apply(&[exec(5, 1)]);
    assert_eq!(world.processes.counters().exec_raced, 0);
    world.apply(&[exec(7, 1)]);
    assert_eq!(world.processes.counters().exec_raced, 1);
    assert_eq!(world.at(1, 8).unwrap(), ["/after exec"]);
}

#[test]
fn a_child_of_a_parent_that_was_read_later_is_read_itself() {
    let mut world = World::new(&Follow::All);
    world.runs(1, "/parent after exec");
    world.runs(2, "/child");
    assert!(world.at(1, 5).is_ok());
    world.apply(&[fork(6, 1, 2)]);
    assert_eq!(world.at(2, 7).unwrap(), ["/child"]);
    world.apply(&[fork(LATER, 1, 3)]);
    assert_eq!(world.at(3, LATER).unwrap(), ["/parent after exec"]);
}

#[test]
fn a_process_that_was_gone_before_it_was_read_has_no_space() {
    let mut world = World::new(&Follow::All);
    assert_eq!(world.at(1, 5), Err(NoSpace::Gone));
    assert_eq!(world.processes.counters().gone, 1);
    assert!(world.processes.is_empty());
}

#[test]
fn a_process_is_known_until_it_ended_and_its_number_can_be_used_again() {
    let mut world = World::new(&Follow::All);
    world.apply(&[exec(10, 1), map(11, 1, 0x1000, "/a"), exit(20, 1)]);
    assert_eq!(world.at(1, 20).unwrap(), ["/a"]);
    world.apply(&[exec(20 + LINGER_NS - 1, 9)]);
    assert_eq!(world.processes.len(), 2);
    world.apply(&[exec(20 + LINGER_NS, 9)]);
    assert_eq!(world.processes.len(), 1);
    assert_eq!(world.at(1, 21 + LINGER_NS), Err(NoSpace::Gone));

    let start = 10 * LINGER_NS;
    world.apply(&[
        exec(start, 1),
        exit(start + 1, 1),
        fork(start + 2, 9, 1),
        map(start + 3, 1, 0x1000, "/again"),
        exec(start + 2 * LINGER_NS, 9),
    ]);
    assert_eq!(world.at(1, start + 2 * LINGER_NS).unwrap(), ["/again"]);
}

#[test]
fn threads_outlive_their_main_thread() {
    let mut world = World::new(&Follow::All);
    world.runs(1, "/unused");
    let task = world.proc.path().join("1/task/77");
    fs::create_dir(&task).unwrap();
    world.apply(&[exec(10, 1), map(11, 1, 0x1000, "/a"), thread(12, 1, 77)]);
    world.apply(&[exit(20, 1), exec(20 + LINGER_NS, 9)]);
    assert_eq!(world.at(1, 20 + LINGER_NS).unwrap(), ["/a"]);
    fs::remove_dir(task).unwrap();
    world.apply(&[exec(20 + 3 * LINGER_NS, 9)]);
    assert_eq!(world.processes.len(), 1);
}

#[test]
fn the_end_of_a_thread_is_not_that_of_its_process() {
    let mut world = World::new(&Follow::All);
    world.apply(&[exec(10, 1), map(11, 1, 0x1000, "/a"), thread(12, 1, 77)]);
    world.apply(&[record(13, Event::Exit { pid: 1, tid: 77 })]);
    assert_eq!(world.at(1, 14 + LINGER_NS).unwrap(), ["/a"]);
}

#[test]
fn after_a_loss_processes_are_read_again_if_they_live() {
    let mut world = World::new(&Follow::All);
    let time = READ_AGAIN_NS;
    world.apply(&[exec(time, 1), map(time + 1, 1, 0x1000, "/a")]);
    world.apply(&[exec(time, 2), map(time + 1, 2, 0x1000, "/b")]);
    world.runs(1, "/a and more");
    world.apply(&[record(time + 2, Event::Lost { count: 3 })]);
    assert_eq!(world.at(1, time + 3).unwrap(), ["/a and more"]);
    assert_eq!(world.at(1, time + 4).unwrap(), ["/a and more"]);
    assert_eq!(world.at(2, time + 3).unwrap(), ["/b"]);
    let counters = world.processes.counters();
    assert_eq!((counters.read, counters.kept_stale), (1, 1));
    // What executes after the loss is known as well as ever.
    world.apply(&[exec(LATER, 2), map(LATER, 2, 0x1000, "/c")]);
    assert_eq!(world.at(2, LATER).unwrap(), ["/c"]);
    assert_eq!(world.processes.counters().kept_stale, 1);
}

#[test]
fn losses_one_after_the_other_do_not_make_a_process_be_read_all_the_time() {
    let mut world = World::new(&Follow::All);
    world.runs(1, "/first");
    let mut time = monotonic_ns();
    assert!(world.at(1, time).is_ok());
    world.runs(1, "/second");
    for _ in 0..1000 {
        time += READ_AGAIN_NS / 100;
        world.apply(&[record(time, Event::Lost { count: 1 })]);
        assert!(world.at(1, time).is_ok());
        if world.processes.counters().read == 2 {
            break;
        }
    }
    assert_eq!(world.at(1, time).unwrap(), ["/second"]);
    assert!(world.processes.counters().kept_stale >= 99);
}

#[test]
fn a_loss_before_the_reading_does_not_matter() {
    let mut world = World::new(&Follow::All);
    world.runs(1, "/read");
    assert!(world.at(1, 5).is_ok());
    world.is_gone(1);
    world.apply(&[record(6, Event::Lost { count: 1 })]);
    assert_eq!(world.at(1, 7).unwrap(), ["/read"]);
    assert_eq!(world.processes.counters().kept_stale, 0);
}

#[test]
fn only_the_targets_and_their_children_are_followed() {
    let mut world = World::new(&Follow::Only(vec![1, 2]));
    world.runs(1, "/target");
    // The second is a command that waits; its fork is seen, that of its parent was not.
    world.apply(&[fork(5, 70, 2)]);
    world.processes.read_running();
    assert_eq!(world.processes.counters().read, 1);
    world.apply(&[
        fork(LATER, 1, 3),
        exec(LATER, 2),
        map(LATER, 2, 0x1000, "/command"),
        fork(LATER, 2, 4),
        exec(LATER, 80),
        fork(LATER, 80, 81),
    ]);
    assert_eq!(world.processes.len(), 4);
    assert_eq!(world.at(3, LATER).unwrap(), ["/target"]);
    assert_eq!(world.at(4, LATER).unwrap(), ["/command"]);
    // A sample of another comes from a target whose fork was lost.
    world.runs(5, "/lost");
    assert_eq!(world.at(5, LATER).unwrap(), ["/lost"]);
}

#[test]
fn what_runs_is_read_at_the_start() {
    let mut world = World::new(&Follow::All);
    world.runs(1, "/one");
    world.runs(2, "/two");
    fs::create_dir(world.proc.path().join("sys")).unwrap();
    // A thread of the kernel has no mappings.
    world.runs(3, "");
    fs::write(world.proc.path().join("3/maps"), "").unwrap();
    world.processes.read_running();
    world.is_gone(1);
    assert_eq!(world.at(1, 5).unwrap(), ["/one"]);
    let counters = world.processes.counters();
    assert_eq!((counters.read, counters.gone), (2, 0));
}

#[test]
fn a_parent_that_forks_is_not_forgotten_for_its_children() {
    let mut world = World::with_limits(&Follow::All, 8, 1000);
    world.apply(&[exec(10, 1), map(11, 1, 0x1000, "/a")]);
    for child in 2..50 {
        world.apply(&[fork(12, 1, child)]);
    }
    assert_eq!(world.processes.len(), 8);
    assert_eq!(world.processes.counters().evicted, 41);
    assert_eq!(world.at(1, 13).unwrap(), ["/a"]);
    assert_eq!(world.at(49, 13).unwrap(), ["/a"]);
}

#[test]
fn a_real_process_is_read() {
    let mut command = Command::new("/bin/cat");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Its answer tells that it is past its start.
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let mut processes = Processes::new(&Follow::All);
    let found = paths(processes.space(child.id(), 0).unwrap());
    drop(child.stdin.take());
    child.wait().unwrap();
    let program = fs::canonicalize("/bin/cat").unwrap();
    assert!(
        found.iter().any(|path| Path::new(path) == program),
        "{found:?}"
    );
    assert_eq!(processes.space(child.id(), 0).map(paths), Ok(found));
}
