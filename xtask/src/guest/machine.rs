//! A guest from its start to its end: QEMU, the lines on its serial ports, and the limits after
//! which it is given up.
//!
//! What is in the guest is `initramfs`'s business, what the lines mean `protocol`'s, and how QEMU
//! is asked for something `monitor`'s.

use std::{
    collections::VecDeque,
    io::Write,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};

use super::{
    debian::Arch,
    helpers::{self, Event, Order, Port},
    protocol::{Line, is_complaint},
};

/// A guest says something at least this often, or it hangs.
const SILENCE: Duration = Duration::from_secs(300);
/// How many of the kernel's last messages are shown when a run fails.
const LAST_MESSAGES: usize = 60;
/// QEMU connects within this time, or it has not started.
const CONNECT: Duration = Duration::from_secs(20);
/// Events that wait to be looked at.
const QUEUE: usize = 1024;

/// How to run a guest.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) arch: Arch,
    pub(crate) image: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Further parameters of the kernel.
    pub(crate) parameters: String,
    /// What its first process says to be believed.
    pub(crate) token: &'a str,
    pub(crate) cpus: u32,
    /// In MiB.
    pub(crate) memory: u32,
    /// For the whole run.
    pub(crate) timeout: Duration,
    /// Time between NMIs while the command runs.
    pub(crate) nmi_every: Option<Duration>,
    pub(crate) dump: Option<Dump>,
    /// Show the kernel's messages on standard error.
    pub(crate) kernel_log: bool,
}

/// A dump of the guest's memory.
#[derive(Debug, Clone)]
pub(crate) struct Dump {
    pub(crate) path: PathBuf,
    /// The line of the command's output at which it is made.
    pub(crate) at_line: String,
}

/// QEMU; it is killed when this is dropped.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended; both calls then do nothing.
        let _killed = self.0.kill();
        let _collected = self.0.wait();
    }
}

