//! Finding and opening the perf map of a process.
//!
//! The file is in a directory that everyone can write to, and this process may be root: only a
//! plain file is opened, without following a link and without waiting, and only if it belongs to
//! the user whose process it describes, or to root.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{MAX_BYTES, PerfMap, parse};

/// Why there is no perf map for a process.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process is gone, or what `/proc` says of it is incomplete.
    #[error("process {pid} cannot be looked at")]
    NoProcess {
        /// Its ID.
        pid: u32,
    },
    /// There is no file that could be opened.
    #[error("cannot open {path}: {source}", path = path.display())]
    Open {
        /// The last file that was tried.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a pipe or the like.
    #[error("{path} is no regular file", path = path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It could have been written by anyone to name another user's code.
    #[error("{path} belongs to user {owner}, process {pid} to user {user}", path = path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// The process it claims to describe.
        pid: u32,
        /// Who owns that.
        user: u32,
    },
}

/// An open perf map. It can be read, and read again, when its process is long gone.
#[derive(Debug)]
pub struct PerfMapFile {
    file: File,
}

impl PerfMapFile {
    /// Another handle of the same file.
    ///
    /// # Errors
    /// If there can be no more open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { file })
    }

    /// Opens the perf map of a process that still exists.
    ///
    /// # Errors
    /// If it has none, or one that must not be trusted.
    pub fn open(pid: u32) -> Result<Self, OpenError> {
        Self::open_in(Path::new("/proc"), Path::new("/tmp"), pid)
    }

    /// As [`PerfMapFile::open`], with other directories than `/proc` and `/tmp`.
    fn open_in(proc: &Path, tmp: &Path, pid: u32) -> Result<Self, OpenError> {
        let process = proc.join(pid.to_string());
        let no_process = |_| OpenError::NoProcess { pid };
        let status = fs::read_to_string(process.join("status")).map_err(no_process)?;
        let user = number(&status, "Uid:", |numbers| numbers.nth(1));
        let user = user.ok_or(OpenError::NoProcess { pid })?;
        let inner = number(&status, "NSpid:", |numbers| numbers.last()).unwrap_or(pid);

        // A process in a container has its own `/tmp`, and another ID there.
        let own = process.join(format!("root/tmp/perf-{inner}.map"));
        let file = open(&own).or_else(|_| open(&tmp.join(format!("perf-{pid}.map"))));
        let (path, file) = file?;
        let metadata = file.metadata().map_err(|source| OpenError::Open {
            path: path.clone(),
            source,
        })?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile { path });
        }
        let owner = metadata.uid();
        if owner != 0 && owner != user {
            return Err(OpenError::Owner {
                path,
                owner,
                pid,
                user,
            });
        }
        Ok(Self { file })
    }

    /// Reads what is there now.
    ///
    /// # Errors
    /// As `read(2)`.
    pub fn read(&self) -> io::Result<PerfMap> {
        let mut file = &self.file;
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(MAX_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(parse(&bytes))
    }
}

/// One of the numbers in a line of `/proc/PID/status`.
fn number(
    status: &str,
    name: &str,
    pick: impl FnOnce(&mut dyn Iterator<Item = u32>) -> Option<u32>,
) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let words = line.split_ascii_whitespace();
    pick(&mut words.map_while(|word| word.parse().ok()))
}

fn open(path: &Path) -> Result<(PathBuf, File), OpenError> {
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    match options.open(path) {
        Ok(file) => Ok((path.to_owned(), file)),
        Err(source) => Err(OpenError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
