//! One object file: what is remembered of it, and its bytes.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Unavailable,
    open::{FileState, Opened},
    roots::Root,
};
use crate::{
    elf::{BuildId, ElfFacts, LoadSegment, Source},
    unwind::user::mode::Mode,
};

/// An object file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub(crate) u32);

/// A place in an object file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeAddress {
    /// The file.
    pub object: ObjectId,
    /// The link-time address there.
    pub address: u64,
}

/// The bytes of an object. A file may change while it is read.
#[derive(Debug)]
pub enum Contents {
    /// An open file.
    File(File),
    /// The vDSO.
    Memory(Arc<[u8]>),
}

impl Source for Contents {
    fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.size(),
            Self::Memory(bytes) => bytes.size(),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_at(offset, buffer),
            Self::Memory(bytes) => Source::read_at(&**bytes, offset, buffer),
        }
    }
}

/// What is remembered of an object.
#[derive(Debug)]
pub struct Object {
    pub(super) path: PathBuf,
    pub(super) root: Option<Arc<Root>>,
    pub(super) facts: Arc<ElfFacts>,
    pub(super) key: Key,
    /// Where it was found.
    pub(super) place: PathBuf,
    pub(super) contents: Option<Arc<Contents>>,
    /// The file as it was when it was last found to be the right one; `None` for the vDSO.
    pub(super) state: Option<FileState>,
    /// Why the contents are not at hand and cannot be had again.
    pub(super) lost: Option<Unavailable>,
    /// When it was last used, counted in uses.
    pub(super) used: u64,
}

impl Object {
    /// The root directory of the first process that mapped it, unless that is this process's own: a
    /// container's.
    #[must_use]
    pub fn root(&self) -> Option<&Root> {
        self.root.as_deref()
    }

    /// Its path as the first process saw it that mapped it; `[vdso]` for the vDSO.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says of itself.
    #[must_use]
    pub const fn facts(&self) -> &Arc<ElfFacts> {
        &self.facts
    }

    /// Bytes of memory that it takes, more or less, without the open file.
    pub(super) fn bytes(&self) -> usize {
        let facts = &*self.facts;
        let link = facts.debug_link.as_ref().map_or(0, |link| link.name.len());
        let loads = facts.loads.len() * size_of::<LoadSegment>();
        let names = self.path.as_os_str().len() + self.place.as_os_str().len();
        size_of::<Self>() + size_of::<ElfFacts>() + loads + link + names
    }

    /// Whether a file is still the one that it was. Its owner may write another program into it at
    /// any time after it was opened, and a compiler that runs again does.
    pub(super) fn is_still(&mut self, file: &File) -> Result<(), Unavailable> {
        let state = Some(FileState::of(&file.metadata()?));
        if self.state == state {
            return Ok(());
        }
        let facts = ElfFacts::read(file)?;
        if facts.build_id.is_none() || facts.build_id != self.facts.build_id {
            return Err(Unavailable::Replaced);
        }
        self.state = state;
        Ok(())
    }

    /// Its length in bytes, and when it was last modified, in seconds and nanoseconds since 1970;
    /// `None` for the vDSO.
    #[must_use]
    pub fn size_and_time(&self) -> Option<(u64, i64, i64)> {
        self.state.map(FileState::size_and_time)
    }

    /// Its build ID.
    #[must_use]
    pub fn build_id(&self) -> Option<BuildId> {
        self.facts.build_id
    }
}

/// What makes two files the same object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    BuildId(BuildId),
    File(FileState),
    Vdso(Mode),
}

impl Key {
    pub(super) fn of(opened: &Opened) -> Self {
        match opened.facts.build_id {
            Some(id) => Self::BuildId(id),
            None => Self::File(opened.state),
        }
    }
}
