//! Where results go: checked before sampling starts, written at the end, and never left behind
//! half done.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter, IsTerminal as _, Read as _, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use super::{owner, special_file};
use crate::{ci::set::MAGIC as SET, recording::chunk::MAGIC, sys::regular_file};

/// Who may read an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Whom the user's mask lets.
    All,
    /// Only its owner: it holds addresses of the kernel, which are a secret.
    Owner,
}

impl Readers {
    const fn mode(self) -> u32 {
        match self {
            Self::All => 0o666,
            Self::Owner => 0o600,
        }
    }
}

enum Place {
    /// A new file that takes its name when it is whole.
    New(NamedTempFile),
    /// A device or pipe that was there.
    Existing(File),
    StandardOutput,
}

impl Place {
    fn at(path: &Path, readers: Readers) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        if let Some(special) = special_file::open(path)? {
            return Ok(Self::Existing(special));
        }
        // A file that may not be written is not to be replaced either.
        match OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
        {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        tempfile::Builder::new()
            .prefix(".stackwalk-")
            .permissions(Permissions::from_mode(readers.mode()))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .inspect(|file| owner::give(file.as_file()))
            .map(Self::New)
            .map_err(plain)
    }
}

/// A file to be written.
pub(super) struct Destination {
    path: PathBuf,
    place: Place,
}

impl Destination {
    /// Makes sure that `path` can be written; `-` is standard output. Only a file that stackwalk wrote
    /// is written over, unless `force`d.
    pub(super) fn open(path: &Path, force: bool, readers: Readers) -> anyhow::Result<Self> {
        let cannot = |error: io::Error| {
            anyhow::anyhow!(
                "cannot write `{}`: {error}; `-o FILE` writes to another place",
                path.display()
            )
        };
        let place = Place::at(path, readers).map_err(cannot)?;
        let over = matches!(place, Place::New(_)) && path.is_file();
        anyhow::ensure!(
            force || !over || is_own(path).map_err(cannot)?,
            "`{}` is there, and not known to be stackwalk's: --force writes over it, `-o FILE` writes \
             to another place",
            path.display()
        );
        Ok(Self {
            path: path.to_owned(),
            place,
        })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        match &self.place {
            Place::StandardOutput => io::stdout().is_terminal(),
            Place::Existing(file) => file.is_terminal(),
            Place::New(_) => false,
        }
    }

    /// Writes it.
    pub(super) fn write(
        self,
        content: impl FnOnce(&mut BufWriter<&mut dyn Write>) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let Self { path, place } = self;
        let fill = |out: &mut dyn Write| {
            let mut out = BufWriter::new(out);
            content(&mut out)?;
            out.flush()
        };
        let result = match place {
            Place::StandardOutput => fill(&mut io::stdout().lock()),
            Place::Existing(mut file) => fill(&mut file),
            Place::New(mut file) => fill(file.as_file_mut())
                .and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error)),
        };
        result.with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// How much of a file tells whether it is stackwalk's own.
const LOOKED_AT: u64 = 4096;

/// Whether a file is empty, or one that stackwalk wrote: a recording, or a picture or list that says
/// so at its beginning. Flame-graph text does not say who wrote it.
pub(super) fn is_own(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    regular_file::open(path)?
        .take(LOOKED_AT)
        .read_to_end(&mut begin)?;
    let has = |mark: &str| {
        begin
            .windows(mark.len())
            .any(|bytes| bytes == mark.as_bytes())
    };
    Ok(begin.is_empty()
        || begin.starts_with(&MAGIC)
        || begin.starts_with(SET)
        || begin.starts_with(b"stackwalk record ")
        || (begin.starts_with(b"<svg")
            && (has("<title>stackwalk record ") || has("<title>Changes ")))
        || begin.starts_with(b"stackwalk ci ")
        || begin.starts_with(b"<!-- stackwalk ci ")
        || (begin.starts_with(b"<?xml") && has("\"stackwalk ci compare\""))
        || (begin.starts_with(b"<!DOCTYPE html>") && has("content=\"stackwalk\""))
        || (begin.starts_with(b"{") && has("\"stackwalk")))
}

/// The system's reason without the path of the temporary file, which would only confuse. tempfile
/// puts it behind the reason and has no other way to the reason alone.
pub(super) fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((reason, _)) => io::Error::new(error.kind(), reason),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::format::Format;

    #[test]
    fn nothing_is_left_behind_unless_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.svg");
        drop(Destination::open(&path, false, Readers::All).unwrap());
        let failed = Destination::open(&path, false, Readers::All).unwrap();
        failed.write(|_| Err(io::Error::other("no"))).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let written = Destination::open(&path, false, Readers::All).unwrap();
        written.write(|out| out.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_what_stackwalk_wrote_is_written_over_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let own = [
            "",
            "stackwalk record -a\ncpu-clock",
            "<svg xmlns=\"x\">\n<title>stackwalk record -- make</title>",
        ];
        for content in own {
            fs::write(&path, content).unwrap();
            drop(Destination::open(&path, false, Readers::All).unwrap());
        }
        for content in ["mine", "<svg><title>my own</title>", "a;b 3\n"] {
            fs::write(&path, content).unwrap();
            let error = Destination::open(&path, false, Readers::All).err().unwrap();
            assert!(format!("{error:#}").contains("--force"), "{error:#}");
            assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
        }
        let forced = Destination::open(&path, true, Readers::All).unwrap();
        assert!(!forced.is_terminal());
        forced.write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn pictures_and_pages_are_known_as_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut timeline = crate::profile::fixture::timeline();
        timeline.profile.meta.title = "stackwalk record -a".to_owned();
        for (format, known) in [
            (Format::Svg, true),
            (Format::Html, true),
            (Format::Txt, true),
            (Format::Json, true),
            (Format::Speedscope, true),
            (Format::Firefox, true),
            (Format::Folded, false),
        ] {
            let path = folder.path().join("file");
            let mut out = File::create(&path).unwrap();
            format.write(&timeline, true, &mut out).unwrap();
            assert_eq!(is_own(&path).unwrap(), known, "{format:?}");
        }
    }

    #[test]
    fn who_may_read_it_depends_on_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        for (readers, others) in [(Readers::All, true), (Readers::Owner, false)] {
            let path = folder.path().join(format!("{readers:?}"));
            let destination = Destination::open(&path, false, readers).unwrap();
            destination.write(|out| out.write_all(b"x")).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o044 != 0, others, "{mode:o}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_once() {
        let error = Destination::open(Path::new("/no/such/folder/run.svg"), false, Readers::All)
            .err()
            .unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("/no/such/folder/run.svg"), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
        assert!(!text.contains(".stackwalk-"), "{text}");
    }
}
