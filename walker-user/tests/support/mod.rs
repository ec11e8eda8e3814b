//! Running the built `stackwalk` as a user does: in an empty folder of its own, with everything it
//! says and leaves behind at hand.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// No run of a test takes this long, however busy the machine is, and whether it is emulated.
const LIMIT: Duration = Duration::from_secs(240);

/// The `stackwalk` that is tested: the one that was built with the tests, but where they run on
/// another machine than they were built on (`cargo xtask guest`) it has another path.
fn binary() -> PathBuf {
    std::env::var_os("STACKWALK_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_stackwalk").into(), PathBuf::from)
}

/// An empty folder to run in. Everybody may write to it, as a test may run as another user.
pub(crate) struct Place {
    folder: TempDir,
}

/// A run that has not ended.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: File,
    stderr: File,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `stackwalk` with these arguments, to be run here.
    pub(crate) fn stackwalk(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        self.put(&mut command);
        command
    }

    /// The same for another user, who may not be able to reach the folder it was built in.
    pub(crate) fn stackwalk_of_all(&self, arguments: &[&str]) -> (Command, TempDir) {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = elsewhere.path().join("stackwalk");
        // By another program: what is open for writing here could be inherited by a child that another
        // test starts, and a file that somebody writes cannot be run.
        let copied = Command::new("cp").arg(binary()).arg(&copy).status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(copy);
        command.args(arguments);
        self.put(&mut command);
        (command, elsewhere)
    }

    fn put(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Running::start(&mut self.stackwalk(arguments)).wait()
    }

    /// The names of all files here, hidden ones too, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Running {
    /// Starts it with its output in files: a pipe would have to be read while it runs, and would
    /// stay open as long as any process that it started.
    pub(crate) fn start(command: &mut Command) -> Self {
        let stdout = tempfile::tempfile().unwrap();
        let stderr = tempfile::tempfile().unwrap();
        let child = command
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// What it, and the command that it started, have written to standard output by now.
    pub(crate) fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// The same of standard error.
    pub(crate) fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// Waits for its end, and fails the test if that does not come.
    pub(crate) fn wait(mut self) -> Run {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let stderr = self.stderr();
                panic!("it does not end; until now it said: {stderr}");
            }
            thread::sleep(Duration::from_millis(5));
        };
        Run {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended; both calls then do nothing.
        let _killed = self.child.kill();
        let _collected = self.child.wait();
    }
}

impl Run {
    /// The mistake is told in one line with `what` and `hint` in it, and by the status.
    pub(crate) fn assert_is_error(&self, what: &str, hint: &str) {
        assert_eq!(self.status.code(), Some(2), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("stackwalk: "), "{self:?}");
        assert!(self.stderr.contains(what), "no `{what}` in {self:?}");
        assert!(self.stderr.contains(hint), "no `{hint}` in {self:?}");
    }
}

/// What is in a file by now. Its position stays: whoever writes to it shares that.
fn contents(file: &File) -> String {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
