//! Recordings (`.swk`): what is in them, and what is left of them when something goes wrong.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use walker_user::{
    output::folded,
    recording::{
        chunk::{self, ChunkReader, MAGIC, Next},
        reader::Recording,
    },
};

use crate::{
    Test,
    corpus::{Chains, Verdict, compile, read},
    counters::Events,
    helper::{COPY, Copying},
    load::{Kind, Load},
    recorded::{Program, build, named, text},
    support::{Place, Run, Running},
    test,
    wait::until,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_full_disk_ends_it_and_leaves_what_was_written),
    test!(only_recordings_are_written_over),
    test!(walked_again_it_comes_to_the_same_frames),
];

pub(crate) const TESTS_OF_PROGRAMS: &[Test] = &[
    test!(every_sample_is_in_it_and_nobody_else_may_read_it),
    test!(a_recorder_that_is_killed_leaves_what_it_sampled),
    test!(a_slow_reader_does_not_hold_the_sampling_up),
    test!(a_compact_recording_holds_no_memory),
    test!(another_user_can_read_a_copy_with_all_names),
];

/// Who has no rights.
const NOBODY: u32 = 65534;

fn open(path: &Path) -> Recording {
    Recording::read(File::open(path).unwrap()).unwrap().0
}

/// Records a program of the corpus from its start to its end.
fn record(place: &Place, arguments: &[&str], program: &Path) -> Run {
    let record = ["record", "-F", "1999"];
    let arguments = [&record, arguments, &["--", text(program)]].concat();
    let mut stackwalk = place.stackwalk(&arguments);
    let run = Running::start(stackwalk.env("CORPUS_MS", "1500")).wait();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    run
}

fn every_sample_is_in_it_and_nobody_else_may_read_it() {
    let place = Place::new();
    let program = compile(&place, "gcc", "plain.c", &["-O2"]);
    let outputs = ["-o", "run.swk", "-o", "run.txt", "-o", "run.folded"];
    let run = record(&place, &outputs, &program);
    let path = place.path("run.swk");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let recording = open(&path);
    assert!(recording.is_whole(), "{:?}", recording.defects());
    let events = Events::of(&run.stderr);
    events.assert_sum();
    assert_eq!(recording.rows.len() as u64, events.delivered);
    assert_eq!(recording.counts.taken, events.taken);
    assert!(recording.unnamed().kernel.is_empty() && recording.unnamed().user.is_empty());

    // What is made of the recording is what was made directly.
    let profile = recording.timeline().profile;
    let mut made = Vec::new();
    folded::write(&profile, &folded::Options { markers: true }, &mut made).unwrap();
    let direct = fs::read(place.path("run.folded")).unwrap();
    assert!(made == direct, "{}", String::from_utf8_lossy(&made));
    let stacks = read(&place.path("run.txt"));
    let verdict = Verdict::of(&stacks, "plain", &Chains::of("plain.c"), |name| name);
    verdict.assert_right("plain.c");
}

fn a_recorder_that_is_killed_leaves_what_it_sampled() {
    let place = Place::new();
    let options = named("killed");
    let program = build(&place, "steady.c", "killed", &[&options[0], &options[1]]);
    let program = Program::start(&program);
    // Without `-o` it goes to the name that all commands read.
    let arguments = ["record", "-F", "1999", "-p", &program.pid()];
    let mut running = Running::start(&mut place.stackwalk(&arguments));
    let path = place.path("stackwalk.swk");
    until("samples are in the file", || {
        let file = File::open(&path).ok();
        let read = file.and_then(|file| Recording::read(file).ok());
        read.is_some_and(|(recording, _)| recording.rows.len() > 500)
    });
    running.child.kill().unwrap();
    running.wait();

    let recording = open(&path);
    assert!(!recording.ended && recording.rows.len() > 500);
    assert_eq!(recording.missing_chunks, 0);
    assert!(recording.names.kernel.is_empty() && recording.names.user.is_empty());
    // The names are found by build ID and in kallsyms.
    let seen = |number: usize| {
        let run = place.run(&["inspect", "stackwalk.swk", &number.to_string()]);
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        assert!(run.stderr.contains("did not end properly"), "{run:?}");
        run.stdout.contains("killed_outer") && run.stdout.contains("killed_inner")
    };
    assert!((1..20).any(seen));
    program.end();
}

