//! What the kernel tells of processes, and what is known of them from it.
//!
//! The programs say where their functions are and end at once; what is asked about them is asked
//! when they are gone.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;
use walker_user::{
    capture::{
        session::online_cpus,
        side_band::{Event, Inode, Mmap, SideBand},
        side_band_reader::{DEFAULT_PAGES, SideBandReader},
    },
    elf::ElfFacts,
    process::{
        mapped_file::Backing,
        objects::Objects,
        processes::{Follow, NoSpace, Processes},
    },
    sys::clock::monotonic_ns,
};

use super::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(records_come_in_the_order_of_time_with_the_right_mappings),
    test!(a_program_that_is_gone_is_resolved),
    test!(after_an_exec_the_old_mappings_are_gone),
    test!(a_library_that_was_opened_and_closed_is_resolved),
    test!(a_fork_that_executes_nothing_is_resolved),
    test!(what_ran_before_is_read_and_followed),
    test!(a_program_of_another_mount_namespace_is_resolved_while_it_lives),
    test!(lost_records_are_counted_and_made_up_for),
];

/// A folder with programs made from C.
struct Programs(TempDir);

impl Programs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn compile(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let (file, path) = (self.path(&format!("{name}.c")), self.path(name));
        fs::write(&file, source).unwrap();
        let mut gcc = Command::new("gcc");
        let gcc = gcc.args(flags).arg("-Wl,--build-id").arg("-o");
        assert!(gcc.args([&path, &file]).status().unwrap().success());
        path
    }
}

/// Says where `main` is.
const SAYS_MAIN: &str = r#"
    #include <stdio.h>
    int main(void) { printf("%p\n", (void *)main); return 0; }
"#;

fn reader() -> SideBandReader {
    SideBandReader::open(&online_cpus().unwrap(), DEFAULT_PAGES).unwrap()
}

/// Runs a command to its end, and returns its number and the addresses it said.
fn run(command: &mut Command) -> (u32, Vec<u64>) {
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let address = |line: &str| u64::from_str_radix(line.trim_start_matches("0x"), 16).unwrap();
    (pid, said.lines().map(address).collect())
}

fn all_records(reader: &mut SideBandReader) -> Vec<SideBand> {
    reader.read_until(monotonic_ns()).collect()
}

/// The link-time address of a symbol, by `nm`.
fn symbol(file: &Path, name: &str) -> u64 {
    let output = Command::new("nm").arg(file).output().unwrap();
    let symbols = String::from_utf8(output.stdout).unwrap();
    let line = symbols
        .lines()
        .find(|line| line.ends_with(&format!(" {name}")));
    u64::from_str_radix(line.unwrap().split(' ').next().unwrap(), 16).unwrap()
}

/// When a record that is looked for was written.
fn time_of(records: &[SideBand], wanted: impl Fn(&Event) -> bool) -> u64 {
    let record = records.iter().find(|record| wanted(&record.event));
    record.unwrap().time_ns
}

fn is_exit(of: u32) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Exit { pid, tid } if *pid == of && *tid == of)
}

fn is_exec(of: u32, named: &str) -> impl Fn(&Event) -> bool {
    move |event| {
        matches!(event, Event::Comm { pid, exec: true, name, .. }
            if *pid == of && name == named.as_bytes())
    }
}

/// What is known after the records up to a time.
struct Known {
    processes: Processes,
    objects: Objects,
}

impl Known {
    fn until(records: &[SideBand], time: u64) -> Self {
        let mut processes = Processes::new(&Follow::All);
        let until = records.iter().filter(|record| record.time_ns <= time);
        until.for_each(|record| processes.apply(record));
        Self {
            processes,
            objects: Objects::new(),
        }
    }

    /// The path of the file and the link-time address that an address belongs to.
    fn locate(&mut self, pid: u32, time: u64, address: u64) -> (PathBuf, u64) {
        let space = self.processes.space(pid, time).unwrap();
        let mapping = space.get(address).unwrap();
        let located = self.objects.locate(pid, mapping, address).unwrap();
        let object = self.objects.get(located.object);
        (object.path().to_owned(), located.address)
    }

    /// The paths of the files that a process maps.
    fn files(&mut self, pid: u32, time: u64) -> Result<Vec<PathBuf>, NoSpace> {
        let space = self.processes.space(pid, time)?;
        let path = |backing: &Backing| match backing {
            Backing::File(file) => String::from_utf8(file.path.clone()).ok().map(PathBuf::from),
            _ => None,
        };
        Ok(space
            .iter()
            .filter_map(|mapping| path(&mapping.backing))
            .collect())
    }
}

