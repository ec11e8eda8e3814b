//! Finding, opening and reading what a JIT compiler says of the code of a process: its perf map and
//! its jitdump file.
//!
//! The files are in directories that everyone can write to, and this process may be root: only a
//! plain file is opened, which is looked at before, and only if it belongs to the user whose process
//! it describes, or to root. A perf map is looked for again when names are made, as some compilers
//! write it when the process ends.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{MAX_BYTES, PerfMap, parse};
use crate::{
    symbolize::{
        FileKey,
        jitdump::{self, JitDump},
    },
    sys::regular_file,
};

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

/// What tells a process from all others that have its number before or after it, or that other
/// user's program which it became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The user that it runs as.
    pub user: u32,
    /// When it began, in ticks since the machine did.
    pub began: u64,
}

/// Where the perf map and the jitdump file of a process are, and what of them is open. Both can be
/// read, and read again, when the process is long gone. Clones are the same.
#[derive(Debug, Clone)]
pub struct PerfMapFile(Arc<Place>);

#[derive(Debug)]
struct Place {
    pid: u32,
    /// Its number in its own PID namespace.
    inner: u32,
    identity: Identity,
    proc: PathBuf,
    /// The `/tmp` of its own mount namespace, which is only named, not opened.
    own: Option<File>,
    tmp: PathBuf,
    map: Mutex<Option<File>>,
    dump: Mutex<Option<File>>,
}

impl PerfMapFile {
    /// Looks for the perf map of a process that still exists, and remembers where to look again if
    /// there is none yet.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(pid: u32) -> Result<Self, OpenError> {
        Self::of_in(Path::new("/proc"), Path::new("/tmp"), pid)
    }

    /// As [`PerfMapFile::of`], with other directories than `/proc` and `/tmp`.
    fn of_in(proc: &Path, tmp: &Path, pid: u32) -> Result<Self, OpenError> {
        let process = proc.join(pid.to_string());
        let (identity, status) = look_at(&process).ok_or(OpenError::NoProcess { pid })?;
        let inner = number(&status, "NSpid:", |numbers| numbers.last()).unwrap_or(pid);
        let own = regular_file::folder(&process.join("root/tmp")).ok();
        let place = Self(Arc::new(Place {
            pid,
            inner,
            identity,
            proc: proc.to_owned(),
            own,
            tmp: tmp.to_owned(),
            map: Mutex::default(),
            dump: Mutex::default(),
        }));
        // It is looked for again.
        let _may_be_missing = place.look();
        Ok(place)
    }

    /// Which process it is of.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.identity
    }

    /// The process that has the number now; `None` if there is none.
    #[must_use]
    pub fn identity_now(&self) -> Option<Identity> {
        look_at(&self.0.proc.join(self.0.pid.to_string())).map(|(identity, _)| identity)
    }

    /// Looks for the perf map again. One that is open is kept if there is no other, or if that may be
    /// of another process.
    ///
    /// # Errors
    /// If there is none, or one that must not be trusted.
    pub fn look(&self) -> Result<(), OpenError> {
        let place = &*self.0;
        let mut map = lock(&place.map);
        if map.is_some() && self.identity_now() != Some(place.identity) {
            return Ok(());
        }
        // A process in a container has its own `/tmp`, and another ID there.
        let own = place.own.as_ref().map(|own| {
            let folder = format!("/proc/self/fd/{}", own.as_raw_fd());
            PathBuf::from(folder).join(format!("perf-{}.map", place.inner))
        });
        let outer = place.tmp.join(format!("perf-{}.map", place.pid));
        let found = match own {
            // What is wrong with its own says more than that there is no other.
            Some(own) => open(&own).or_else(|error| open(&outer).map_err(|_| error)),
            None => open(&outer),
        };
        let found = found.and_then(|(path, file)| self.checked(&path, file));
        match found {
            Ok(file) => *map = Some(file),
            Err(_) if map.is_some() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the jitdump file is open.
    #[must_use]
    pub fn has_dump(&self) -> bool {
        lock(&self.0.dump).is_some()
    }

    /// Opens the jitdump file, of which the process maps a page at `start`.
    ///
    /// # Errors
    /// If it cannot be opened, or must not be trusted.
    pub fn open_dump(&self, path: &Path, (start, end): (u64, u64)) -> Result<(), OpenError> {
        let process = self.0.proc.join(self.0.pid.to_string());
        let mapped = process.join(format!("map_files/{start:x}-{end:x}"));
        let named = process
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path));
        let file = regular_file::open(&mapped).or_else(|_| regular_file::open(&named));
        let file = file.map_err(|source| OpenError::Open {
            path: path.to_owned(),
            source,
        })?;
        *lock(&self.0.dump) = Some(self.checked(path, file)?);
        Ok(())
    }

    /// A file that may be trusted.
    fn checked(&self, path: &Path, file: File) -> Result<File, OpenError> {
        let path = path.to_owned();
        let metadata = match file.metadata() {
            Ok(metadata) => metadata,
            Err(source) => return Err(OpenError::Open { path, source }),
        };
        if !metadata.is_file() {
            return Err(OpenError::NotAFile { path });
        }
        let (owner, user) = (metadata.uid(), self.0.identity.user);
        if owner != 0 && owner != user {
            return Err(OpenError::Owner {
                path,
                owner,
                pid: self.0.pid,
                user,
            });
        }
        Ok(file)
    }

    /// The state of the perf map, if it is open.
    #[must_use]
    pub fn map_state(&self) -> Option<FileKey> {
        FileKey::of(lock(&self.0.map).as_ref()?).ok()
    }

    /// The state of the jitdump file, if it is open.
    #[must_use]
    pub fn dump_state(&self) -> Option<FileKey> {
        FileKey::of(lock(&self.0.dump).as_ref()?).ok()
    }

    /// Reads what is in the perf map now.
    ///
    /// # Errors
    /// As `read(2)`, and `NotFound` if there is none.
    pub fn read(&self) -> io::Result<PerfMap> {
        let guard = lock(&self.0.map);
        let mut file = guard.as_ref().ok_or(io::ErrorKind::NotFound)?;
        // Files of the kernel that have no length would be waited for.
        let len = file.metadata()?.len().min(MAX_BYTES as u64);
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(len).read_to_end(&mut bytes)?;
        Ok(parse(&bytes))
    }

    /// Reads what is in the jitdump file now.
    ///
    /// # Errors
    /// As `read(2)`, and `NotFound` if there is none.
    pub fn read_dump(&self) -> io::Result<JitDump> {
        let guard = lock(&self.0.dump);
        let mut file = guard.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if file.metadata()?.len() == 0 {
            return Ok(JitDump::default());
        }
        file.rewind()?;
        jitdump::read(file)
    }
}

fn lock(file: &Mutex<Option<File>>) -> MutexGuard<'_, Option<File>> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which process has this folder in `/proc`, and its `status`.
fn look_at(process: &Path) -> Option<(Identity, String)> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let user = number(&status, "Uid:", |numbers| numbers.nth(1))?;
    let stat = fs::read(process.join("stat")).ok()?;
    // The name in parentheses may hold anything; the time is the 20th word behind it.
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = String::from_utf8_lossy(&stat[name_end + 1..]);
    let began = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some((Identity { user, began }, status))
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
    match regular_file::open_no_link(path) {
        Ok(file) => Ok((path.to_owned(), file)),
        Err(error) if regular_file::is_not_regular(&error) => Err(OpenError::NotAFile {
            path: path.to_owned(),
        }),
        Err(source) => Err(OpenError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
