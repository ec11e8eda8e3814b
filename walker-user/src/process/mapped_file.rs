//! What is behind a mapping, as far as the kernel's record or `/proc` tells; no file is opened.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use rustc_hash::FxHashSet;

use super::{Unavailable, address_space::Mapping, object::ObjectId};
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
    /// Memory without a file where the code of a file belongs, part of which this mapping shows: code
    /// that a program moved there to have it in huge pages, or something else.
    InPlaceOf(Arc<Mapping>),
    /// Something else that the kernel has a name for, such as `[uprobes]`; at most 64 bytes of it.
    Special(Arc<[u8]>),
    /// A file that there was no room to remember.
    TooMany,
}

/// The most bytes of a name that is no path.
const MAX_NAME: usize = 64;
/// The most bytes of files that are remembered.
const MAX_BYTES: usize = 128 << 20;
/// Fewer bytes of files are not worth a look for those that nobody maps any more.
const MIN_CLEANED: usize = 1 << 20;
/// How many files find no room before it is looked whether others have gone.
const PATIENCE: u32 = 4096;

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

    /// Whether its name says that it is memory or may be: without a name on any disk, or in the
    /// folder of shared memory.
    pub(super) fn is_memory(&self) -> bool {
        self.path.ends_with(b" (deleted)")
            || [&b"/dev/shm/"[..], b"/dev/zero", b"/memfd:", b"/SYSV"]
                .iter()
                .any(|start| self.path.starts_with(start))
    }

    /// Bytes of memory it takes, more or less.
    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<Arc<Self>>() + self.path.len()
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
#[derive(Debug)]
pub struct MappedFiles {
    files: FxHashSet<Arc<MappedFile>>,
    bytes: usize,
    max_bytes: usize,
    /// How many bytes there may be before files that nobody maps any more are looked for.
    clean_at: usize,
    /// How many files are refused before that is tried again at the limit.
    patience: u32,
}

impl Default for MappedFiles {
    fn default() -> Self {
        Self::with_limit(MAX_BYTES)
    }
}

impl MappedFiles {
    fn with_limit(max_bytes: usize) -> Self {
        Self {
            files: FxHashSet::default(),
            bytes: 0,
            max_bytes,
            clean_at: MIN_CLEANED.min(max_bytes),
            patience: 0,
        }
    }

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
            [b'/', ..] => self
                .intern(MappedFile::new(path, build_id, inode))
                .map_or(Backing::TooMany, Backing::File),
            _ => Backing::Special(path[..path.len().min(MAX_NAME)].into()),
        }
    }

    /// What a record's mapping shows.
    pub fn backing_of(&mut self, mmap: &Mmap) -> Backing {
        self.backing(&mmap.path, mmap.build_id, mmap.inode)
    }

    fn intern(&mut self, file: MappedFile) -> Option<Arc<MappedFile>> {
        if let Some(known) = self.files.get(&file) {
            return Some(Arc::clone(known));
        }
        let cost = file.bytes();
        if self.bytes + cost > self.clean_at {
            self.clean();
        }
        if self.bytes + cost > self.max_bytes {
            return None;
        }
        self.bytes += cost;
        let file = Arc::new(file);
        self.files.insert(Arc::clone(&file));
        Some(file)
    }

    /// Forgets the files that nobody maps any more. That looks at all of them, so it is done when
    /// there are twice as many as the last time, and rarely when there are too many.
    fn clean(&mut self) {
        if self.patience > 0 {
            self.patience -= 1;
            return;
        }
        self.files.retain(|file| Arc::strong_count(file) > 1);
        self.bytes = self.files.iter().map(|file| file.bytes()).sum();
        self.clean_at = (2 * self.bytes).clamp(MIN_CLEANED.min(self.max_bytes), self.max_bytes);
        if 2 * self.bytes >= self.max_bytes {
            self.patience = PATIENCE;
        }
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
        assert!(files.bytes <= MIN_CLEANED);
        assert!(files.files.contains(file));
    }

    #[test]
    fn files_that_are_all_mapped_are_bounded_and_make_room_when_they_go() {
        let mut files = MappedFiles::with_limit(10_000);
        let path = format!("/{:900}", "").into_bytes();
        let mut mapped: Vec<Backing> = (0..10_000)
            .map(|number| files.backing(&path, None, inode(number)))
            .collect();
        assert!(files.bytes <= 10_000);
        let kept = mapped
            .iter()
            .take_while(|backing| **backing != Backing::TooMany);
        assert_eq!(kept.count(), files.files.len());
        assert!(
            mapped[20..]
                .iter()
                .all(|backing| *backing == Backing::TooMany)
        );
        mapped.clear();
        let later = (0..=u64::from(PATIENCE))
            .map(|number| files.backing(&path, None, inode(20_000 + number)) != Backing::TooMany);
        assert!(later.last().unwrap());
    }

    #[test]
    fn names_that_are_no_paths_are_cut() {
        let name = [&b"(unreachable)"[..], &[b'/'; 4000]].concat();
        let backing = MappedFiles::default().backing(&name, None, inode(1));
        assert!(matches!(backing, Backing::Special(cut) if cut.len() == MAX_NAME));
    }
}
