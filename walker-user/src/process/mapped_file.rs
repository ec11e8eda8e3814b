//! What is behind a mapping, as far as the kernel's record or `/proc` tells; no file is opened.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use rustc_hash::FxHashSet;

use super::{Unavailable, objects::ObjectId};
use crate::{
    capture::side_band::{Inode, Mmap},
    elf::BuildId,
};

/// What a mapping shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A file.
    File(Arc<MappedFile>),
    /// The code that the kernel gives every process.
    Vdso,
    /// Memory without a file, such as that of a JIT compiler.
    Anonymous,
    /// Something else that the kernel has a name for, such as `[uprobes]`.
    Special(Arc<[u8]>),
}

/// What is known of a mapped file. Equal ones are the same file, seen at the same path.
#[derive(Debug)]
pub struct MappedFile {
    /// Its path in the mount namespace of the process that mapped it; with ` (deleted)` at the end
    /// if it had no name any more.
    pub path: Vec<u8>,
    /// Its build ID, if the kernel told it.
    pub build_id: Option<BuildId>,
    /// Its device and inode, if the kernel told them.
    pub inode: Option<Inode>,
    /// The object that it turned out to be. No part of its identity.
    pub(super) object: OnceLock<ObjectId>,
    /// The process for which it was last not found, and why.
    failed: Mutex<Option<(u32, Unavailable)>>,
}

impl MappedFile {
    fn new(path: &[u8], build_id: Option<BuildId>, inode: Option<Inode>) -> Self {
        Self {
            path: path.to_vec(),
            build_id,
            inode,
            object: OnceLock::new(),
            failed: Mutex::new(None),
        }
    }

    /// The process for which it was last not found, and why.
    pub(super) fn failed(&self) -> MutexGuard<'_, Option<(u32, Unavailable)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path without what the kernel adds for deleted files.
    #[must_use]
    pub fn path_without_mark(&self) -> &[u8] {
        self.path.strip_suffix(b" (deleted)").unwrap_or(&self.path)
    }

    fn identity(&self) -> (&[u8], Option<BuildId>, Option<Inode>) {
        (&self.path, self.build_id, self.inode)
    }
}

impl PartialEq for MappedFile {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for MappedFile {}

impl Hash for MappedFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// The files of all mappings, each once.
#[derive(Debug, Default)]
pub struct MappedFiles {
    files: FxHashSet<Arc<MappedFile>>,
    /// How many there may be before those that nobody maps any more are looked for.
    clean_at: usize,
}

impl MappedFiles {
    /// What a mapping with this name and identity shows.
    pub fn backing(
        &mut self,
        path: &[u8],
        build_id: Option<BuildId>,
        inode: Option<Inode>,
    ) -> Backing {
        match path {
            b"" => Backing::Anonymous,
            b"[vdso]" => Backing::Vdso,
            // Two slashes are the kernel's mark for what has no path: `//anon`, but also
            // `//toolong` for a file.
            [b'/', b'/', ..] if build_id.is_none() && inode.is_none() => Backing::Anonymous,
            b"[heap]" | b"[stack]" => Backing::Anonymous,
            _ if path.starts_with(b"[anon:") => Backing::Anonymous,
            [b'/', ..] => Backing::File(self.intern(MappedFile::new(path, build_id, inode))),
            _ => Backing::Special(path.into()),
        }
    }

    /// What a record's mapping shows.
    pub fn backing_of(&mut self, mmap: &Mmap) -> Backing {
        self.backing(&mmap.path, mmap.build_id, mmap.inode)
    }

    fn intern(&mut self, file: MappedFile) -> Arc<MappedFile> {
        if let Some(known) = self.files.get(&file) {
            return Arc::clone(known);
        }
        if self.files.len() >= self.clean_at {
            self.files.retain(|file| Arc::strong_count(file) > 1);
            self.clean_at = (2 * self.files.len()).max(1024);
        }
        let file = Arc::new(file);
        self.files.insert(Arc::clone(&file));
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(number: u64) -> Option<Inode> {
        Some(Inode {
            major: 8,
            minor: 1,
            number,
        })
    }

    #[test]
    fn names_tell_what_is_mapped() {
        let mut files = MappedFiles::default();
        let mut backing = |path: &[u8]| files.backing(path, None, None);
        assert_eq!(backing(b"[vdso]"), Backing::Vdso);
        for path in ["", "//anon", "[heap]", "[stack]", "[anon:jit cache]"] {
            assert_eq!(backing(path.as_bytes()), Backing::Anonymous, "{path}");
        }
        assert!(matches!(backing(b"[uprobes]"), Backing::Special(name) if *name == *b"[uprobes]"));
        let Backing::File(file) = backing(b"/a/b (deleted)") else {
            panic!("not a file");
        };
        assert_eq!(file.path_without_mark(), b"/a/b");
        let long = files.backing(b"//toolong", None, inode(1));
        assert!(matches!(long, Backing::File(_)));
    }

    #[test]
    fn one_file_is_kept_once_while_somebody_maps_it() {
        let mut files = MappedFiles::default();
        let first = files.backing(b"/lib/x", None, inode(1));
        let Backing::File(file) = &first else {
            panic!("not a file");
        };
        assert_eq!(first, files.backing(b"/lib/x", None, inode(1)));
        assert_eq!(Arc::strong_count(file), 2);
        assert_ne!(first, files.backing(b"/lib/x", None, inode(2)));
        for number in 0..100_000 {
            files.backing(b"/tmp/temporary", None, inode(number));
        }
        assert!(files.files.len() <= 1024);
        assert!(files.files.contains(file));
    }
}
