//! Finds the separate file with the debug info of a stripped one, by build ID or debug link, where
//! gdb looks for it.
//!
//! Nothing is fetched from the network, and a file that does not prove to belong to the stripped
//! one is not taken.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::{File, OpenOptions},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use super::{
    FileKey,
    elf::{self, Facts},
};

/// A separate debug file.
#[derive(Debug)]
pub(super) struct DebugFile {
    /// Where it was found.
    pub(super) path: PathBuf,
    /// What is known of it.
    pub(super) facts: Facts,
}

/// The debug file of `object`, which is known by `path` and `facts`.
pub(super) fn find(
    object: &File,
    path: &Path,
    facts: &Facts,
    debug_dirs: &[&Path],
) -> Option<DebugFile> {
    let itself = FileKey::of(object).ok()?;
    candidates(path, facts, debug_dirs)
        .into_iter()
        .find_map(|path| {
            let file = open(&path)?;
            if FileKey::of(&file).ok()? == itself {
                return None;
            }
            let found = elf::facts(&file).ok()?;
            belongs(&file, &found, facts).then_some(DebugFile { path, facts: found })
        })
}

/// Opens without waiting for the other end, should it be a pipe.
fn open(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path).ok()
}

fn belongs(file: &File, found: &Facts, wanted: &Facts) -> bool {
    match (&found.build_id, &wanted.build_id, &wanted.debug_link) {
        (Some(found), Some(wanted), _) => found == wanted,
        (_, _, Some((_, crc))) => elf::checksum(file) == Some(*crc),
        _ => false,
    }
}

fn candidates(path: &Path, facts: &Facts, debug_dirs: &[&Path]) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Some((first, rest)) = facts.build_id.as_deref().and_then(<[u8]>::split_first) {
        let mut name = format!("{first:02x}/");
        for byte in rest {
            write!(name, "{byte:02x}").expect("a String takes everything");
        }
        name.push_str(".debug");
        let by_id = |dir: &&Path| dir.join(".build-id").join(&name);
        candidates.extend(debug_dirs.iter().map(by_id));
    }
    if let (Some((name, _)), Some(dir)) = (&facts.debug_link, path.parent())
        && let Some(name) = plain_name(OsStr::from_bytes(name))
        && dir.is_absolute()
    {
        candidates.push(dir.join(name));
        candidates.push(dir.join(".debug").join(name));
        let inside = dir.strip_prefix("/").unwrap_or(dir);
        candidates.extend(debug_dirs.iter().map(|debug| debug.join(inside).join(name)));
    }
    candidates
}

/// `name` if it is a file name and no path: a debug link must not lead elsewhere.
fn plain_name(name: &OsStr) -> Option<&OsStr> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => Some(name),
        _ => None,
    }
}
