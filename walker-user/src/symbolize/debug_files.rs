//! The separate files that a program's debug info is in: found by build ID or debug link where gdb
//! looks for them, the file that `dwz` moved what several have to, and those of split DWARF.
//!
//! They are looked for in the root directory of the process first, which may be a container's, then
//! in this one. Nothing is fetched from the network, and a file that does not prove to belong to the
//! program is not taken.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use super::{
    FileKey,
    elf::{self, Facts},
};
use crate::sys::regular_file;

/// A separate debug file.
#[derive(Debug)]
pub(super) struct DebugFile {
    /// The file itself.
    pub(super) file: File,
    /// Where it was found, in the root that it was found in.
    pub(super) path: PathBuf,
    /// What is known of it.
    pub(super) facts: Facts,
}

/// Where to look.
#[derive(Debug)]
pub(super) struct DebugFiles<'a> {
    /// The root directory of the process, if that is not this one's.
    pub(super) root: Option<File>,
    /// Directories with debug files, such as `/usr/lib/debug`.
    pub(super) dirs: Vec<&'a Path>,
}

impl DebugFiles<'_> {
    /// The debug file of `object`, which is known by `path` and `facts`.
    pub(super) fn of(&self, object: &File, path: &Path, facts: &Facts) -> Option<DebugFile> {
        let itself = FileKey::of(object).ok()?;
        let candidates = self.by_id(facts.build_id.as_deref()).into_iter();
        let candidates = candidates.chain(self.by_link(path, facts));
        self.first(candidates, |file, found| {
            FileKey::of(file).is_ok_and(|key| key != itself) && belongs(file, found, facts)
        })
    }

    /// The file that `dwz` moved debug info to, of a file at `path`.
    pub(super) fn shared(&self, path: &Path, facts: &Facts) -> Option<DebugFile> {
        let (name, id) = facts.shared_debug.as_ref()?;
        let name = path.parent()?.join(OsStr::from_bytes(name));
        let candidates = std::iter::once(name).chain(self.by_id(Some(id)));
        self.first(candidates, |_, found| {
            found.build_id.as_ref() == Some(id) || found.shared_id.as_ref() == Some(id)
        })
    }

    /// A file of split DWARF, which the caller compares with what it wants.
    pub(super) fn split(&self, path: &Path) -> Option<DebugFile> {
        self.first(std::iter::once(path.to_owned()), |_, _| true)
    }

    fn first(
        &self,
        candidates: impl Iterator<Item = PathBuf>,
        belongs: impl Fn(&File, &Facts) -> bool,
    ) -> Option<DebugFile> {
        candidates
            .filter(|path| path.is_absolute())
            .find_map(|path| {
                let roots = self.root.as_ref().map(Some).into_iter().chain([None]);
                roots.into_iter().find_map(|root| {
                    let file = match root {
                        Some(root) => regular_file::open_in(root, &path),
                        None => regular_file::open(&path),
                    };
                    let file = file.ok()?;
                    let facts = elf::facts(&file).ok()?;
                    belongs(&file, &facts).then(|| DebugFile {
                        file,
                        path: path.clone(),
                        facts,
                    })
                })
            })
    }

    fn by_id(&self, id: Option<&[u8]>) -> Vec<PathBuf> {
        let Some((first, rest)) = id.and_then(<[u8]>::split_first) else {
            return Vec::new();
        };
        let mut name = format!("{first:02x}/");
        for byte in rest {
            write!(name, "{byte:02x}").expect("a String takes everything");
        }
        name.push_str(".debug");
        let by_id = |dir: &&Path| dir.join(".build-id").join(&name);
        self.dirs.iter().map(by_id).collect()
    }

    fn by_link(&self, path: &Path, facts: &Facts) -> Vec<PathBuf> {
        let Some((name, dir)) = facts
            .debug_link
            .as_ref()
            .and_then(|(name, _)| Some((plain_name(OsStr::from_bytes(name))?, path.parent()?)))
        else {
            return Vec::new();
        };
        let inside = dir.strip_prefix("/").unwrap_or(dir);
        let in_dirs = { self.dirs.iter() }.map(|debug| debug.join(inside).join(name));
        [dir.join(name), dir.join(".debug").join(name)]
            .into_iter()
            .chain(in_dirs)
            .collect()
    }
}

fn belongs(file: &File, found: &Facts, wanted: &Facts) -> bool {
    match (&found.build_id, &wanted.build_id, &wanted.debug_link) {
        (Some(found), Some(wanted), _) => found == wanted,
        (_, _, Some((_, crc))) => elf::checksum(file) == Some(*crc),
        _ => false,
    }
}

/// `name` if it is a file name and no path: a debug link must not lead elsewhere.
fn plain_name(name: &OsStr) -> Option<&OsStr> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => Some(name),
        _ => None,
    }
}
