//! This program as a process to be sampled: under any name, and doing one of a few things.
//!
//! Every helper ends by itself after a while, so that none is left if a test is killed.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _, stdin},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The longest a helper lives.
const LIFE: Duration = Duration::from_secs(120);
/// What an argument starts with that makes this program a helper.
const MARK: &str = "helper=";
/// The name of the processes that helpers start.
pub(crate) const CHILD: &str = "swchild";
/// The name of the thread to be sampled in [`Role::Threads`].
pub(crate) const CHOSEN: &str = "swchosen";
/// The name of the thread that the chosen one makes.
pub(crate) const GROWN: &str = "swgrown";

/// What a helper does. The text is what it is called on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    /// Spins, in user mode and in the kernel, for so many milliseconds.
    Spin(u64),
    /// Spins and, all the time, starts children that spin a little.
    Parent,
    /// Spins in a thread `swchosen` and in another, and says the ID of the first. When it gets a
    /// line, the chosen one makes a thread and a process.
    Threads,
    /// When it gets a line, forks so many children that end at once, says `done`, and waits for
    /// the end of its input.
    Forks(u64),
}

impl Role {
    fn argument(self) -> String {
        match self {
            Self::Spin(milliseconds) => format!("{MARK}spin:{milliseconds}"),
            Self::Parent => format!("{MARK}parent:0"),
            Self::Threads => format!("{MARK}threads:0"),
            Self::Forks(children) => format!("{MARK}forks:{children}"),
        }
    }
}

/// A running helper; it is killed when this is dropped.
pub(crate) struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    _programs: Programs,
}

/// This program under the names that helpers have.
pub(crate) struct Programs {
    folder: TempDir,
}

impl Programs {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = std::env::current_exe().unwrap();
        for name in [name, CHILD] {
            symlink(&this, folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// The command line that starts a helper.
    pub(crate) fn command_line(&self, name: &str, role: Role) -> [String; 2] {
        let path = self.folder.path().join(name);
        [
            path.into_os_string().into_string().unwrap(),
            role.argument(),
        ]
    }
}

impl Helper {
    /// Starts one, called `name`, which has 15 characters at most.
    pub(crate) fn start(name: &str, role: Role) -> Self {
        let programs = Programs::new(name);
        let [program, argument] = programs.command_line(name, role);
        let mut child = Command::new(program)
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            _programs: programs,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line it says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Gives it a line.
    pub(crate) fn go(&mut self) {
        self.input.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// Ends its input, and waits for its own end.
    pub(crate) fn finish(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended; both calls then do nothing.
        let _killed = self.child.kill();
        let _collected = self.child.wait();
    }
}

/// A command that copies nothing to nowhere, in kernel mode for the most part. Its program has no
/// symbols, so that `record` has little to do at the end.
pub(crate) const COPY: [&str; 4] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=16k"];

/// [`COPY`] as a process of its own; it is killed when this is dropped.
pub(crate) struct Copying(pub(crate) Child);

impl Copying {
    pub(crate) fn start() -> Self {
        let [program, arguments @ ..] = COPY;
        let mut command = Command::new(program);
        Self(
            command
                .args(arguments)
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        // It may have been killed; both calls then do nothing.
        let _killed = self.0.kill();
        let _collected = self.0.wait();
    }
}

/// What this process is to do if it was started as a helper.
pub(crate) fn role() -> Option<String> {
    let argument = std::env::args().nth(1)?;
    argument.strip_prefix(MARK).map(str::to_owned)
}

/// Does it.
pub(crate) fn play(role: &str) {
    let (name, number) = role.split_once(':').unwrap();
    let number: u64 = number.parse().unwrap();
    let end = Instant::now() + LIFE;
    match name {
        "spin" => spin(Instant::now() + Duration::from_millis(number)),
        "parent" => {
            while Instant::now() < end {
                spin(Instant::now() + Duration::from_millis(5));
                spinning_child(20).wait().unwrap();
            }
        }
        "threads" => threads(end),
        "forks" => forks(number),
        _ => panic!("unknown role {role}"),
    }
}

/// Uses the CPU in user mode and in system calls.
fn spin(end: Instant) {
    let mut zero = File::open("/dev/zero").unwrap();
    let mut buffer = [0; 4096];
    while Instant::now() < end {
        for _ in 0..20 {
            zero.read_exact(&mut buffer).unwrap();
            std::hint::black_box(&mut buffer)
                .iter_mut()
                .for_each(|byte| *byte ^= 1);
        }
    }
}

fn spinning_child(milliseconds: u64) -> Child {
    let me = PathBuf::from(std::env::args().next().unwrap());
    Command::new(me.parent().unwrap_or(Path::new(".")).join(CHILD))
        .arg(Role::Spin(milliseconds).argument())
        .spawn()
        .unwrap()
}

fn threads(end: Instant) {
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let (order, orders) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let chosen = named(CHOSEN).spawn(move || {
        // SAFETY: gettid has no preconditions.
        tell.send(unsafe { libc::gettid() }).unwrap();
        while orders.try_recv().is_err() {
            spin(Instant::now() + Duration::from_millis(5));
        }
        named(GROWN).spawn(move || spin(end)).unwrap();
        while Instant::now() < end {
            spinning_child(20).wait().unwrap();
        }
    });
    named("swsibling").spawn(move || spin(end)).unwrap();
    println!("{}", told.recv().unwrap());
    stdin().read_line(&mut String::new()).unwrap();
    order.send(()).unwrap();
    chosen.unwrap().join().unwrap();
}

fn forks(children: u64) {
    println!("ready");
    stdin().read_line(&mut String::new()).unwrap();
    for _ in 0..children {
        // SAFETY: this process has one thread, and the child does nothing but end.
        match unsafe { libc::fork() } {
            -1 => panic!("{}", std::io::Error::last_os_error()),
            // SAFETY: _exit may be called in any state.
            0 => unsafe { libc::_exit(0) },
            child => {
                // SAFETY: the status is not asked for.
                let collected = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                assert_eq!(collected, child);
            }
        }
    }
    println!("done");
    stdin().read_to_end(&mut Vec::new()).unwrap();
}
