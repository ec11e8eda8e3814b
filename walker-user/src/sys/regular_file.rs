//! Opening a file at a path that an unprivileged user controls.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::Path,
};

use thiserror::Error;

/// The path leads to a folder, FIFO, device or socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a regular file")]
pub struct NotRegular;

/// Opens a regular file for reading. Anything else is refused before it is opened, as opening a
/// FIFO waits for its other end and opening a device can do anything. Symbolic links are followed:
/// whether it is the file that is wanted is for the caller to check.
///
/// A file of a FUSE file system that the user's own program serves can still make the caller wait;
/// the kernel keeps root out of those, unless the administrator allowed `user_allow_other`.
///
/// # Errors
/// As `open(2)`, and an error that holds [`NotRegular`].
pub fn open(path: &Path) -> io::Result<File> {
    // Such a descriptor names the file without having opened it.
    let named = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)?;
    if !named.metadata()?.is_file() {
        return Err(io::Error::other(NotRegular));
    }
    // Without waiting for whoever holds a lease on the file.
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", named.as_raw_fd()))
}

/// Whether the error is that of [`open`] for what is not a regular file.
#[must_use]
pub fn is_not_regular(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<NotRegular>())
        .is_some()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_fifo_is_refused_and_does_not_make_the_caller_wait() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        for path in [&*fifo, folder.path(), Path::new("/dev/null")] {
            assert!(is_not_regular(&open(path).unwrap_err()), "{path:?}");
        }
    }

    #[test]
    fn regular_files_are_opened_also_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/self/exe", &link).unwrap();
        assert!(open(&link).unwrap().metadata().unwrap().is_file());
        let missing = open(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(!is_not_regular(&missing));
    }
}
