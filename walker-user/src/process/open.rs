//! Finding and opening the file behind a mapping, and checking that it is the one.

use std::{
    ffi::OsStr,
    fmt,
    fs::{File, Metadata},
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{address_space::Mapping, mapped_file::MappedFile};
use crate::{
    capture::side_band::Inode,
    elf::{ElfError, ElfFacts},
    sys::{regular_file, threads::living_thread},
};

/// Why the file behind a mapping is not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unavailable {
    /// There is no file, but memory that a program filled itself.
    Anonymous,
    /// There is no file, but something of the kernel.
    Special,
    /// The vDSO is neither that of 64-bit processes nor that of 32-bit ones.
    OtherVdso,
    /// Nothing is at the path any more, and the process is gone.
    Gone,
    /// It cannot be opened for another reason.
    Denied,
    /// What is at the path is no regular file.
    NotRegular,
    /// What is at the path is another file.
    Replaced,
    /// It is found by its path only, and the kernel told nothing that it can be checked by.
    Unidentified,
    /// It cannot be understood; the text says why.
    Elf(&'static str),
    /// The address is in no part of the file that is loaded.
    NotLoaded,
    /// There are too many files to remember one more.
    TooMany,
}

impl Unavailable {
    /// A few words for a summary.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Anonymous => "memory without a file",
            Self::Special => "memory of the kernel without a file",
            Self::OtherVdso => "not the vDSO that the kernel gives programs",
            Self::Gone => "file is gone",
            Self::Denied => "file cannot be opened",
            Self::NotRegular => "not a regular file",
            Self::Replaced => "file was replaced",
            Self::Unidentified => "file cannot be told from others at its path",
            Self::Elf(reason) => reason,
            Self::NotLoaded => "address is in no loaded part of its file",
            Self::TooMany => "too many files",
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl From<ElfError> for Unavailable {
    fn from(error: ElfError) -> Self {
        Self::Elf(error.reason())
    }
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            _ if regular_file::is_not_regular(&error) => Self::NotRegular,
            // The last is what a process that is gone answers.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone,
            _ if error.raw_os_error() == Some(libc::ESRCH) => Self::Gone,
            _ => Self::Denied,
        }
    }
}

/// What tells one state of a file from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileState {
    /// What of it holds on any machine that the file was copied to with its time.
    pub(super) const fn size_and_time(self) -> (u64, i64, i64) {
        (self.size, self.modified.0, self.modified.1)
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// An opened file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) facts: ElfFacts,
    pub(super) state: FileState,
    /// Where it was found.
    pub(super) place: PathBuf,
}

impl Opened {
    /// Opens what is at `place`, whatever file it is.
    pub(super) fn at(place: PathBuf) -> Result<Self, Unavailable> {
        let file = regular_file::open(&place)?;
        let metadata = file.metadata()?;
        let facts = ElfFacts::read(&file)?;
        Ok(Self {
            file,
            facts,
            state: FileState::of(&metadata),
            place,
        })
    }

    /// Whether it can be the file with this inode.
    fn has(&self, inode: Inode) -> bool {
        self.state.inode == inode.number && self.is_on_device_of(inode)
    }

    fn is_on_device_of(&self, inode: Inode) -> bool {
        self.state.device == libc::makedev(inode.major, inode.minor)
    }
}

/// Opens the file of a mapping of a process, which may have ended. `proc` is where `/proc` is.
pub(super) fn open(
    proc: &Path,
    pid: u32,
    mapping: &Mapping,
    file: &MappedFile,
) -> Result<Opened, Unavailable> {
    // A main thread that has ended has no mappings and no root folder while others go on.
    let task = living_thread(proc, pid).unwrap_or(pid);
    let process = proc.join(task.to_string());
    let (start, end) = (mapping.start, mapping.end);
    // The kernel's own link to the file: right in every mount namespace, and without a name too.
    let link = process.join(format!("map_files/{start:x}-{end:x}"));
    let mut failure = match Opened::at(link) {
        Ok(opened) if is_linked(&opened, file) => return Ok(opened),
        Ok(_) => Unavailable::Replaced,
        // This is the file, and nothing is to be gained from looking for it elsewhere.
        Err(reason @ (Unavailable::Elf(_) | Unavailable::NotRegular)) => return Err(reason),
        Err(reason) => reason,
    };
    for path in paths(file) {
        let in_process = process.join("root").join(path);
        let here = Path::new("/").join(path);
        for place in [in_process, here] {
            match Opened::at(place) {
                Ok(opened) => match check(&opened, file) {
                    Ok(()) => return Ok(opened),
                    Err(reason) => failure = reason,
                },
                // That there is nothing says less than what was found at another place.
                Err(Unavailable::Gone) => {}
                Err(reason) if failure == Unavailable::Gone => failure = reason,
                Err(_) => {}
            }
        }
    }
    Err(failure)
}

/// The paths to look at, without the slash at their start: as it is, and without the mark of a
/// deleted file, as the same build may be there again.
fn paths(file: &MappedFile) -> impl Iterator<Item = &Path> {
    let whole = &*file.path;
    let unmarked = file.path_without_mark();
    let unmarked = (unmarked.len() < whole.len()).then_some(unmarked);
    [Some(whole), unmarked]
        .into_iter()
        .flatten()
        .filter_map(|path| path.strip_prefix(b"/"))
        .filter(|path| !path.is_empty() && !path.starts_with(b"/"))
        .map(|path| Path::new(OsStr::from_bytes(path)))
}

/// Whether the file behind the kernel's link is the one that was mapped, and not one that was
/// mapped at the same addresses later.
fn is_linked(opened: &Opened, file: &MappedFile) -> bool {
    match (file.build_id, file.inode) {
        (Some(id), _) => opened.facts.build_id == Some(id),
        // Stacked file systems show a file on another device than they map it from. The numbers
        // then say nothing, and the link is believed.
        (None, Some(inode)) => opened.has(inode) || !opened.is_on_device_of(inode),
        (None, None) => true,
    }
}

/// Whether a file that was found by its path is the one.
fn check(opened: &Opened, file: &MappedFile) -> Result<(), Unavailable> {
    let same = match (file.build_id, file.inode) {
        (Some(id), _) => opened.facts.build_id == Some(id),
        (None, Some(inode)) => opened.has(inode),
        (None, None) => return Err(Unavailable::Unidentified),
    };
    same.then_some(()).ok_or(Unavailable::Replaced)
}
