//! The separate debug file of an object, found by its build ID.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{BuildId, ElfError, ElfFacts};
use crate::sys::regular_file;

/// Where distributions put debug files.
pub const DEBUG_FOLDER: &str = "/usr/lib/debug";

/// Why there is no debug file.
#[derive(Debug, Error)]
pub enum DebugFileError {
    /// It cannot be opened; mostly there is none.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is no ELF file that can be used.
    #[error("{}: {error}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: ElfError,
    },
    /// It belongs to another build.
    #[error("{} has another build ID than the path says", path.display())]
    OtherBuild {
        /// The file.
        path: PathBuf,
    },
}

/// Where the debug file for a build ID is in `folder`; nowhere if the ID is too short to make a
/// path.
#[must_use]
pub fn debug_file_path(folder: &Path, id: &BuildId) -> Option<PathBuf> {
    let text = id.to_string();
    let (first, rest) = text.split_at(2);
    (!rest.is_empty()).then(|| folder.join(format!(".build-id/{first}/{rest}.debug")))
}

/// Opens the debug file for a build ID, after checking that it is of that build.
///
/// # Errors
/// If there is none or it is not what it should be.
pub fn open_debug_file(folder: &Path, id: &BuildId) -> Result<(File, ElfFacts), DebugFileError> {
    let path = debug_file_path(folder, id).unwrap_or_default();
    let file = match regular_file::open(&path) {
        Ok(file) => file,
        Err(error) => return Err(DebugFileError::Open { path, error }),
    };
    match ElfFacts::read(&file) {
        Ok(facts) if facts.build_id == Some(*id) => Ok((file, facts)),
        Ok(_) => Err(DebugFileError::OtherBuild { path }),
        Err(error) => Err(DebugFileError::Elf { path, error }),
    }
}
