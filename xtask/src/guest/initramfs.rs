//! What is in a guest: the first process, busybox, our programs, the kernel's own image and the
//! modules that are wanted, and the command.
//!
//! How an archive is written is `cpio`'s business, where the parts come from `debian`'s,
//! `kernel`'s and `binaries`'.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::BufWriter,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use super::{
    binaries::Binaries,
    cpio::Archive,
    debian::{Arch, Debian},
    kernel::Kernel,
};

/// The first process. In a shell's language, because it is the same for every architecture.
const INIT: &str = include_str!("init.sh");
/// Accounts: a test runs as one without rights.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
/// Modules by their path in the kernel's sources: one that does nothing, to be loaded by tests, and
/// the one by which QEMU learns where the kernel describes itself.
const MODULES: [&str; 2] = ["drivers/net/dummy", "drivers/firmware/qemu_fw_cfg"];

const FOLDERS: [&str; 9] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib/modules",
    "/proc",
    "/root",
    "/sys",
];

/// The contents of a guest.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) kernel: &'a Kernel,
    /// Our programs, which are for x86_64.
    pub(crate) binaries: Option<&'a Binaries>,
    /// The program to run in the guest, and its arguments.
    pub(crate) command: &'a [OsString],
    /// What tells the first process's lines from all others.
    pub(crate) token: &'a str,
    /// Where fetched packages are kept.
    pub(crate) cache: &'a Path,
}

impl Contents<'_> {
    /// Writes the archive that the kernel starts with.
    ///
    /// # Errors
    /// If a part cannot be had or the archive not be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        let file = File::create(path).with_context(|| format!("cannot create {shown}"))?;
        let mut archive = Archive::new(BufWriter::new(file));
        for folder in FOLDERS {
            archive.folder(folder)?;
        }
        // Mounted over, but only once the first process runs.
        archive.folder("/tmp")?;
        archive.program("/init", INIT.replace("@TOKEN@", self.token).as_bytes())?;
        archive.file("/command", script(self.command)?.as_bytes())?;
        archive.file("/etc/passwd", PASSWD.as_bytes())?;
        archive.program("/bin/busybox", &busybox(self.kernel.arch, self.cache)?)?;
        if let Some(binaries) = self.binaries {
            archive.program("/bin/stackwalk", &read(&binaries.stackwalk)?)?;
            archive.program("/bin/live", &read(&binaries.live)?)?;
        }
        archive.file("/boot/vmlinuz", &read(&self.kernel.image)?)?;
        for path in MODULES {
            if let Some(module) = self.kernel.module(path) {
                let name = path.rsplit('/').next().unwrap_or(path);
                archive.file(&format!("/lib/modules/{name}.ko"), &uncompressed(&module)?)?;
            }
        }
        archive.finish()?;
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Debian's static busybox.
fn busybox(arch: Arch, cache: &Path) -> anyhow::Result<Vec<u8>> {
    let debian = Debian::new(arch, &cache.join(arch.name()));
    let folder = debian
        .unpacked("^busybox-static$", |name| name == "busybox-static")
        .context("cannot get a static busybox")?;
    // Debian 13 has it in /usr.
    let places = ["bin/busybox", "usr/bin/busybox"];
    let found = places
        .iter()
        .map(|place| folder.join(place))
        .find(|path| path.is_file());
    read(&found.context("the package busybox-static has no busybox in it")?)
}

/// A module as the kernel takes it.
fn uncompressed(module: &Path) -> anyhow::Result<Vec<u8>> {
    if module.extension().is_none_or(|extension| extension != "xz") {
        return read(module);
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(module)
        .output()
        .context("cannot start xz: install xz-utils")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("cannot unpack {}: {}", module.display(), said.trim());
    }
    Ok(output.stdout)
}

/// A script that becomes the command.
fn script(command: &[OsString]) -> anyhow::Result<String> {
    ensure!(
        !command.is_empty(),
        "there is no command to run in the guest"
    );
    let mut script = "exec".to_owned();
    for word in command {
        let word = word
            .to_str()
            .with_context(|| format!("{} is not UTF-8", word.display()))?;
        script.push_str(&format!(" '{}'", word.replace('\'', r"'\''")));
    }
    script.push('\n');
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_the_command_as_it_was_given() {
        let words = [
            "printf",
            "%s|",
            "two words",
            "it's",
            "$HOME",
            "",
            "a\nb",
            "\\",
        ];
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let output = Command::new("sh")
            .args(["-c", &script(&words).unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "two words|it's|$HOME||a\nb|\\|");
        assert!(script(&[]).is_err());
    }

    #[test]
    fn the_first_process_knows_the_token() {
        assert_eq!(INIT.matches("@TOKEN@").count(), 2);
    }
}