impl Machine<'_> {
    /// Runs the guest. The command's output goes to `out`, and each line of it to `line`. Returns
    /// the command's exit status.
    ///
    /// # Errors
    /// If QEMU does not start, the kernel panics or complains, or the guest hangs, takes too long
    /// or ends without saying how the command ended.
    pub(crate) fn run(
        &self,
        out: &mut dyn Write,
        mut line: impl FnMut(&str),
    ) -> anyhow::Result<u8> {
        let folder = tempfile::tempdir().context("cannot create a folder for sockets")?;
        let listen = |name: &str| {
            UnixListener::bind(folder.path().join(name))
                .with_context(|| format!("cannot create the socket {name}"))
        };
        let listeners = [listen("kernel")?, listen("command")?, listen("monitor")?];
        let mut qemu = self.start(folder.path())?;
        let deadline = Instant::now() + self.timeout;

        let [kernel, command, monitor] = accept(&listeners, &mut qemu)?;
        let (events, received) = sync_channel(QUEUE);
        let (orders, ordered) = sync_channel(QUEUE);
        let answers = command.try_clone().context("cannot answer the guest")?;
        helpers::read_lines(Port::Kernel, kernel, events.clone());
        helpers::read_lines(Port::Command, command, events.clone());
        helpers::follow_orders(monitor, answers, ordered, events);
        let mut log = VecDeque::new();
        let ended = self.attend(&received, &orders, deadline, &mut log, out, &mut line);
        // Ends the threads, so that there is a last event.
        drop((qemu, orders));
        // What the kernel said up to its end counts; its socket is closed now.
        for event in received {
            if let Event::Line(Port::Kernel, bytes) = event {
                self.keep(&mut log, &bytes);
            }
        }
        let complaint = log.iter().find(|line| is_complaint(line)).cloned();
        let result = match (ended, complaint) {
            (_, Some(complaint)) => Err(anyhow!("the guest's kernel is in trouble: {complaint}")),
            (ended, None) => ended,
        };
        if result.is_err() && !self.kernel_log {
            eprintln!("the last messages of the guest's kernel:");
            for line in &log {
                eprintln!("  {line}");
            }
        }
        result
    }

    /// Handles what comes from the guest until the command has ended.
    fn attend(
        &self,
        received: &Receiver<Event>,
        orders: &SyncSender<Order>,
        deadline: Instant,
        log: &mut VecDeque<String>,
        out: &mut dyn Write,
        line: &mut dyn FnMut(&str),
    ) -> anyhow::Result<u8> {
        let order = |order| orders.send(order).context("QEMU's monitor is gone");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = self.timeout.as_secs();
                bail!("the guest was not done after {seconds} s: give it more with --timeout");
            }
            let event = match received.recv_timeout(left.min(SILENCE)) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) if left <= SILENCE => continue,
                Err(_) => bail!("the guest hangs: no output for {} s", SILENCE.as_secs()),
            };
            match event {
                Event::Line(Port::Kernel, bytes) => {
                    if self.keep(log, &bytes) {
                        bail!("the guest's kernel has given up");
                    }
                }
                Event::Line(Port::Command, bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let text = text.trim_end();
                    let meaning = Line::of(text, self.token);
                    let shown = match meaning {
                        Line::End(_) => Line::output_before_mark(text).as_bytes(),
                        Line::Begin => b"",
                        Line::Output | Line::Nmi { .. } => &bytes,
                    };
                    out.write_all(shown)
                        .and_then(|()| out.flush())
                        .context("cannot pass on the guest's output")?;
                    match meaning {
                        Line::End(status) => return Ok(status),
                        Line::Begin => {
                            // What a kernel says to the emulated hardware while it boots is not
                            // about anything that runs in it.
                            log.clear();
                            if let Some(every) = self.nmi_every {
                                order(Order::NmiEvery(every))?;
                            }
                            continue;
                        }
                        Line::Nmi { count, every } => order(Order::Nmi { count, every })?,
                        Line::Output => {}
                    }
                    if let Some(dump) = &self.dump
                        && text == dump.at_line
                    {
                        order(Order::Dump(dump.path.clone()))?;
                    }
                    line(text);
                }
                Event::Failed(error) => return Err(error),
                Event::Closed => {
                    bail!("the guest ended without saying how its command ended");
                }
            }
        }
    }

    /// Keeps a message of the kernel; true if it is its last.
    fn keep(&self, log: &mut VecDeque<String>, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if self.kernel_log {
            eprintln!("{text}");
        }
        let last = text.contains("end Kernel panic");
        // A complaint stays, however much the kernel says after it.
        if log.len() >= LAST_MESSAGES
            && let Some(at) = log.iter().position(|line| !is_complaint(line))
        {
            log.remove(at);
        }
        if log.len() < 2 * LAST_MESSAGES {
            log.push_back(text);
        }
        last
    }

    fn start(&self, folder: &Path) -> anyhow::Result<Qemu> {
        let program = self.program();
        if !on_path(program) {
            bail!(
                "there is no {program}: install it (Debian: apt-get install \
                 --no-install-recommends qemu-system-x86)"
            );
        }
        // The kernel kills QEMU when this process ends, however it does.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(self.arguments(folder))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start QEMU through setpriv (Debian: package util-linux)")?;
        Ok(Qemu(child))
    }

    const fn program(&self) -> &'static str {
        match self.arch {
            Arch::Amd64 => "qemu-system-x86_64",
            Arch::I386 => "qemu-system-i386",
        }
    }

    fn arguments(&self, folder: &Path) -> Vec<String> {
        let socket = |name: &str| folder.join(name).display().to_string();
        let mut arguments: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| {
            arguments.push(format!("-{name}"));
            arguments.push(value);
        };
        // Emulated, even where there is /dev/kvm: inside of a virtual machine that is not
        // dependable, and here it is the same everywhere. One CPU after the other: with a thread
        // each, an instruction that the kernel has patched can still be seen as it was before, which
        // the kernel rightly takes for a fault.
        option("accel", "tcg,thread=single".to_owned());
        option("cpu", "max".to_owned());
        option("smp", self.cpus.to_string());
        option("m", self.memory.to_string());
        option("display", "none".to_owned());
        for name in ["kernel", "command"] {
            option("chardev", format!("socket,id={name},path={}", socket(name)));
            option("serial", format!("chardev:{name}"));
        }
        option("qmp", format!("unix:{}", socket("monitor")));
        option("device", "vmcoreinfo".to_owned());
        option("kernel", self.image.display().to_string());
        option("initrd", self.initramfs.display().to_string());
        // The first serial port for the kernel alone; warnings are shown; whatever is wrong ends
        // it, and with `-no-reboot` QEMU too; NMIs go to every CPU, not to the first alone.
        option(
            "append",
            format!(
                "console=ttyS0 loglevel=5 oops=panic panic=-1 apic_extnmi=all {}",
                self.parameters
            ),
        );
        for flag in ["nodefaults", "no-user-config", "no-reboot"] {
            arguments.push(format!("-{flag}"));
        }
        arguments
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Waits for QEMU's connections, in the order of the listeners.
fn accept<const N: usize>(
    listeners: &[UnixListener; N],
    qemu: &mut Qemu,
) -> anyhow::Result<[UnixStream; N]> {
    let deadline = Instant::now() + CONNECT;
    let mut streams = Vec::with_capacity(N);
    for listener in listeners {
        listener
            .set_nonblocking(true)
            .context("cannot wait for QEMU")?;
        let stream = loop {
            if let Ok((stream, _)) = listener.accept() {
                break stream;
            }
            if let Some(status) = qemu.0.try_wait().context("cannot watch QEMU")? {
                bail!("QEMU does not start ({status}); it says why above");
            }
            if Instant::now() > deadline {
                bail!("QEMU does not start: it has not connected to its sockets");
            }
            thread::sleep(Duration::from_millis(5));
        };
        stream
            .set_nonblocking(false)
            .context("cannot read from QEMU")?;
        streams.push(stream);
    }
    streams
        .try_into()
        .map_err(|_| anyhow!("QEMU has not made all connections"))
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
