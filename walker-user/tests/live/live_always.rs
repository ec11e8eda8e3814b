//! `stackwalk live` as it runs all the time: with few capabilities, a configuration file, and a store
//! that gets what is sampled.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use crate::{
    Test,
    live_view::View,
    recorded::{build, named},
    support::Place,
    test,
    wait::until,
};

pub(crate) const TESTS: &[Test] = &[
    test!(a_command_has_all_that_it_would_have_without_stackwalk),
    test!(sighup_reads_the_file_again),
];

pub(crate) const TESTS_OF_PROGRAMS: &[Test] =
    &[test!(programs_of_others_are_named_with_few_capabilities)];

/// A user without any rights.
const NOBODY: u32 = 65534;

/// Killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A number of a task's status, which is hexadecimal.
fn status(task: &Path, name: &str) -> u64 {
    let status = fs::read_to_string(task.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    u64::from_str_radix(line.unwrap().trim_start_matches(':').trim(), 16).unwrap()
}

/// The bits of capabilities, as in `linux/capability.h`.
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYSLOG: u64 = 1 << 34;
const BPF: u64 = 1 << 39;
const CHECKPOINT_RESTORE: u64 = 1 << 40;

/// What a thread may have at most.
fn most(thread: &str) -> u64 {
    match thread {
        "stackwalk" => DAC_READ_SEARCH | SYS_PTRACE | CHECKPOINT_RESTORE | BPF,
        "names" | "symbols" | "symbol-answers" => DAC_READ_SEARCH,
        "live view" => SYSLOG,
        _ => 0,
    }
}

fn programs_of_others_are_named_with_few_capabilities() {
    let place = Place::new();
    let [outer, inner] = named("nobody");
    let built = build(&place, "steady.c", "swnobody", &[&outer, &inner]);
    // Only the other user, and who may read everything, finds the program.
    let home = place.path("home");
    let program = home.join("swnobody");
    fs::create_dir(&home).unwrap();
    fs::rename(built, &program).unwrap();
    for path in [&program, &home] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let nowhere = ["--push", "http://127.0.0.1:1"];
    let view = View::start(&place, &[&["-a", "-F", "999"][..], &nowhere].concat());
    let mut command = Command::new(&program);
    command.env("CORPUS_MS", "60000").uid(NOBODY).gid(NOBODY);
    let _program = Killed(command.spawn().unwrap());
    until("the program of another user has names", || {
        let folded = view.folded();
        let mut lines = folded.lines();
        lines.any(|line| {
            line.starts_with("swnobody;") && line.contains(";main;nobody_outer;nobody_inner")
        })
    });

    let tasks = format!("/proc/{}/task", view.child.id());
    let mut threads: Vec<String> = Vec::new();
    for task in fs::read_dir(tasks).unwrap() {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap();
        let name = name.trim();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let more = status(&task, set) & !most(name);
            assert_eq!(more, 0, "{set} of {name}: {more:x}");
        }
        assert_eq!(status(&task, "NoNewPrivs"), 1, "{name}");
        threads.push(name.to_owned());
    }
    for name in [
        "stackwalk",
        "names",
        "symbols",
        "live view",
        "live server",
        "push",
    ] {
        assert!(threads.iter().any(|thread| thread == name), "{threads:?}");
    }
    assert_eq!(view.end(), Some(0));
}

fn a_command_has_all_that_it_would_have_without_stackwalk() {
    let place = Place::new();
    let said = place.path("status");
    let line = format!(
        "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status > {}",
        said.display()
    );
    let command = ["sh", "-c", &line];
    let alone = Command::new(command[0]).args(&command[1..]).status();
    assert!(alone.unwrap().success());
    let alone = fs::read_to_string(&said).unwrap();
    assert!(alone.contains("CapBnd"), "{alone}");
    fs::remove_file(&said).unwrap();
    let view = View::start(&place, &[&["--"][..], &command].concat());
    assert_eq!(view.rest(), (String::new(), Some(0)));
    assert_eq!(fs::read_to_string(&said).unwrap(), alone);
}

/// A store that takes everything; tells the first line of each request.
fn store() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = BufReader::new(connection.unwrap());
            let (mut first, mut length) = (String::new(), 0);
            connection.read_line(&mut first).unwrap();
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                connection.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
            }
            connection.read_exact(&mut vec![0; length]).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            connection.get_mut().write_all(answer).unwrap();
            if sender.send(first).is_err() {
                return;
            }
        }
    });
    (url, requests)
}

fn sighup_reads_the_file_again() {
    let place = Place::new();
    let [config, errors] = ["live.toml", "errors"].map(|name| place.path(name));
    let write = |text: &str| fs::write(&config, text).unwrap();
    let [first, second] = [store(), store()];
    let push = |url: &str, frequency| {
        format!("frequency = {frequency}\n[push]\nevery = 1\nname = \"fleet\"\nurl = \"{url}\"\n")
    };
    write(&push(&first.0, 99));
    let mut command = place.stackwalk(&["live", "-a", "--listen", "127.0.0.1:0", "--config"]);
    command.arg(&config).stdin(Stdio::null());
    let view = View::of(command.stderr(fs::File::create(&errors).unwrap()));
    let hang_up = || {
        let pid = view.child.id().cast_signed();
        // SAFETY: the child has not been collected, so the ID is still its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    };
    let said = |what: &str| {
        let read = || fs::read_to_string(&errors).unwrap();
        until(what, || read().contains(what));
    };
    let wait = Duration::from_secs(60);
    let request = first.1.recv_timeout(wait).unwrap();
    assert!(
        request.starts_with("POST /ingest?name=fleet%7Bhostname%3D"),
        "{request}"
    );

    write("[push]\nurll = 1\n");
    hang_up();
    said("nothing was changed: cannot use");
    said("line 2: unknown field `urll`");
    write(&push(&second.0, 49));
    hang_up();
    said(&format!("samples are sent to {}/ingest", second.0));
    said("needs a restart to take effect: frequency");
    second.1.recv_timeout(wait).unwrap();
    assert_eq!(view.end(), Some(0));
    said(" sent + 0 waiting + 0 dropped");
}
