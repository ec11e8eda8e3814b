//! `cargo xtask guest`: a command in a virtual machine with another kernel.
//!
//! QEMU emulates the machine, Debian's packages have the kernel and busybox, and the programs of
//! this project come linked statically in the initramfs. No root is needed, and nothing is
//! installed or changed on the host but files in the target folder.

mod binaries;
pub(crate) mod ci;
mod cpio;
mod debian;
mod helpers;
mod initramfs;
mod kernel;
mod machine;
mod monitor;
mod protocol;
pub(crate) mod suite;

use std::{
    ffi::OsString,
    fs,
    hash::{BuildHasher as _, RandomState},
    io::{self, Write},
    path::{self, Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use self::{
    binaries::Binaries,
    debian::Arch,
    initramfs::Contents,
    kernel::{Choice, Kernel},
    machine::{Dump, Machine},
};
use crate::workspace::Workspace;

/// Arguments of `cargo xtask guest`.
#[derive(Debug, Args)]
pub(crate) struct GuestArgs {
    /// One of Debian's kernels (6.1, 6.12, 6.1-686-pae), a kernel package, or a kernel image.
    /// Debian's newest is fetched once and kept in target/guest; remove that for a newer one
    #[arg(long, default_value = "6.12")]
    kernel: Choice,
    /// CPUs of the guest
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory of the guest
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=65536))]
    memory: u32,
    /// Give the guest up after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// Inject an NMI into every CPU this often while the command runs. The command can also ask
    /// for some itself, with the line `stackwalk-guest: nmi COUNT MILLISECONDS`
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    nmi_every: Option<u64>,
    /// Write the guest's memory to this file, an ELF core, when the command prints a certain line.
    /// Then the guest gets the line `stackwalk-guest: done` on the terminal $STACKWALK_GUEST
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// The line at which the memory is written
    #[arg(long, value_name = "LINE", default_value = protocol::DUMP, requires = "dump")]
    dump_at_line: String,
    /// Show the messages of the guest's kernel on standard error
    #[arg(long)]
    kernel_log: bool,
    /// The command to run in the guest, as root. It has busybox, `stackwalk`, and its live tests as
    /// `live`
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the command. Its exit status is that of the command in the guest.
pub(crate) fn run(workspace: &Workspace, args: &GuestArgs) -> anyhow::Result<ExitCode> {
    let cache = workspace.guest();
    let kernel = Kernel::get(&args.kernel, &cache)?;
    let binaries = match kernel.arch {
        Arch::Amd64 => Some(Binaries::build(workspace)?),
        Arch::I386 => None,
    };
    let dump = match &args.dump {
        Some(path) => Some(dump_to(path, &args.dump_at_line)?),
        None => None,
    };
    let guest = Guest {
        workspace,
        kernel: &kernel,
        binaries: binaries.as_ref(),
    };
    let set = |machine: &mut Machine<'_>| {
        machine.cpus = args.cpus;
        machine.memory = args.memory;
        machine.timeout = Duration::from_secs(args.timeout);
        machine.nmi_every = args.nmi_every.map(Duration::from_millis);
        machine.dump = dump;
        machine.kernel_log = args.kernel_log;
    };
    let status = guest.run(&args.command, set, &mut io::stdout(), |_| {})?;
    Ok(ExitCode::from(status))
}

fn dump_to(path: &Path, at_line: &str) -> anyhow::Result<Dump> {
    // One of another run would pass for one of this run.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    Ok(Dump {
        path: path::absolute(path).context("cannot find the folder for the dump")?,
        at_line: at_line.to_owned(),
    })
}

/// A guest to be started.
struct Guest<'a> {
    workspace: &'a Workspace,
    kernel: &'a Kernel,
    binaries: Option<&'a Binaries>,
}

impl Guest<'_> {
    /// Starts it and runs a command in it. `set` changes what is not as it usually is.
    fn run(
        &self,
        command: &[OsString],
        set: impl FnOnce(&mut Machine<'_>),
        out: &mut dyn Write,
        line: impl FnMut(&str),
    ) -> anyhow::Result<u8> {
        let cache = self.workspace.guest();
        // Not in /tmp, where an interrupted run would leave tens of MiB behind.
        let folder = fs::create_dir_all(&cache)
            .and_then(|()| tempfile::tempdir_in(&cache))
            .context("cannot create a folder for the guest")?;
        let initramfs = folder.path().join("initramfs");
        // Not a secret, but nothing that a command prints by chance.
        let token = format!("{:016x}", RandomState::new().hash_one(folder.path()));
        let contents = Contents {
            kernel: self.kernel,
            binaries: self.binaries,
            command,
            token: &token,
            cache: &cache,
        };
        contents.write(&initramfs)?;
        let mut machine = Machine {
            arch: self.kernel.arch,
            image: &self.kernel.image,
            initramfs: &initramfs,
            parameters: String::new(),
            token: &token,
            cpus: 2,
            memory: 1024,
            timeout: Duration::from_secs(300),
            nmi_every: None,
            dump: None,
            kernel_log: false,
        };
        set(&mut machine);
        machine.run(out, line)
    }
}
