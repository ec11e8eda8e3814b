//! What is at the path of an output and is neither a file nor a folder: which of it is written to.
//!
//! Root often writes in a directory of another user, who can put anything at the path. So a pipe has
//! to belong to root or to who called sudo, and a device to be one that does nothing with what it
//! gets, or a terminal. How files are written is the business of [`super::output_file`] and
//! [`super::recording_file`].

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, IsTerminal as _},
    os::{
        fd::AsRawFd as _,
        linux::fs::MetadataExt as _,
        unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use super::owner;

/// `/dev/null` and `/dev/full`, as `st_rdev` (major 1; Documentation/admin-guide/devices.txt).
const SINKS: [u64; 2] = [1 << 8 | 3, 1 << 8 | 7];

/// Opens for writing what is at this path; `None` if it is a regular file, or nothing.
///
/// # Errors
/// If it is a folder, nothing that is written to, or as `open(2)`.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    // Such a descriptor names the file without having opened it.
    let named = match named(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        named => named?,
    };
    let metadata = named.metadata()?;
    if metadata.is_file() {
        return Ok(None);
    }
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let link = fs::symlink_metadata(path)?;
    let is_ours = |metadata: &Metadata| owner::is_ours(metadata.st_uid());
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if link.is_symlink() && !is_ours(&link) {
        return refuse("it is a link of another user to something that is not a file");
    }
    let kind = metadata.file_type();
    if kind.is_fifo() && !is_ours(&metadata) {
        return refuse("it is a pipe of another user");
    }
    if !kind.is_fifo() && !kind.is_char_device() {
        return refuse("it is a disk or a socket");
    }
    let again = format!("/proc/self/fd/{}", named.as_raw_fd());
    let open = |flags| {
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY | flags)
            .open(&again)
    };
    if kind.is_fifo() {
        // It would wait for a reader, silently.
        open(libc::O_NONBLOCK).map_err(|error| match error.raw_os_error() {
            Some(libc::ENXIO) => {
                io::Error::other("it is a pipe that nobody reads: start the reader first")
            }
            _ => error,
        })?;
        return open(0).map(Some);
    }
    if SINKS.contains(&metadata.st_rdev()) {
        return open(0).map(Some);
    }
    let device = open(libc::O_NONBLOCK)?;
    match device.is_terminal() {
        true => open(0).map(Some),
        false => refuse("it is a device"),
    }
}

fn named(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command, thread};

    use super::*;
    use crate::sys::privileges::is_root;

    fn fifo(path: &Path) {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    fn refusal(path: &Path) -> String {
        open(path).unwrap_err().to_string()
    }

    #[test]
    fn files_and_what_is_not_there_are_left_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.swk");
        assert!(open(&path).unwrap().is_none());
        fs::write(&path, "").unwrap();
        assert!(open(&path).unwrap().is_none());
        assert!(open(Path::new("/dev/null")).unwrap().is_some());
        assert_eq!(
            open(folder.path()).unwrap_err().kind(),
            io::ErrorKind::IsADirectory
        );
    }

    #[test]
    fn a_pipe_is_written_to_if_somebody_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        fifo(&path);
        assert!(refusal(&path).contains("start the reader first"));
        let reader = {
            thread::spawn({
                let path = path.clone();
                move || File::open(path)
            })
        };
        let opened = loop {
            // Until the reader is there.
            if let Ok(opened) = open(&path) {
                break opened;
            }
            thread::yield_now();
        };
        assert!(opened.is_some());
        reader.join().unwrap().unwrap();
    }

    #[test]
    fn what_others_put_there_is_refused() {
        if !is_root() {
            eprintln!("not tried: only root can make files of other users");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stackwalk.swk");
        fifo(&path);
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        assert!(refusal(&path).contains("pipe of another user"));
        fs::remove_file(&path).unwrap();
        symlink("/dev/null", &path).unwrap();
        assert!(open(&path).unwrap().is_some());
        std::os::unix::fs::lchown(&path, Some(65534), Some(65534)).unwrap();
        assert!(refusal(&path).contains("link of another user"));
        // A device that does something with what it gets.
        assert!(refusal(Path::new("/dev/random")).contains("a device"));
        fs::remove_file(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(refusal(&path).contains("socket"));
        drop(socket);
    }
}
