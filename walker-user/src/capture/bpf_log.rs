//! What the BPF programs log, for those who develop them (feature `bpf-log`). Not part of a normal
//! build: the committed object logs nothing.

use std::{
    io::{Write as _, stderr},
    path::PathBuf,
};

use anyhow::Context as _;
use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

/// Names the object built with `cargo xtask build-ebpf --log`.
const OBJECT: &str = "STACKWALK_BPF_OBJECT";

/// Reads the object that logs.
///
/// # Errors
/// If it is not named or cannot be read.
pub(super) fn object() -> anyhow::Result<Vec<u8>> {
    let path = std::env::var_os(OBJECT).map(PathBuf::from);
    let path = path.with_context(|| {
        format!(
            "this stackwalk was built with the feature `bpf-log`: name the object that \
             `cargo xtask build-ebpf --log` made in {OBJECT}"
        )
    })?;
    std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Starts to collect log lines.
///
/// # Errors
/// If the object does not log.
pub(super) fn start(ebpf: &mut Ebpf) -> anyhow::Result<EbpfLogger<StandardError>> {
    EbpfLogger::init_with_logger(ebpf, StandardError).context("the BPF object does not log")
}

/// Writes log lines to standard error.
#[derive(Debug)]
pub(super) struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A line that cannot be written is no reason to stop.
        let _written = writeln!(stderr(), "bpf: {}", record.args());
    }

    fn flush(&self) {}
}
