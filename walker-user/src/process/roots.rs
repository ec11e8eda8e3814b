//! The root directories of processes that have one of their own, such as a container's: held open, as
//! a process may be gone when its files are wanted.
//!
//! What is in them is not looked at here.

use std::{
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use rustc_hash::FxHashMap;

use crate::sys::regular_file;

/// Most directories that are known, and may be held open.
const MAX_ROOTS: usize = 128;

/// The root directory of a process.
#[derive(Debug)]
pub struct Root {
    /// The directory, opened with `O_PATH`.
    pub folder: Arc<File>,
    /// What the kernel puts before the paths of its files for those outside of it.
    path: PathBuf,
}

impl Root {
    /// The path that the processes in it know a file by.
    #[must_use]
    pub fn inside(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix(&self.path).unwrap_or(path);
        Path::new("/").join(inside)
    }
}

/// The directories by device and inode.
#[derive(Debug, Default)]
pub(super) struct Roots(FxHashMap<(u64, u64), Weak<Root>>);

impl Roots {
    /// That of the process whose folder below `/proc` this is; `None` if it is this process's own, or
    /// cannot be opened.
    pub(super) fn of(&mut self, process: &Path) -> Option<Arc<Root>> {
        let key = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let link = process.join("root");
        let folder = regular_file::folder(&link).ok()?;
        let place = key(&folder.metadata().ok()?);
        let own = fs::metadata("/").ok()?;
        if place == key(&own) {
            return None;
        }
        if let Some(known) = self.0.get(&place).and_then(Weak::upgrade) {
            return Some(known);
        }
        if self.0.len() >= MAX_ROOTS {
            self.0.retain(|_, root| root.strong_count() > 0);
        }
        if self.0.len() >= MAX_ROOTS {
            return None;
        }
        let root = Arc::new(Root {
            folder: Arc::new(folder),
            path: fs::read_link(link).unwrap_or_default(),
        });
        self.0.insert(place, Arc::downgrade(&root));
        Some(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_roots_are_held_and_once() {
        let mut roots = Roots::default();
        assert!(roots.of(Path::new("/proc/self")).is_none());
        let process = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.path(), process.path().join("root")).unwrap();
        let first = roots.of(process.path()).unwrap();
        let second = roots.of(process.path()).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let outside = root.path().join("opt/program");
        assert_eq!(first.inside(&outside), Path::new("/opt/program"));
        let unseen = Path::new("/opt/program");
        assert_eq!(first.inside(unseen), unseen);
        assert!(roots.of(Path::new("/no/such/process")).is_none());
    }
}
