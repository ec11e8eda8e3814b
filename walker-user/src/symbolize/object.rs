//! The files whose addresses are named.
//!
//! Not what is in them: that is read by [`super::worker`].

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
};

use super::base_name;

/// A file that was mapped as code. The process that mapped it may be gone, and so may the path.
#[derive(Debug)]
pub struct Object {
    /// The file itself.
    pub file: File,
    /// Its path as the process saw it: shown, and searched for separate debug files beside it.
    pub path: PathBuf,
    /// The root directory of its process, opened with `O_PATH`, unless that is this process's own.
    pub root: Option<Arc<File>>,
}

impl Object {
    /// The base name of its path.
    #[must_use]
    pub fn name(&self) -> String {
        base_name(&self.path)
    }
}

/// Tells files apart, and versions of one file.
///
/// A build ID would not do: anyone can write a file with the build ID of another, and would then
/// choose the names that are shown for that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileKey {
    /// The key of an open file, as it is now.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }
}

impl From<&Metadata> for FileKey {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}
