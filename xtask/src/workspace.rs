//! Where the project's files are, and how cargo is called on them.
//!
//! Nothing here builds or decides anything.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// The project's folder and its target folder.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the project that xtask belongs to.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Asked at run time: a path compiled in would point at the tree xtask was built in, which
        // is another one when two trees share a target folder.
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => env::current_dir().context("cannot find out the current folder")?,
        };
        for dir in start.ancestors() {
            if dir.join("walker-ebpf/Cargo.toml").is_file() {
                return Ok(Self::at(dir));
            }
        }
        bail!(
            "{} is not inside stackwalk's source tree: run `cargo xtask` in it",
            start.display()
        );
    }

    /// The project whose root folder is `root`.
    pub(crate) fn at(root: &Path) -> Self {
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        Self {
            root: root.to_owned(),
            target,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where BPF builds go. A folder of its own, so that they never wait for another cargo.
    pub(crate) fn bpf_target(&self) -> PathBuf {
        self.target.join("bpf")
    }

    /// Where kernels for guests, and what is built for them, are kept.
    pub(crate) fn guest(&self) -> PathBuf {
        self.target.join("guest")
    }

    /// Where release builds are.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Where what a package holds is put.
    pub(crate) fn dist(&self) -> PathBuf {
        self.target.join("dist")
    }

    /// Where what systemd needs is.
    pub(crate) fn service_files(&self) -> PathBuf {
        self.root.join("dist")
    }

    /// The committed object.
    pub(crate) fn object(&self) -> PathBuf {
        self.root.join("walker-user/bpf/walker.bpf.o")
    }

    /// What the committed object was built from and with.
    pub(crate) fn object_record(&self) -> PathBuf {
        self.root.join("walker-user/bpf/walker.bpf.toml")
    }

    /// A file of the project as text.
    pub(crate) fn read(&self, path: &str) -> anyhow::Result<String> {
        let path = self.root.join(path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A path as it is best shown: from the project's root.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// The cargo that started xtask, to be run in the project's root.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        forget_xtask(&mut command);
        command
    }
}

/// Takes away what `cargo run` told xtask about xtask: a cargo started from here would hand it on
/// to build scripts and tests of other packages.
pub(crate) fn forget_xtask(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    // `cargo run` puts xtask's own folders into it; the tools started here need none of them.
    command.env_remove("LD_LIBRARY_PATH");
}
