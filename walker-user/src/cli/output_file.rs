//! Where results go: checked before sampling starts, written at the end, and never left behind
//! half done.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::NamedTempFile;

/// The forms a profile can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Flame-graph text.
    Folded,
    /// An interactive flame graph.
    Svg,
    /// Stacks as in an oops.
    Text,
}

impl Format {
    /// The form that a file name asks for; `-` is flame-graph text on standard output.
    fn of(path: &Path) -> anyhow::Result<Self> {
        match path.extension().and_then(OsStr::to_str) {
            Some("folded") => Ok(Self::Folded),
            Some("svg") => Ok(Self::Svg),
            Some("txt") => Ok(Self::Text),
            None if path == Path::new("-") => Ok(Self::Folded),
            _ => anyhow::bail!(
                "cannot tell the format of `{}`: name it .svg (flame graph), .folded (flame-graph \
                 text) or .txt (stacks)",
                path.display()
            ),
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
    fn at(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if path.exists() && !path.is_file() {
            return OpenOptions::new()
                .write(true)
                .open(path)
                .map(Self::Existing);
        }
        if path.exists() {
            // A file that may not be written is not to be replaced either.
            OpenOptions::new().append(true).open(path)?;
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        tempfile::Builder::new()
            .prefix(".stackwalk-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
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
    /// Makes sure that `path` can be written; `-` is standard output.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let place = Place::at(path).map_err(|error| {
            anyhow::anyhow!(
                "cannot write `{}`: {error}; `-o FILE` writes to another place",
                path.display()
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            place,
        })
    }

    /// Makes sure that `path` can be written and, unless `force`d, that nothing is lost by it: no
    /// file is there, or an empty one.
    pub(super) fn open_new(path: &Path, force: bool) -> anyhow::Result<Self> {
        let there = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0);
        anyhow::ensure!(
            force || path == Path::new("-") || !there,
            "`{}` is there: --force writes over it, `-o FILE` writes to another place",
            path.display()
        );
        Self::open(path)
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

/// A file to be written in the form that its name asks for.
pub(super) struct OutputFile {
    format: Format,
    destination: Destination,
}

impl OutputFile {
    /// Makes sure that `path` can be written.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            format: Format::of(path)?,
            destination: Destination::open(path)?,
        })
    }

    /// The form it is to be written in.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.destination.path
    }

    /// Writes it.
    pub(super) fn write(
        self,
        content: impl FnOnce(&mut BufWriter<&mut dyn Write>) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        self.destination.write(content)
    }
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
    use super::*;

    #[test]
    fn nothing_is_left_behind_unless_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.svg");
        drop(OutputFile::create(&path).unwrap());
        let failed = OutputFile::create(&path).unwrap();
        failed.write(|_| Err(io::Error::other("no"))).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let written = OutputFile::create(&path).unwrap();
        written.write(|out| out.write_all(b"whole")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_kept_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        fs::write(&path, "").unwrap();
        drop(Destination::open_new(&path, false).unwrap());
        fs::write(&path, "mine").unwrap();
        let error = Destination::open_new(&path, false).err().unwrap();
        assert!(format!("{error:#}").contains("--force"), "{error:#}");
        let forced = Destination::open_new(&path, true).unwrap();
        assert!(!forced.is_terminal());
        forced.write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn the_extension_decides() {
        let format = |name: &str| Format::of(Path::new(name)).ok();
        assert_eq!(format("a.b.svg"), Some(Format::Svg));
        assert_eq!(format("a.folded"), Some(Format::Folded));
        assert_eq!(format("a.txt"), Some(Format::Text));
        assert_eq!(format("-"), Some(Format::Folded));
        assert_eq!(format("a"), None);
        assert_eq!(format("a.png"), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_at_once() {
        let error = OutputFile::create(Path::new("/no/such/folder/run.svg"))
            .err()
            .unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("/no/such/folder/run.svg"), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
        assert!(!text.contains(".stackwalk-"), "{text}");
    }
}
