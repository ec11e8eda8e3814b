use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown, symlink},
    path::PathBuf,
    process::{self, Command},
};

use tempfile::TempDir;

use super::{OpenError, PerfMapFile};

/// A `/proc` with one process, which is 42 outside of its container and 7 inside, and a `/tmp`.
struct Machine {
    folder: TempDir,
}

const PID: u32 = 42;

/// The `stat` of a process with a hostile name that began at this time.
fn stat(began: u64) -> String {
    format!("42 (a) 1 (b) S {} {began} 0 0", ["0"; 18].join(" "))
}

impl Machine {
    fn new(user: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let process = folder.path().join("proc/42");
        fs::create_dir_all(process.join("root/tmp")).unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        let status = format!("Name:\tx\nUid:\t1\t{user}\t2\t3\nNSpid:\t42\t7\nThreads:\t1\n");
        fs::write(process.join("status"), status).unwrap();
        fs::write(process.join("stat"), stat(1234)).unwrap();
        Self { folder }
    }

    fn inside(&self) -> PathBuf {
        self.folder.path().join("proc/42/root/tmp/perf-7.map")
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("tmp/perf-42.map")
    }

    fn open(&self) -> Result<PerfMapFile, OpenError> {
        let (proc, tmp) = (
            self.folder.path().join("proc"),
            self.folder.path().join("tmp"),
        );
        let place = PerfMapFile::of_in(&proc, &tmp, PID)?;
        place.look().map(|()| place)
    }

    fn name_at(&self, address: u64) -> Option<String> {
        let map = self.open().unwrap().read().unwrap();
        map.find(address).map(|function| function.name.clone())
    }
}

fn me() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn that_of_the_container_comes_first() {
    let machine = Machine::new(me());
    assert!(matches!(machine.open(), Err(OpenError::Open { .. })));
    fs::write(machine.outside(), "10 10 outside\n").unwrap();
    assert_eq!(machine.name_at(0x10).as_deref(), Some("outside"));
    fs::write(machine.inside(), "10 10 inside\n").unwrap();
    assert_eq!(machine.name_at(0x10).as_deref(), Some("inside"));
}

#[test]
fn an_open_map_is_read_when_all_else_is_gone_and_as_it_grew() {
    let machine = Machine::new(me());
    fs::write(machine.inside(), "10 10 first\n").unwrap();
    let file = machine.open().unwrap();
    assert!(file.read().unwrap().find(0x20).is_none());
    fs::write(machine.inside(), "10 10 first\n20 10 second\n").unwrap();
    fs::remove_dir_all(machine.folder.path()).unwrap();
    assert_eq!(file.read().unwrap().find(0x20).unwrap().name, "second");
    assert_eq!(file.read().unwrap().find(0x10).unwrap().name, "first");
}

#[test]
fn only_the_user_of_the_process_and_root_may_write_it() {
    if me() != 0 {
        // Who cannot give files away tries one of their own, for a process of somebody else.
        let machine = Machine::new(me() + 1);
        fs::write(machine.inside(), "10 10 f\n").unwrap();
        assert!(matches!(machine.open(), Err(OpenError::Owner { .. })));
        return;
    }
    let machine = Machine::new(1000);
    fs::write(machine.inside(), "10 10 f\n").unwrap();
    for (owner, trusted) in [(0, true), (1000, true), (1001, false), (1, false)] {
        chown(machine.inside(), Some(owner), None).unwrap();
        match machine.open() {
            Ok(_) => assert!(trusted, "{owner}"),
            Err(OpenError::Owner {
                owner: found, user, ..
            }) => {
                assert_eq!((found, user, trusted), (owner, 1000, false));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn only_a_plain_file_is_opened_and_no_link_followed() {
    let machine = Machine::new(me());
    let target = machine.folder.path().join("target");
    fs::write(&target, "10 10 f\n").unwrap();
    symlink(&target, machine.inside()).unwrap();
    assert!(machine.open().is_err());
    fs::remove_file(machine.inside()).unwrap();

    // A pipe that nobody writes to would be waited for.
    let status = Command::new("mkfifo").arg(machine.inside()).status();
    assert!(status.unwrap().success());
    assert!(matches!(machine.open(), Err(OpenError::NotAFile { .. })));
    fs::remove_file(machine.inside()).unwrap();
    fs::create_dir(machine.inside()).unwrap();
    assert!(matches!(machine.open(), Err(OpenError::NotAFile { .. })));
}

#[test]
fn a_process_that_is_gone_has_no_map() {
    let machine = Machine::new(me());
    fs::write(machine.inside(), "").unwrap();
    fs::write(machine.folder.path().join("proc/42/status"), "Name:\tx\n").unwrap();
    assert!(matches!(
        machine.open(),
        Err(OpenError::NoProcess { pid: PID })
    ));
}

#[test]
fn the_map_of_a_real_process_is_found() {
    let path = PathBuf::from(format!("/tmp/perf-{}.map", process::id()));
    fs::write(&path, "10 10 real\n").unwrap();
    let file = PerfMapFile::of(process::id());
    fs::remove_file(&path).unwrap();
    assert_eq!(
        file.unwrap().read().unwrap().find(0x10).unwrap().name,
        "real"
    );
}

#[test]
fn a_map_that_is_written_when_the_process_ends_is_found() {
    let machine = Machine::new(me());
    let folder = machine.folder.path();
    let place = PerfMapFile::of_in(&folder.join("proc"), &folder.join("tmp"), PID).unwrap();
    assert!(place.look().is_err() && place.read().is_err());
    // Its root can no longer be reached through `/proc`, but is still there.
    fs::rename(folder.join("proc/42"), folder.join("gone")).unwrap();
    fs::write(folder.join("gone/root/tmp/perf-7.map"), "10 10 late\n").unwrap();
    place.look().unwrap();
    assert_eq!(place.read().unwrap().find(0x10).unwrap().name, "late");
}

#[test]
fn a_map_of_the_next_process_with_the_number_does_not_replace_it() {
    let machine = Machine::new(me());
    fs::write(machine.inside(), "10 10 first\n").unwrap();
    let place = machine.open().unwrap();
    let replace = |name: &str| {
        fs::remove_file(machine.inside()).unwrap();
        fs::write(machine.inside(), format!("10 10 {name}\n")).unwrap();
        place.look().unwrap();
        place.read().unwrap().find(0x10).unwrap().name.clone()
    };
    assert_eq!(replace("again"), "again");
    fs::write(machine.folder.path().join("proc/42/stat"), stat(5678)).unwrap();
    assert_ne!(place.identity_now(), Some(place.identity()));
    assert_eq!(replace("other"), "again");
}