/// A small file system; it is unmounted when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Place, size: &str) -> Self {
        let folder = place.path("disk");
        fs::create_dir(&folder).unwrap();
        let option = format!("size={size}");
        let arguments = ["-t", "tmpfs", "-o", &option, "none", text(&folder)];
        assert!(
            Command::new("mount")
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Even if a file on it is open. There is nothing to be done about a failure.
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn a_full_disk_ends_it_and_leaves_what_was_written() {
    let _load = [Copying::start(), Copying::start()];
    let place = Place::new();
    let disk = SmallDisk::mount(&place, "4m");
    let path = disk.0.join("run.swk");
    // It would go on for as long as this test may take.
    let run = place.run(&["record", "-a", "-F", "4000", "-o", text(&path)]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(run.stderr.contains("No space left on device"), "{run:?}");
    assert!(run.stderr.contains("what it holds can be read"), "{run:?}");
    let recording = open(&path);
    assert!(recording.damages.is_empty(), "{:?}", recording.defects());
    assert!(
        !recording.ended && !recording.rows.is_empty(),
        "{:?}",
        recording.bytes_by_kind
    );
    assert_eq!(recording.missing_chunks, 0);
}

fn a_slow_reader_does_not_hold_the_sampling_up() {
    let place = Place::new();
    let program = compile(&place, "gcc", "recursion.c", &["-O2"]);
    let pipe = place.path("pipe.swk");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let said = place.path("said");
    let arguments = [
        "record",
        "-F",
        "999",
        "-o",
        "pipe.swk",
        "--",
        text(&program),
    ];
    let mut stackwalk = place.stackwalk(&arguments);
    stackwalk
        .env("CORPUS_MS", "5000")
        .stderr(File::create(&said).unwrap());
    let mut child = stackwalk.stdout(Stdio::null()).spawn().unwrap();
    // Both wait for each other here; then nothing is read until all samples were taken.
    let mut reader = OpenOptions::new().read(true).open(&pipe).unwrap();
    until("the sampling has ended", || {
        let said = fs::read_to_string(&said).unwrap();
        said.contains("stackwalk: events ") || child.try_wait().unwrap().is_some()
    });
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let status = child.wait().unwrap();
    let said = fs::read_to_string(&said).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    let events = Events::of(&said);
    events.assert_sum();
    // Nothing is read for all of the time. A reader that held it up would cost nearly all samples;
    // stacks this deep cost an unoptimised build some when others want the CPU, too.
    assert!(events.lost * 10 < events.delivered, "{said}");
    let path = place.path("read.swk");
    fs::write(&path, bytes).unwrap();
    let recording = open(&path);
    assert!(recording.is_whole(), "{:?}", recording.defects());
    assert_eq!(recording.rows.len() as u64, events.delivered);
    // The walks are kept, the bytes of some are not, and that is counted.
    assert!(recording.counts.bytes_dropped > 0, "{:?}", recording.counts);
}

/// Whether a text is anywhere in a recording.
fn holds(path: &Path, what: &[u8]) -> bool {
    let mut chunks = ChunkReader::open(File::open(path).unwrap()).unwrap();
    loop {
        match chunks.next().unwrap() {
            Next::Chunk(header) => {
                let bytes = chunks.payload(&header).unwrap().unwrap();
                if bytes.windows(what.len()).any(|window| window == what) {
                    return true;
                }
            }
            Next::End => return false,
            other => panic!("{other:?}"),
        }
    }
}

fn a_compact_recording_holds_no_memory() {
    let place = Place::new();
    let program = compile(&place, "gcc", "secret.c", &["-O2"]);
    record(&place, &["-o", "full.swk"], &program);
    record(&place, &["--compact", "-o", "compact.swk"], &program);
    let secret: Vec<u8> = (b'A'..=b'Z').collect();
    assert!(holds(&place.path("full.swk"), &secret));
    assert!(!holds(&place.path("compact.swk"), &secret));
    let compact = open(&place.path("compact.swk"));
    assert!(compact.is_whole() && !compact.rows.is_empty());
    assert!(!compact.has_evidence());
    for kind in [chunk::Kind::Evidence, chunk::Kind::Orc] {
        assert_eq!(compact.bytes_by_kind.get(&kind), None);
    }
    assert!(compact.code.is_empty());
}

fn another_user_can_read_a_copy_with_all_names() {
    let place = Place::new();
    let program = compile(&place, "gcc", "plain.c", &["-O2"]);
    record(&place, &["-o", "run.swk"], &program);
    fs::remove_file(program).unwrap();
    let elsewhere = Place::new();
    let copy = elsewhere.path("copy.swk");
    fs::copy(place.path("run.swk"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = |number: usize| {
        let number = number.to_string();
        let (mut command, _binary) = elsewhere.stackwalk_of_all(&["inspect", "copy.swk", &number]);
        command.uid(NOBODY).gid(NOBODY);
        let run = Running::start(&mut command).wait();
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        // Its walk is done again and ends where the file is missing; the name was kept.
        run.stdout.contains("leaf+0x")
    };
    assert!((100..120).any(shown));
}

fn walked_again_it_comes_to_the_same_frames() {
    let _load = (
        Copying::start(),
        Load::start(&[Kind::Processes, Kind::PageFaults]),
    );
    let place = Place::new();
    for events in [
        &["-e", "cpu-clock,page-faults", "-c", "20"][..],
        &["--off-cpu"],
        &["--irq"],
    ] {
        let arguments = [&["record", "-a", "-d", "1", "--force"][..], events].concat();
        let run = place.run(&arguments);
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        let replay = place.run(&["replay"]);
        assert_eq!(
            replay.status.code(),
            Some(0),
            "{events:?}: {}",
            replay.stdout
        );
        assert!(replay.stdout.contains(", 0 differ"), "{}", replay.stdout);
        assert_eq!(replay.stdout, place.run(&["replay"]).stdout);
        let inspected = place.run(&["inspect", "stackwalk.swk", "1"]);
        assert_eq!(inspected.status.code(), Some(0), "{inspected:?}");
        assert!(
            inspected.stdout.contains("the walk ended: "),
            "{}",
            inspected.stdout
        );
    }
}

fn only_recordings_are_written_over() {
    let place = Place::new();
    fs::write(place.path("run.swk"), "notes").unwrap();
    let arguments = |name| {
        let record = ["record", "-d", "0.2", "-o", name, "--"];
        [&record, &COPY[..]].concat()
    };
    let run = place.run(&arguments("run.swk"));
    run.assert_is_error("run.swk", "--force");
    assert_eq!(fs::read(place.path("run.swk")).unwrap(), b"notes");

    for _ in 0..2 {
        let run = place.run(&arguments("again.swk"));
        assert_eq!(run.status.code(), Some(0), "{run:?}");
    }
    assert_eq!(place.files(), ["again.swk", "again.swk.old", "run.swk"]);
    for name in ["again.swk", "again.swk.old"] {
        assert!(fs::read(place.path(name)).unwrap().starts_with(&MAGIC));
        assert!(open(&place.path(name)).is_whole());
    }
}
