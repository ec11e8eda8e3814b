//! The file a recording is written to: checked before sampling starts, and in its place when that
//! starts, so that whatever ends the recorder leaves what was recorded.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

use super::{output_file::plain, owner, special_file};
use crate::{recording::chunk::MAGIC, sys::regular_file};

/// The extension of recordings.
const EXTENSION: &str = "swk";

/// Where a recording goes.
enum Place {
    /// A new file, which takes its name when the sampling starts.
    New(NamedTempFile, PathBuf),
    /// A device or pipe that was there.
    Existing(File, PathBuf),
    /// A file that has no name.
    Unnamed(File),
}

/// The file of a recording. It holds other programs' memory, so nobody else may read it.
pub(super) struct RecordingFile(Place);

impl RecordingFile {
    /// Whether this is the name of a recording.
    pub(super) fn is_name(path: &Path) -> bool {
        path.extension()
            .is_some_and(|extension| extension == EXTENSION)
    }

    /// Makes sure that `path` can be written: only over an older recording, unless `force`d.
    pub(super) fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        let cannot = || {
            format!(
                "cannot write `{}`; `-o FILE` writes to another place",
                path.display()
            )
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                if !force && !is_recording(path).with_context(cannot)? {
                    bail!(
                        "`{}` is there and is no recording: --force writes over it, `-o FILE` \
                         writes to another place",
                        path.display()
                    );
                }
                let old = old_name(path);
                if !force && !is_free(&old).with_context(cannot)? {
                    bail!(
                        "`{}` is there and is no recording, so that the one at `{}` cannot be kept \
                         under that name: --force writes over the latter, `-o FILE` writes to \
                         another place",
                        old.display(),
                        path.display()
                    );
                }
            }
            Ok(_) => {
                let file = special_file::open(path)
                    .and_then(|file| file.ok_or_else(|| io::ErrorKind::NotFound.into()))
                    .with_context(cannot)?;
                return Ok(Self(Place::Existing(file, path.to_owned())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(cannot),
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let file = tempfile::Builder::new()
            .prefix(".stackwalk-")
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(plain)
            .with_context(cannot)?;
        owner::give(file.as_file());
        Ok(Self(Place::New(file, path.to_owned())))
    }

    /// A file without a name.
    pub(super) fn unnamed() -> anyhow::Result<Self> {
        let file = tempfile::tempfile().with_context(|| {
            let folder = std::env::temp_dir();
            format!(
                "cannot write a temporary file in {}; TMPDIR names another folder",
                folder.display()
            )
        })?;
        Ok(Self(Place::Unnamed(file)))
    }

    /// Its path, if it has one.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match &self.0 {
            Place::New(_, path) | Place::Existing(_, path) => Some(path.clone()),
            Place::Unnamed(_) => None,
        }
    }

    /// Another handle of the same file.
    pub(super) fn file(&self) -> io::Result<File> {
        match &self.0 {
            Place::New(file, _) => file.as_file().try_clone(),
            Place::Existing(file, _) | Place::Unnamed(file) => file.try_clone(),
        }
    }

    /// Puts the file in its place. A recording that was there gets `.old` behind its name.
    pub(super) fn put_in_place(self) -> anyhow::Result<()> {
        match self.0 {
            Place::Existing(..) | Place::Unnamed(_) => Ok(()),
            Place::New(file, path) => {
                let cannot = || format!("cannot write `{}`", path.display());
                if path.is_file() && is_recording(&path).with_context(cannot)? {
                    keep_old(&path).with_context(cannot)?;
                }
                file.persist(&path)
                    .map(drop)
                    .map_err(|error| error.error)
                    .with_context(cannot)
            }
        }
    }
}

/// Gives a recording the name `….old`, unless something else has that, which only `--force` allows.
fn keep_old(path: &Path) -> io::Result<()> {
    let old = old_name(path);
    if is_free(&old)? {
        fs::rename(path, old)?;
    }
    Ok(())
}

/// The name under which an older recording is kept.
fn old_name(path: &Path) -> PathBuf {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    PathBuf::from(old)
}

/// Whether nothing is there but a still older recording.
fn is_free(old: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(old) {
        Ok(metadata) => Ok(metadata.is_file() && is_recording(old)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether what is in a file is a recording, or nothing.
fn is_recording(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    regular_file::open(path)?
        .take(MAGIC.len() as u64)
        .read_to_end(&mut begin)?;
    Ok(begin.is_empty() || begin == MAGIC)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn only_recordings_are_written_over_and_the_last_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.swk");
        for content in ["first", "second", "third"] {
            let recording = RecordingFile::create(&path, false).unwrap();
            let mut file = recording.file().unwrap();
            file.write_all(&MAGIC).unwrap();
            recording.put_in_place().unwrap();
            file.write_all(content.as_bytes()).unwrap();
        }
        let old = folder.path().join("run.swk.old");
        assert!(fs::read(&path).unwrap().ends_with(b"third"));
        assert!(fs::read(&old).unwrap().ends_with(b"second"));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );

        fs::remove_file(&old).unwrap();
        fs::create_dir(&old).unwrap();
        let error = RecordingFile::create(&path, false).err().unwrap();
        assert!(format!("{error:#}").contains("run.swk.old"), "{error:#}");
        RecordingFile::create(&path, true).unwrap();

        let other = folder.path().join("notes.swk");
        fs::write(&other, "my notes").unwrap();
        let error = RecordingFile::create(&other, false).err().unwrap();
        assert!(format!("{error:#}").contains("--force"), "{error:#}");
        let forced = RecordingFile::create(&other, true).unwrap();
        forced.put_in_place().unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"");
    }

    #[test]
    fn nothing_is_there_before_the_sampling_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.swk");
        drop(RecordingFile::create(&path, false).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = folder.path().join("none/run.swk");
        let error = RecordingFile::create(&missing, false).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("No such file or directory") && !text.contains(".stackwalk-"));
    }
}
