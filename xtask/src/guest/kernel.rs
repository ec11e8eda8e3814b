//! Which kernel a guest runs: one of Debian's by its version, a package file, or an image.
//!
//! Fetching packages is `debian`'s business, starting the kernel `machine`'s.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail};

use super::debian::{Arch, Debian};

/// The flavour that is meant where none is named: small, and with all that a guest needs.
const FLAVOUR: &str = "cloud-amd64";

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The newest of Debian's packages of a version and flavour.
    Debian { version: String, flavour: String },
    /// A package or an image.
    File(PathBuf),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (version, flavour) = text.split_once('-').unwrap_or((text, FLAVOUR));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let is_version = version
            .split_once('.')
            .is_some_and(|(major, minor)| is_number(major) && is_number(minor));
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if is_version && !flavour.is_empty() && flavour.bytes().all(is_word) {
            return Ok(Self::Debian {
                version: version.to_owned(),
                flavour: flavour.to_owned(),
            });
        }
        let path = PathBuf::from(text);
        if path.is_file() {
            return Ok(Self::File(path));
        }
        Err(format!(
            "{text} is neither a version of Debian's kernels, such as 6.12 or 6.1-686-pae, nor a \
             package or kernel image that is there"
        ))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { version, flavour } if flavour == FLAVOUR => formatter.write_str(version),
            Self::Debian { version, flavour } => write!(formatter, "{version}-{flavour}"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// A kernel that can be started.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The image, a bzImage.
    pub(crate) image: PathBuf,
    /// Which processors it is for.
    pub(crate) arch: Arch,
    /// The folder of its modules, if that is there.
    modules: Option<PathBuf>,
}

impl Kernel {
    /// Finds a kernel; one of Debian's is fetched at most once into `cache`.
    ///
    /// # Errors
    /// If it cannot be fetched or is no kernel.
    pub(crate) fn get(choice: &Choice, cache: &Path) -> anyhow::Result<Self> {
        match choice {
            Choice::File(path) if path.extension().is_some_and(|ext| ext == "deb") => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                // dpkg unpacks packages of every architecture.
                let debian = Debian::new(Arch::Amd64, &cache.join("file"));
                Self::in_folder(&debian.unpack(path, &name)?)
            }
            Choice::File(path) => Self::at(path),
            Choice::Debian { version, flavour } => {
                let arch = match flavour {
                    flavour if flavour.ends_with("amd64") => Arch::Amd64,
                    _ => Arch::I386,
                };
                let pattern = format!("^linux-image-{}\\..*{flavour}", version.replace('.', "\\."));
                let folder = Debian::new(arch, &cache.join(arch.name()))
                    .unpacked(&pattern, |name| is_kernel(name, version, flavour))
                    .with_context(|| format!("cannot get Debian's kernel {choice}"))?;
                Self::in_folder(&folder)
            }
        }
    }

    /// The kernel in an unpacked package.
    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let entries = fs::read_dir(folder.join("boot"))
            .with_context(|| format!("{} is no kernel package", folder.display()))?;
        let image = entries
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
        let image = image.with_context(|| format!("{} holds no kernel", folder.display()))?;
        Self::at(&image.path())
    }

    fn at(image: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        let arch = arch_of(&bytes).with_context(|| format!("cannot use {}", image.display()))?;
        Ok(Self {
            image: image.to_owned(),
            arch,
            modules: modules_of(image),
        })
    }

    /// A module by its path in the kernel's sources, such as `drivers/net/dummy`; compressed ones
    /// end in `.xz`.
    pub(crate) fn module(&self, path: &str) -> Option<PathBuf> {
        let folder = self.modules.as_ref()?;
        ["ko", "ko.xz"]
            .iter()
            .map(|extension| folder.join(format!("{path}.{extension}")))
            .find(|path| path.is_file())
    }
}

/// Whether a package is a kernel of this version and flavour.
fn is_kernel(name: &str, version: &str, flavour: &str) -> bool {
    let Some(rest) = name.strip_prefix(&format!("linux-image-{version}.")) else {
        return false;
    };
    let rest = rest.strip_suffix("-unsigned").unwrap_or(rest);
    // `6.1.0-50-rt-686-pae` is of another flavour than `6.1.0-50-686-pae`.
    rest.strip_suffix(flavour)
        .and_then(|rest| rest.strip_suffix('-'))
        .is_some_and(|rest| !rest.ends_with("-rt"))
}

/// What processors an image is for, by its header (`Documentation/arch/x86/boot.rst`).
fn arch_of(image: &[u8]) -> anyhow::Result<Arch> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        bail!("it is no kernel image (a bzImage, as distributions have it in /boot)");
    }
    // `xloadflags`, bit 0: there is a 64-bit entry point.
    match image.get(0x236) {
        Some(flags) if flags & 1 == 1 => Ok(Arch::Amd64),
        Some(_) => Ok(Arch::I386),
        None => bail!("the kernel image is cut off"),
    }
}

/// `lib/modules/RELEASE/kernel` beside the folder that `vmlinuz-RELEASE` is in.
fn modules_of(image: &Path) -> Option<PathBuf> {
    let name = image.file_name()?.to_str()?;
    let release = name.strip_prefix("vmlinuz-")?;
    let root = image.parent()?.parent()?;
    let folder = root.join("lib/modules").join(release).join("kernel");
    folder.is_dir().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_files() {
        let debian = |version: &str, flavour: &str| Choice::Debian {
            version: version.to_owned(),
            flavour: flavour.to_owned(),
        };
        assert_eq!("6.12".parse(), Ok(debian("6.12", "cloud-amd64")));
        assert_eq!("6.1-686-pae".parse(), Ok(debian("6.1", "686-pae")));
        let this = std::env::current_exe().unwrap();
        assert_eq!(this.to_str().unwrap().parse(), Ok(Choice::File(this)));
        for text in ["", "6", "6.", "6.12-", "6.x", "/no/such/vmlinuz", "6.1-a/b"] {
            let error = text.parse::<Choice>().unwrap_err();
            assert!(error.contains("such as 6.12"), "{error}");
        }
    }

    #[test]
    fn a_choice_is_shown_as_it_is_given() {
        for text in ["6.12", "6.1-686-pae"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_header_says_what_processors_an_image_is_for() {
        let mut image = vec![0; 0x1000];
        assert!(arch_of(&image).is_err());
        image[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(arch_of(&image).unwrap(), Arch::I386);
        image[0x236] = 0x7f;
        assert_eq!(arch_of(&image).unwrap(), Arch::Amd64);
        for length in 0..0x237 {
            assert!(arch_of(&image[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn packages_are_told_from_those_of_other_flavours() {
        let is = |name: &str| is_kernel(name, "6.1", "686-pae");
        assert!(is("linux-image-6.1.0-50-686-pae"));
        assert!(is("linux-image-6.1.0-50-686-pae-unsigned"));
        for other in [
            "linux-image-6.1.0-50-rt-686-pae",
            "linux-image-6.1.0-50-686-pae-dbg",
            "linux-image-6.1.0-50-686-pae.part",
            "linux-image-6.12.9-686-pae",
            "linux-image-686-pae",
        ] {
            assert!(!is(other), "{other}");
        }
    }
}