fn records_come_in_the_order_of_time_with_the_right_mappings() {
    let programs = Programs::new();
    let program = programs.compile("swprogram", SAYS_MAIN, &[]);
    let facts = ElfFacts::read(&File::open(&program).unwrap()).unwrap();
    let code = facts.loads.iter().find(|load| load.executable).unwrap();
    let mut reader = reader();
    let before = monotonic_ns();
    let mut pids = Vec::new();
    let mut records = Vec::new();
    for _ in 0..50 {
        let (pid, said) = run(&mut Command::new(&program));
        pids.push((pid, said[0]));
        // In parts, so that the order has to hold across reads too.
        records.extend(all_records(&mut reader));
    }
    assert!(records.iter().all(|record| record.time_ns > before));
    assert!(records.is_sorted_by_key(|record| record.time_ns));
    let counters = reader.counters();
    assert_eq!((counters.malformed, counters.late), (0, 0), "{counters:?}");

    let metadata = fs::metadata(&program).unwrap();
    let inode = Inode {
        major: libc::major(metadata.dev()),
        minor: libc::minor(metadata.dev()),
        number: metadata.ino(),
    };
    for (pid, main) in pids {
        let fork = time_of(&records, |event| {
            matches!(event, Event::Fork { pid: child, parent_pid, .. }
                if *child == pid && *parent_pid == std::process::id())
        });
        let exec = time_of(&records, is_exec(pid, "swprogram"));
        let is_program = |mmap: &Mmap| mmap.pid == pid && Path::new(&text(&mmap.path)) == program;
        let mapping = records.iter().find_map(|record| match &record.event {
            Event::Mmap(mmap) if is_program(mmap) => Some((record.time_ns, mmap)),
            _ => None,
        });
        let (mapped, mmap) = mapping.unwrap();
        assert!(fork < exec && exec < mapped && mapped < time_of(&records, is_exit(pid)));
        assert!((mmap.start..mmap.start + mmap.len).contains(&main));
        assert!(mmap.executable);
        assert_eq!(mmap.file_offset, code.offset & !0xfff);
        if reader.has_build_ids() {
            assert_eq!((mmap.build_id, mmap.inode), (facts.build_id, None));
        } else {
            assert_eq!((mmap.build_id, mmap.inode), (None, Some(inode)));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn a_program_that_is_gone_is_resolved() {
    let programs = Programs::new();
    for flags in [&["-pie", "-fPIE"][..], &["-no-pie"], &["-static"]] {
        let program = programs.compile("swprogram", SAYS_MAIN, flags);
        let mut reader = reader();
        let (pid, said) = run(&mut Command::new(&program));
        let records = all_records(&mut reader);
        let exit = time_of(&records, is_exit(pid));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        let mut known = Known::until(&records, exit);
        let expected = (program.clone(), symbol(&program, "main"));
        assert_eq!(known.locate(pid, exit, said[0]), expected, "{flags:?}");
    }
}

fn after_an_exec_the_old_mappings_are_gone() {
    let programs = Programs::new();
    let first = r#"
        #include <stdio.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            printf("%p\n", (void *)main);
            fflush(stdout);
            execv(argv[1], argv + 1);
            return 1;
        }
    "#;
    let first = programs.compile("swfirst", first, &[]);
    let second = programs.compile("swsecond", SAYS_MAIN, &[]);
    let mut reader = reader();
    let (pid, said) = run(Command::new(&first).arg(&second));
    let records = all_records(&mut reader);
    let exec = time_of(&records, is_exec(pid, "swsecond"));
    let exit = time_of(&records, is_exit(pid));

    let mut before = Known::until(&records, exec - 1);
    let (file, address) = before.locate(pid, exec - 1, said[0]);
    assert_eq!((&file, address), (&first, symbol(&first, "main")));
    let mut at = Known::until(&records, exec);
    assert!(!at.files(pid, exec).unwrap().contains(&first));
    let mut after = Known::until(&records, exit);
    let (file, address) = after.locate(pid, exit, said[1]);
    assert_eq!((&file, address), (&second, symbol(&second, "main")));
    assert!(!after.files(pid, exit).unwrap().contains(&first));
}

fn a_library_that_was_opened_and_closed_is_resolved() {
    let programs = Programs::new();
    let library = "int swfunction(int x) { return x + 1; }";
    let library = programs.compile("swlibrary.so", library, &["-shared", "-fPIC"]);
    let opener = r#"
        #include <dlfcn.h>
        #include <stdio.h>
        int main(int argc, char **argv) {
            void *library = dlopen(argv[1], RTLD_NOW);
            printf("%p\n", dlsym(library, "swfunction"));
            return dlclose(library);
        }
    "#;
    let opener = programs.compile("swopener", opener, &["-ldl"]);
    let mut reader = reader();
    let (pid, said) = run(Command::new(opener).arg(&library));
    let records = all_records(&mut reader);
    let exit = time_of(&records, is_exit(pid));
    let expected = (library.clone(), symbol(&library, "swfunction"));
    assert_eq!(
        Known::until(&records, exit).locate(pid, exit, said[0]),
        expected
    );
}

fn a_fork_that_executes_nothing_is_resolved() {
    let programs = Programs::new();
    let forker = r#"
        #include <stdio.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            if (fork() == 0) {
                printf("%x\n%p\n", getpid(), (void *)main);
                return 0;
            }
            return wait(0) < 0;
        }
    "#;
    let forker = programs.compile("swforker", forker, &[]);
    let mut reader = reader();
    let (_, said) = run(&mut Command::new(&forker));
    let (child, main) = (said[0] as u32, said[1]);
    let records = all_records(&mut reader);
    let exit = time_of(&records, is_exit(child));
    let expected = (forker.clone(), symbol(&forker, "main"));
    assert_eq!(
        Known::until(&records, exit).locate(child, exit, main),
        expected
    );
}

