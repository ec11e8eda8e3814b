//! Starting a command that waits at the gate: forked, but not yet executing, so that its events
//! can be set up before its first instruction. Also the name of a thread.

use std::{
    ffi::{CStr, OsStr, OsString},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
    thread::{self, JoinHandle},
};

use super::limits;

/// Names this thread, as `ps` and profilers show it; a name of more than 15 bytes is cut.
pub(crate) fn name_thread(name: &CStr) {
    // SAFETY: the kernel reads a string that ends with a zero byte. It always succeeds.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// A forked process that waits before its `exec`.
#[derive(Debug)]
pub(crate) struct WaitingCommand {
    pid: u32,
    gate: io::PipeWriter,
    spawn: JoinHandle<io::Result<Child>>,
}

impl WaitingCommand {
    /// Forks. The new process waits until [`WaitingCommand::release`], and ends if this value is
    /// dropped instead.
    ///
    /// # Errors
    /// If pipes or a process cannot be made.
    pub(crate) fn fork(program: &OsStr, arguments: &[OsString]) -> io::Result<Self> {
        let (gate_reader, gate) = io::pipe()?;
        let (mut pid_reader, pid_writer) = io::pipe()?;
        let gate_fd = gate.as_raw_fd();
        let mut command = Command::new(program);
        command.args(arguments);
        let wait = move || {
            limits::give_back()?;
            wait_at_gate(&gate_reader, gate_fd, &pid_writer)
        };
        // SAFETY: the closure runs in the forked child and makes only system calls that are
        // async-signal-safe (signal, setrlimit, getpid, write, close, read); it neither allocates
        // nor locks.
        unsafe { command.pre_exec(wait) };
        // `spawn` returns only once the child has executed or failed to, so it needs a thread.
        let spawn = thread::Builder::new()
            .name("spawn".to_owned())
            .spawn(move || command.spawn())?;
        let mut pid = [0; 4];
        match pid_reader.read_exact(&mut pid) {
            Ok(()) => Ok(Self {
                pid: u32::from_ne_bytes(pid),
                gate,
                spawn,
            }),
            Err(error) => Err(join(spawn).err().unwrap_or(error)),
        }
    }

    /// Its process ID.
    #[must_use]
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it execute.
    ///
    /// # Errors
    /// If the program cannot be executed, as `execve(2)`.
    pub(crate) fn release(mut self) -> io::Result<Child> {
        self.gate.write_all(&[1])?;
        join(self.spawn)
    }
}

/// Asks a child that still runs to end (`SIGTERM`).
pub(crate) fn terminate(child: &Child) {
    send(child, libc::SIGTERM);
}

/// Interrupts a child that still runs, as Ctrl-C does (`SIGINT`).
pub(crate) fn interrupt(child: &Child) {
    send(child, libc::SIGINT);
}

fn send(child: &Child, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: the child was not waited for, so the ID is still its own.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Whether this process is in the foreground of a terminal, whose Ctrl-C then reaches all of its
/// process group, also a command that it started.
pub(crate) fn is_in_foreground() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else {
        return false;
    };
    // SAFETY: the descriptor is open, and both only return numbers.
    unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) == libc::getpgrp() }
}

/// Whether a signal is ignored, as `nohup` wants it of SIGHUP.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a `sigaction` of zeros is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action it only writes the present one.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

fn join(spawn: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    spawn
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
}

fn wait_at_gate(
    mut gate: &io::PipeReader,
    gate_writer: RawFd,
    mut pid_writer: &io::PipeWriter,
) -> io::Result<()> {
    // The child's copy of the writing end would keep the gate from ever reading as closed.
    // SAFETY: the descriptor is this process's own copy, and nothing else here uses it.
    unsafe { libc::close(gate_writer) };
    pid_writer.write_all(&std::process::id().to_ne_bytes())?;
    gate.read_exact(&mut [0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_command_has_not_executed() {
        let waiting = WaitingCommand::fork(OsStr::new("true"), &[]).unwrap();
        let exe = std::fs::read_link(format!("/proc/{}/exe", waiting.pid())).unwrap();
        assert_eq!(exe, std::env::current_exe().unwrap());
        let mut child = waiting.release().unwrap();
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_missing_program_is_an_error_of_release() {
        let waiting = WaitingCommand::fork(OsStr::new("/no/such/program"), &[]).unwrap();
        let error = waiting.release().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_dropped_command_ends() {
        let waiting = WaitingCommand::fork(OsStr::new("true"), &[]).unwrap();
        let WaitingCommand { gate, spawn, .. } = waiting;
        drop(gate);
        assert!(join(spawn).is_err());
    }
}
