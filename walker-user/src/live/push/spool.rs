//! A folder that keeps batches until they can be sent, also while nothing runs.
//!
//! One batch is one file, `NUMBER-FROM-UNTIL.pb.gz`, the times in milliseconds since 1970. Others
//! may have put things into the folder: what does not look like a batch is left alone, and what
//! looks like one but is none is removed and counted as dropped. Which batches are kept and which
//! not is the business of `queue`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::sys::privileges::effective_user;

/// How gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The largest batch, in bytes.
pub(super) const MAX_BATCH: u64 = 16 << 20;
/// The most batches of a folder that are looked at.
const MAX_FILES: usize = 10_000;
/// How files begin whose writer has not finished.
const UNFINISHED: &str = ".unfinished-";

/// A batch that is in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Later batches have larger ones.
    pub(super) number: u64,
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
    pub(super) size: u64,
}

/// The folder. Only one process uses it at a time.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens a folder, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let metadata = fs::metadata(path)?;
        if metadata.mode() & 0o022 != 0 {
            return Err(io::Error::other(
                "others may write to it: `chmod go-w` it after a look at what is in it",
            ));
        }
        // Whoever owns it may do anything with what is in it.
        if metadata.uid() != effective_user() {
            return Err(io::Error::other("it belongs to another user"));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another stackwalk uses it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The batches, oldest first, and how many there are besides that are too many. What was not
    /// finished is removed.
    pub(super) fn entries(&self) -> io::Result<(Vec<Entry>, Vec<Entry>)> {
        let mut entries = Vec::new();
        for found in fs::read_dir(&self.path)? {
            let found = found?;
            let name = found.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                let _removed = fs::remove_file(found.path());
            } else if let Some((number, from_ms, until_ms)) = parse(name) {
                entries.push(Entry {
                    number,
                    from_ms,
                    until_ms,
                    size: found.metadata()?.len(),
                });
            }
        }
        entries.sort_unstable();
        let kept = entries.split_off(entries.len().saturating_sub(MAX_FILES));
        Ok((kept, entries))
    }

    /// Writes a batch: wholly, or not at all.
    pub(super) fn write(&self, entry: &Entry, body: &[u8]) -> io::Result<()> {
        // Nobody else may read it.
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.path)?;
        file.write_all(body)?;
        file.persist(self.path.join(name(entry)))?;
        Ok(())
    }

    /// The bytes of a batch; an error if they cannot be those of a batch.
    pub(super) fn read(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        // A link could lead to a file of another user, whose bytes would be sent.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.path.join(name(entry)))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut body = Vec::new();
        file.take(MAX_BATCH + 1).read_to_end(&mut body)?;
        match body.starts_with(&GZIP) && body.len() as u64 <= MAX_BATCH {
            true => Ok(body),
            false => Err(io::Error::other("it is not a profile")),
        }
    }

    /// Removes a batch. One that stays, as the disk is in trouble, is sent once more by the next
    /// process.
    pub(super) fn remove(&self, entry: &Entry) {
        let _removed = fs::remove_file(self.path.join(name(entry)));
    }
}

fn name(entry: &Entry) -> String {
    let Entry {
        number,
        from_ms,
        until_ms,
        ..
    } = entry;
    format!("{number:020}-{from_ms:013}-{until_ms:013}.pb.gz")
}

/// Number, beginning and end, if that is the name of a batch.
fn parse(name: &str) -> Option<(u64, u64, u64)> {
    let mut parts = name.strip_suffix(".pb.gz")?.split('-');
    let mut number = |digits| {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u64>().ok().filter(|_| is_number)
    };
    let parsed = (number(20)?, number(13)?, number(13)?);
    (parts.next().is_none() && parsed.1 <= parsed.2 && parsed.0 < u64::MAX).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_was_written_or_nothing() {
        let entry = Entry {
            number: 7,
            from_ms: 1_700_000_000_000,
            until_ms: 1_700_000_010_000,
            size: 0,
        };
        let good = name(&entry);
        assert_eq!(parse(&good), Some((7, entry.from_ms, entry.until_ms)));
        let backwards = name(&Entry {
            from_ms: entry.until_ms + 1,
            ..entry
        });
        for bad in [
            &backwards,
            "lock",
            ".pb.gz",
            &good.replace(".pb.gz", ".pb"),
            &good.replace('7', "+7"),
            &good.replacen('0', "", 1),
            &good.replace(".pb.gz", "-1.pb.gz"),
            &good.replacen("00000000000000000007", "18446744073709551615", 1),
            &good.replacen("00000000000000000007", "99999999999999999999", 1),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_one_process_has_the_folder_and_only_if_others_cannot_write_to_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/spool");
        let folder = Folder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let error = Folder::open(&path).unwrap_err();
        assert!(error.to_string().contains("another stackwalk"), "{error}");
        drop(folder);
        Folder::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Folder::open(&path).unwrap_err();
        assert!(error.to_string().contains("others may write"), "{error}");
    }
}