/// Runs until its input ends, and then ends after executing the command it was given.
const WAITS: &str = r#"
    #include <stdio.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        printf("%p\n", (void *)main);
        fflush(stdout);
        getchar();
        execv(argv[1], argv + 1);
        return 1;
    }
"#;

/// A program of [`WAITS`], running.
struct Waiting {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Waiting {
    fn start(command: &mut Command) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next address it says.
    fn address(&mut self) -> u64 {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).unwrap()
    }

    fn go(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.go();
        let _collected = self.child.wait();
    }
}

fn what_ran_before_is_read_and_followed() {
    let programs = Programs::new();
    let waiting = programs.compile("swwaiting", WAITS, &[]);
    let second = programs.compile("swsecond", SAYS_MAIN, &[]);
    let mut process = Waiting::start(Command::new(&waiting).arg(&second));
    let (pid, main) = (process.child.id(), process.address());

    let mut reader = reader();
    let mut known = Known::until(&[], 0);
    known.processes = Processes::new(&Follow::Only(vec![pid]));
    known.processes.read_running();
    let now = monotonic_ns();
    let expected = (waiting.clone(), symbol(&waiting, "main"));
    assert_eq!(known.locate(pid, now, main), expected);
    assert_eq!(known.processes.counters().read, 1);

    process.go();
    let main = process.address();
    assert!(process.child.wait().unwrap().success());
    let records = all_records(&mut reader);
    let exit = time_of(&records, is_exit(pid));
    let until = records.iter().filter(|record| record.time_ns <= exit);
    until.for_each(|record| known.processes.apply(record));
    let expected = (second.clone(), symbol(&second, "main"));
    assert_eq!(known.locate(pid, exit, main), expected);
    assert_eq!(known.processes.len(), 1);
}

fn a_program_of_another_mount_namespace_is_resolved_while_it_lives() {
    let programs = Programs::new();
    let waiting = programs.compile("swwaiting", WAITS, &[]);
    let folder = programs.path("mounts");
    fs::create_dir(&folder).unwrap();
    // As in a container: its file system is made of layers, and nobody else sees it.
    let script = r#"
        mount -t tmpfs none "$PWD" && cd "$PWD" && mkdir lower upper work merged && cp "$0" lower/swlayered &&
        mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged &&
        exec merged/swlayered /bin/true
    "#;
    let mut reader = reader();
    let mut command = Command::new("unshare");
    let command = command.args(["-m", "sh", "-c", script]).arg(&waiting);
    let mut process = Waiting::start(command.current_dir(&folder));
    let (pid, main) = (process.child.id(), process.address());
    let path = folder.join("merged/swlayered");
    assert!(!path.exists());
    let records = all_records(&mut reader);
    let now = monotonic_ns();
    let mut by_record = Known::until(&records, now);
    let mut by_proc = Known::until(&[], 0);
    let expected = (path, symbol(&waiting, "main"));
    assert_eq!(by_record.locate(pid, now, main), expected);
    assert_eq!(by_proc.locate(pid, now, main), expected);
    assert_eq!(by_record.processes.counters().read, 0);
    assert_eq!(by_proc.processes.counters().read, 1);
}

fn lost_records_are_counted_and_made_up_for() {
    let programs = Programs::new();
    let waiting = programs.compile("swwaiting", WAITS, &[]);
    let second = programs.compile("swsecond", SAYS_MAIN, &[]);
    let mut reader = SideBandReader::open(&online_cpus().unwrap(), 1).unwrap();
    let process = Waiting::start(Command::new(&waiting).arg(&second));
    // Far more than a page of records, while nobody reads, on whatever CPU.
    for _ in 0..200 {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
    let first: Vec<_> = all_records(&mut reader);
    // The kernel tells of a loss with the next record that fits, on each CPU.
    let mut rest = Vec::new();
    for _ in 0..100 {
        if reader.counters().lost > 0 {
            break;
        }
        assert!(Command::new("/bin/true").status().unwrap().success());
        rest.extend(all_records(&mut reader));
    }
    assert!(reader.counters().lost > 0, "{:?}", reader.counters());
    let now = monotonic_ns();
    let mut known = Known::until(&[first, rest].concat(), now);
    let files = known.files(process.child.id(), now).unwrap();
    assert!(files.contains(&waiting), "{files:?}");
    assert_eq!(known.processes.counters().read, 1);
}
