//! Opening a file at a path that an unprivileged user controls.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::Path,
};

use thiserror::Error;

/// The path leads to a folder, FIFO, device or socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a regular file")]
pub struct NotRegular;

/// Names a folder, for [`open_in`].
///
/// # Errors
/// As `open(2)`.
pub fn folder(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(path)
}

/// As [`open`], in a file system whose root is this folder: no link and no `..` leads out of it.
///
/// # Errors
/// As [`open`] and `openat2(2)`, which Linux has since 5.6.
pub fn open_in(root: &File, path: &Path) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a `struct open_how` of zeros asks for nothing.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the kernel reads a path that ends with a zero byte and a structure of this size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    let descriptor = i32::try_from(result).unwrap_or(-1);
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    reopened(&unsafe { File::from_raw_fd(descriptor) })
}

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
    open_named(path, libc::O_PATH)
}

/// As [`open`], but a symbolic link at the end of the path is refused as no regular file.
///
/// # Errors
/// As [`open`].
pub fn open_no_link(path: &Path) -> io::Result<File> {
    open_named(path, libc::O_PATH | libc::O_NOFOLLOW)
}

fn open_named(path: &Path, flags: i32) -> io::Result<File> {
    // Such a descriptor names the file without having opened it.
    let named = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    reopened(&named)
}

fn reopened(named: &File) -> io::Result<File> {
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
    fn nothing_leads_out_of_another_root() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write("inside", "inside");
        for (link, target) in [
            ("absolute", "/inside"),
            ("up", "../../../../../inside"),
            ("out", "/etc/passwd"),
            ("magic", "/proc/self/exe"),
        ] {
            std::os::unix::fs::symlink(target, root.path().join(link)).unwrap();
        }
        let folder = folder(root.path()).unwrap();
        let text = |name: &str| io::read_to_string(open_in(&folder, Path::new(name))?);
        for name in ["/inside", "inside", "/absolute", "/up", "/../inside"] {
            assert_eq!(text(name).unwrap(), "inside", "{name}");
        }
        for name in ["/out", "/magic", "/etc/passwd"] {
            text(name).unwrap_err();
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
