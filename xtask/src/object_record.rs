//! `walker.bpf.toml`: what the committed BPF object was built from and with.
//!
//! Reads, writes and compares the record; it builds nothing.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::toolchain::Versions;

/// The record that lies beside the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectRecord {
    /// SHA-256 of the object.
    pub(crate) object_sha256: String,
    /// SHA-256 over its sources, see `sources`.
    pub(crate) sources_sha256: String,
    /// What it was built with.
    pub(crate) toolchain: Versions,
}

impl ObjectRecord {
    /// Reads the record.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {}: build the object with `cargo xtask build-ebpf`",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| {
            format!(
                "{} is not a record of the BPF object: write it anew with `cargo xtask build-ebpf`",
                path.display()
            )
        })
    }

    /// Writes the record.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        fs::write(path, self.text()?).with_context(|| format!("cannot write {}", path.display()))
    }

    fn text(&self) -> anyhow::Result<String> {
        let fields = toml::to_string(self).context("cannot make TOML of the object's record")?;
        Ok(format!(
            "# What walker.bpf.o was built from and with. Written by `cargo xtask build-ebpf`.\n{fields}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let record = ObjectRecord {
            object_sha256: "aa".to_owned(),
            sources_sha256: "bb".to_owned(),
            toolchain: Versions {
                rustc: "1.96.0 (ac68faa20 2026-05-25)".to_owned(),
                rustc_llvm: "22.1.8".to_owned(),
                bpf_linker: "0.13.0".to_owned(),
                bpf_linker_llvm: "22.1.8".to_owned(),
                objcopy: "22.1.8".to_owned(),
            },
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("walker.bpf.toml");
        record.write(&path).unwrap();
        assert_eq!(ObjectRecord::read(&path).unwrap(), record);
    }

    #[test]
    fn a_missing_record_says_what_to_do() {
        let error = ObjectRecord::read(Path::new("/nowhere/walker.bpf.toml")).unwrap_err();
        assert!(error.to_string().contains("cargo xtask build-ebpf"));
    }
}
