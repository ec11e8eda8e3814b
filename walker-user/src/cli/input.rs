//! The recording that a command reads: found, opened, its names completed, and what is missing of it
//! said once.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use walker_common::wire::WIRE_VERSION;

use super::run::complain;
use crate::{
    profile::timeline::Timeline,
    recording::{
        chunk::{ChunkReader, FileError},
        reader::{Recording, RecordingFile},
        symbols::{self, RecordedFiles},
    },
    resolve::{Addresses, Names},
    symbolize::{UserSymbols, service},
    sys::regular_file,
};

/// What is read if nothing is said.
const DEFAULT_INPUT: &str = "stackwalk.swk";

/// Which recording.
#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// The recording
    #[arg(value_name = "RECORDING", default_value = DEFAULT_INPUT)]
    recording: PathBuf,
    #[command(flatten)]
    symbols: SymbolArgs,
}

/// Where names are looked for that a recording does not hold.
#[derive(Debug, Args)]
pub(super) struct SymbolArgs {
    /// Look for the files of programs below this folder, instead of at the paths they had
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(super) symfs: PathBuf,
}

impl InputArgs {
    /// The path of the recording.
    pub(super) fn path(&self) -> &Path {
        &self.recording
    }

    /// Where the files of programs are.
    pub(super) fn symfs(&self) -> &Path {
        &self.symbols.symfs
    }

    /// Opens the recording, and says what of it is not whole.
    pub(super) fn open(&self) -> anyhow::Result<(Recording, RecordingFile)> {
        open(&self.recording)
    }

    /// Reads the recording to its named samples.
    pub(super) fn load(&self) -> anyhow::Result<Timeline> {
        load(&self.recording, &self.symbols)
    }
}

/// Reads a recording to its named samples.
pub(super) fn load(path: &Path, symbols: &SymbolArgs) -> anyhow::Result<Timeline> {
    let (mut recording, file) = open(path)?;
    drop(file);
    let unnamed = recording.unnamed();
    name(&mut recording, unnamed, &symbols.symfs)?;
    Ok(recording.timeline())
}

/// Opens a recording, and says what of it is not whole.
pub(super) fn open(path: &Path) -> anyhow::Result<(Recording, RecordingFile)> {
    let read = || {
        let mut chunks = ChunkReader::open(regular_file::open(path)?)?;
        let bar = Progress::new(chunks.len(), "reading");
        let recording = Recording::load(&mut chunks, &mut |at, _| bar.at(at))?;
        Ok((recording, RecordingFile::new(chunks)))
    };
    let (recording, file) = read().map_err(|error: FileError| explain(path, error))?;
    for line in recording.defects() {
        complain(&format!("warning  {}: {line}", path.display()));
    }
    Ok((recording, file))
}

/// Makes sure that the bytes of stacks are in a recording, and can be walked by this version.
pub(super) fn require_evidence(recording: &Recording, path: &Path) -> anyhow::Result<()> {
    let path = path.display();
    ensure!(
        recording.has_evidence(),
        "`{path}` holds walked stacks only: `stackwalk record` without --compact, into a .swk file, \
         keeps the bytes that they were walked from"
    );
    let version = recording.head.wire_version;
    ensure!(
        version == WIRE_VERSION,
        "`{path}` was recorded by {}, whose records this version cannot walk (layout {version}, not \
         {WIRE_VERSION}): use that one; everything else can be shown",
        recording.head.tool
    );
    Ok(())
}

fn explain(path: &Path, error: FileError) -> anyhow::Error {
    let what = match &error {
        FileError::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
            "; `stackwalk record` makes one"
        }
        FileError::Io(io) if regular_file::is_not_regular(io) => {
            ": a recording is read at many places, so what comes out of a pipe or device has to be \
             put into a file first"
        }
        _ => "",
    };
    anyhow!("cannot read `{}`: {error}{what}", path.display())
}

/// Names addresses that have no name in the recording.
pub(super) fn name(
    recording: &mut Recording,
    addresses: Addresses,
    symfs: &Path,
) -> anyhow::Result<()> {
    let mut found = Names::default();
    if !addresses.kernel.is_empty() {
        match symbols::name_kernel(recording, &addresses.kernel) {
            Some(names) => found.kernel = names,
            None => complain(&format!(
                "warning  {} kernel addresses have no names in the recording, and this is not the \
                 kernel that was recorded ({}) or its symbols are hidden from this user",
                addresses.kernel.len(),
                recording.head.host.kernel_release
            )),
        }
    }
    if !addresses.user.is_empty() {
        let mut symbols = UserSymbols::new(service::Config::default())
            .context("cannot start the thread that names addresses")?;
        let mut files = RecordedFiles::new(recording, symfs.to_owned());
        found.user = symbols::name_user(&mut files, &mut symbols, addresses.user);
    }
    recording.add_names(found);
    Ok(())
}

/// Shows how far long work is, on a terminal.
pub(super) struct Progress(Option<ProgressBar>);

/// Shorter work is not worth it.
const LONG: u64 = 32 << 20;

impl Progress {
    /// Work on so many bytes.
    pub(super) fn new(bytes: u64, doing: &'static str) -> Self {
        if bytes < LONG || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}") {
            bar.set_style(style);
        }
        bar.set_message(doing);
        Self(Some(bar))
    }

    /// So many of them are done.
    pub(super) fn at(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
