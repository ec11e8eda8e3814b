//! Writing a cpio archive in the "newc" form, which the kernel unpacks as its first root file
//! system (`Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Only what an initramfs needs: folders, files and symbolic links, all of them root's. What goes
//! in is `initramfs`'s business, and nothing here reads an archive.

use std::io::{self, Write};

use anyhow::{Context as _, ensure};

/// Permission bits of folders and programs.
const EXECUTABLE: u32 = 0o755;
/// Permission bits of other files.
const READABLE: u32 = 0o644;
/// Every file is padded to this, and so is every header with its name.
const ALIGN: usize = 4;

/// An archive that is being written.
#[derive(Debug)]
pub(crate) struct Archive<W: Write> {
    out: W,
    /// Number of the next file. Equal ones would be taken for hard links.
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 1 }
    }

    /// Adds a folder. The folders it is in have to come before it.
    ///
    /// # Errors
    /// If writing fails.
    pub(crate) fn folder(&mut self, path: &str) -> anyhow::Result<()> {
        self.entry(path, 0o040_000 | EXECUTABLE, &[])
    }

    /// Adds a file.
    ///
    /// # Errors
    /// If it has 4 GiB or more, or writing fails.
    pub(crate) fn file(&mut self, path: &str, data: &[u8]) -> anyhow::Result<()> {
        self.entry(path, 0o100_000 | READABLE, data)
    }

    /// Adds a file that may be run.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub(crate) fn program(&mut self, path: &str, data: &[u8]) -> anyhow::Result<()> {
        self.entry(path, 0o100_000 | EXECUTABLE, data)
    }

    /// Ends the archive, and returns what it was written to.
    ///
    /// # Errors
    /// If writing fails.
    pub(crate) fn finish(mut self) -> anyhow::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush().context("cannot write the archive")?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) -> anyhow::Result<()> {
        let name = path.trim_start_matches('/');
        ensure!(
            !name.is_empty() && !name.contains('\0'),
            "{path:?} is no path of an archive"
        );
        let size = u32::try_from(data.len())
            .with_context(|| format!("{path} is too large for an archive"))?;
        let name_size = u32::try_from(name.len() + 1).context("a path is too long")?;
        // In this order: inode, mode, owner, group, links, time, size, device, device of the
        // file, length of the name with its NUL, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.inode += 1;
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.padded(header.as_bytes())
            .and_then(|()| self.padded(data))
            .context("cannot write the archive")
    }

    /// Writes bytes and zeros up to the alignment. Every part is padded, so the position in the
    /// archive is always a multiple of it.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(ALIGN) - bytes.len();
        self.out.write_all(&[0; ALIGN][..padding])
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::MetadataExt as _,
        process::{Command, Stdio},
    };

    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.folder("/bin").unwrap();
        archive.program("/bin/odd", b"12345").unwrap();
        archive.file("/bin/empty", b"").unwrap();
        archive.file("/bin/whole words", b"12345678").unwrap();
        archive.finish().unwrap()
    }

    /// Has `cpio` read an archive, in a folder of its own.
    fn cpio(archive: &[u8], arguments: &[&str]) -> (String, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("cpio")
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs cpio (package cpio)");
        child.stdin.take().unwrap().write_all(archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), folder)
    }

    #[test]
    fn cpio_lists_what_was_written() {
        let (list, _) = cpio(&archive(), &["--list"]);
        let names: Vec<&str> = list.lines().collect();
        assert_eq!(names, ["bin", "bin/odd", "bin/empty", "bin/whole words"]);
    }

    #[test]
    fn cpio_unpacks_the_same_bytes() {
        let (_, folder) = cpio(&archive(), &["--extract"]);
        for (name, data) in [
            ("bin/odd", &b"12345"[..]),
            ("bin/empty", b""),
            ("bin/whole words", b"12345678"),
        ] {
            assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), data);
        }
        let mode = |name: &str| folder.path().join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!(mode("bin/odd"), EXECUTABLE);
        assert_eq!(mode("bin/empty"), READABLE);
    }

    #[test]
    fn every_part_is_aligned() {
        assert!(archive().len().is_multiple_of(ALIGN));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "/", "a\0b"] {
            assert!(
                Archive::new(Vec::new()).file(path, b"").is_err(),
                "{path:?}"
            );
        }
    }
}
