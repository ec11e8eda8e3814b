//! Debian packages: finding the newest of a kind, fetching it, unpacking it. Nothing is installed.
//!
//! The system's own package lists are used where they have what is wanted. For another
//! architecture, and where they are empty, lists are fetched into a folder of our own, so that the
//! system's configuration stays as it is. Which package is wanted is `kernel`'s and `initramfs`'s
//! business.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, anyhow};

use crate::process;

/// What the packages are got with.
const NEEDS: &str = "kernels and busybox come from Debian's packages, which needs apt and dpkg";

/// A Debian architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    Amd64,
    I386,
}

impl Arch {
    /// The name that Debian has for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::I386 => "i386",
        }
    }
}

/// Where packages come from.
#[derive(Debug)]
pub(crate) struct Debian {
    arch: Arch,
    /// Where our own lists are and packages are unpacked.
    folder: PathBuf,
}

impl Debian {
    /// The packages of an architecture, kept in `folder`.
    pub(crate) fn new(arch: Arch, folder: &Path) -> Self {
        Self {
            arch,
            folder: folder.to_owned(),
        }
    }

    /// The folder with the unpacked package whose name `wanted` accepts: one that is here already,
    /// or the newest that there is. `pattern` is the regular expression for apt that all such
    /// names match.
    ///
    /// # Errors
    /// If there is none, or it cannot be fetched or unpacked.
    pub(crate) fn unpacked(
        &self,
        pattern: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<PathBuf> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if wanted(&entry.file_name().to_string_lossy()) {
                return Ok(entry.path());
            }
        }
        let newest = |own_lists| -> anyhow::Result<Option<String>> {
            let names = self.names(pattern, own_lists)?;
            Ok(newest(names.into_iter().filter(|name| wanted(name))))
        };
        // What the system has of another architecture is not usually asked for.
        if self.arch == Arch::Amd64
            && let Some(name) = newest(false)?
        {
            return self.fetch(&name, false);
        }
        // A mirror that lacks one list fails as a whole; what matters is whether it is found then.
        let updated = self.update();
        match newest(true)? {
            Some(name) => self.fetch(&name, true),
            None => Err(updated.err().unwrap_or_else(|| {
                anyhow!("this system's package sources have no package {pattern}")
            })),
        }
    }

    /// Unpacks a package file into a folder of this name here.
    ///
    /// # Errors
    /// If dpkg cannot.
    pub(crate) fn unpack(&self, package: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let unpacked = self.folder.join(name);
        // Into another name first: a folder that is there is whole.
        let part = self.folder.join(format!("{name}.part"));
        for folder in [&part, &unpacked] {
            if folder.exists() {
                fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        let mut dpkg = Command::new("dpkg-deb");
        process::output(dpkg.arg("-x").arg(package).arg(&part)).context(NEEDS)?;
        fs::rename(&part, &unpacked)
            .with_context(|| format!("cannot name {}", unpacked.display()))?;
        Ok(unpacked)
    }

    fn fetch(&self, name: &str, own_lists: bool) -> anyhow::Result<PathBuf> {
        println!("fetching {name} ({})", self.arch.name());
        let download = self.folder.join("download");
        fs::create_dir_all(&download)
            .with_context(|| format!("cannot create {}", download.display()))?;
        let mut apt = self.apt("apt-get", own_lists);
        apt.current_dir(&download).args(["download", name]);
        process::output(&mut apt).context("run `apt-get update`, then try again")?;
        let entries = fs::read_dir(&download).context("cannot see what apt has fetched")?;
        let package = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt has fetched nothing for {name}"))?;
        let unpacked = self.unpack(&package, name)?;
        fs::remove_dir_all(&download).context("cannot remove the package file")?;
        Ok(unpacked)
    }

    /// The names that match. A list that is not there has none.
    fn names(&self, pattern: &str, own_lists: bool) -> anyhow::Result<Vec<String>> {
        let mut apt = self.apt("apt-cache", own_lists);
        apt.args(["search", "--names-only", pattern]);
        let found = process::output(&mut apt).context(NEEDS)?;
        let names = found.lines().filter_map(|line| line.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    fn update(&self) -> anyhow::Result<()> {
        let state = self.state();
        for folder in ["lists/partial", "archives/partial"] {
            let folder = state.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(state.join("status"), "").context("cannot write apt's state")?;
        println!("fetching the package lists of {}", self.arch.name());
        process::output(self.apt("apt-get", true).arg("update")).map(drop)
    }

    fn state(&self) -> PathBuf {
        self.folder.join(format!("apt-{}", self.arch.name()))
    }

    fn apt(&self, program: &str, own_lists: bool) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        if own_lists {
            let state = self.state();
            let arch = self.arch.name();
            for option in [
                format!("Dir::State={}", state.display()),
                format!("Dir::State::status={}", state.join("status").display()),
                format!("Dir::Cache={}", state.display()),
                format!("APT::Architecture={arch}"),
                format!("APT::Architectures={arch}"),
            ] {
                command.args(["-o", &option]);
            }
        }
        command
    }
}

/// The name with the highest numbers in it.
fn newest(names: impl Iterator<Item = String>) -> Option<String> {
    names.max_by(|one, other| by_numbers(one, other))
}

/// Compares names with their numbers as numbers.
fn by_numbers(one: &str, other: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|char: char| !char.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect()
    };
    numbers(one)
        .cmp(&numbers(other))
        // Of two builds of the same, the plain name.
        .then_with(|| other.len().cmp(&one.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_that_with_the_highest_numbers() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64-unsigned",
            "linux-image-6.1.0-47-cloud-amd64",
        ];
        for names in [names.to_vec(), names.iter().rev().copied().collect()] {
            assert_eq!(
                newest(names.into_iter().map(str::to_owned)).as_deref(),
                Some("linux-image-6.1.0-50-cloud-amd64")
            );
        }
        assert_eq!(newest(std::iter::empty()), None);
    }

    #[test]
    fn what_is_here_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("busybox-static")).unwrap();
        let debian = Debian::new(Arch::Amd64, folder.path());
        let found = debian.unpacked("^no such package$", |name| name == "busybox-static");
        assert_eq!(found.unwrap(), folder.path().join("busybox-static"));
    }

    #[test]
    fn another_architecture_has_lists_of_its_own() {
        let debian = Debian::new(Arch::I386, Path::new("/cache"));
        let own = process::shown(&debian.apt("apt-get", true));
        assert!(own.contains("Dir::State=/cache/apt-i386"), "{own}");
        assert!(own.contains("APT::Architectures=i386"), "{own}");
        assert_eq!(process::shown(&debian.apt("apt-get", false)), "apt-get");
    }
}
