//! Finding the tools that build the BPF object, and their versions.
//!
//! Two routes lead to a compiler that can: a distribution's own (`/usr/bin/rustc` with the source
//! of exactly that version beside it), and rustup's nightly with its `rust-src` component. Both
//! need `bpf-linker` and `llvm-objcopy`. Nothing is built here; a tool that is missing becomes a
//! sentence that says what to install.

use std::{
    env,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    process,
    workspace::{Workspace, forget_xtask},
};

/// Names the bpf-linker to use, for those who have several.
const LINKER_VARIABLE: &str = "STACKWALK_BPF_LINKER";

/// The version that is known to work. `.ci/run` installs the same.
const LINKER_VERSION: &str = "0.13.0";

/// Versions of everything that has a say in the object's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versions {
    /// The compiler, with its commit.
    pub(crate) rustc: String,
    /// The compiler's LLVM.
    pub(crate) rustc_llvm: String,
    /// The linker.
    pub(crate) bpf_linker: String,
    /// The linker's LLVM, which generates the code.
    pub(crate) bpf_linker_llvm: String,
    /// The LLVM of llvm-objcopy, which strips the object.
    pub(crate) objcopy: String,
}

impl Versions {
    /// What is other than in the record, for a person.
    pub(crate) fn differences(&self, recorded: &Self) -> Vec<String> {
        [
            ("rustc", &self.rustc, &recorded.rustc),
            ("rustc's LLVM", &self.rustc_llvm, &recorded.rustc_llvm),
            ("bpf-linker", &self.bpf_linker, &recorded.bpf_linker),
            (
                "bpf-linker's LLVM",
                &self.bpf_linker_llvm,
                &recorded.bpf_linker_llvm,
            ),
            ("llvm-objcopy", &self.objcopy, &recorded.objcopy),
        ]
        .into_iter()
        .filter(|(_, here, recorded)| here != recorded)
        .map(|(tool, here, recorded)| format!("{tool} is {here} here and {recorded} in the record"))
        .collect()
    }
}

/// Where a compiler comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/usr/bin/rustc` and the source package of the same distribution.
    Distribution,
    /// rustup's nightly and its `rust-src` component.
    Rustup,
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Distribution => "the distribution's compiler",
            Self::Rustup => "rustup's nightly",
        })
    }
}

/// Tools that can build the object together.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// Where the compiler comes from.
    pub(crate) route: Route,
    /// All versions.
    pub(crate) versions: Versions,
    /// The folder of the compiler's own source.
    pub(crate) rust_source: PathBuf,
    rustc: PathBuf,
    cargo: PathBuf,
    linker: PathBuf,
    objcopy: PathBuf,
}

impl Toolchain {
    /// The cargo of this toolchain, set to use its compiler and linker and nothing else.
    pub(crate) fn cargo(&self, workspace: &Workspace) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(workspace.root());
        forget_xtask(&mut command);
        // The cargo that runs xtask is another one: what it or a person has set for that one, or
        // for every build, must not change the object.
        for (name, _) in env::vars_os() {
            let Some(text) = name.to_str() else { continue };
            let profile = text.starts_with("CARGO_PROFILE_");
            let build = text.starts_with("CARGO_BUILD_");
            let target = text.starts_with("CARGO_TARGET_BPFEL_");
            if profile || build || target {
                command.env_remove(&name);
            }
        }
        for name in [
            "CARGO",
            "CARGO_INCREMENTAL",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            command.env_remove(name);
        }
        command
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        match self.route {
            // aya-ebpf uses an unstable feature (asm_experimental_arch), as does build-std.
            Route::Distribution => command.env("RUSTC_BOOTSTRAP", "1"),
            Route::Rustup => command.env_remove("RUSTC_BOOTSTRAP"),
        };
        command
    }

    /// A call of llvm-objcopy.
    pub(crate) fn objcopy(&self) -> Command {
        let mut command = Command::new(&self.objcopy);
        forget_xtask(&mut command);
        command
    }
}

/// What was found on this machine.
#[derive(Debug)]
pub(crate) struct Found {
    /// The toolchains that can build the object, the preferred one first.
    pub(crate) usable: Vec<Toolchain>,
    /// Why the other routes cannot be taken.
    pub(crate) problems: Vec<String>,
}

impl Found {
    /// The problems as one text.
    pub(crate) fn why_not(&self) -> String {
        self.problems.join("\n  or: ")
    }
}

/// Looks for the tools of both routes.
pub(crate) fn find(workspace: &Workspace) -> Found {
    let mut found = Found {
        usable: Vec::new(),
        problems: Vec::new(),
    };
    // The distribution's first: it is the route that CI and the committed object take.
    for (route, compiler) in [
        (Route::Distribution, distribution as fn() -> _),
        (Route::Rustup, rustup),
    ] {
        match compiler().and_then(|compiler| complete(workspace, route, compiler)) {
            Ok(toolchain) => found.usable.push(toolchain),
            Err(error) => found.problems.push(format!("{route}: {error:#}")),
        }
    }
    found
}

struct Compiler {
    rustc: PathBuf,
    cargo: PathBuf,
    /// What brings the core library's source.
    source_from: &'static str,
}

fn distribution() -> anyhow::Result<Compiler> {
    let rustc = PathBuf::from("/usr/bin/rustc");
    let cargo = PathBuf::from("/usr/bin/cargo");
    ensure!(
        rustc.is_file() && cargo.is_file(),
        "no /usr/bin/rustc and /usr/bin/cargo: on Debian 12 `apt-get install rustc-web cargo-web \
         rust-web-src llvm-22-dev`"
    );
    Ok(Compiler {
        rustc,
        cargo,
        source_from: "on Debian 12 `apt-get install rust-web-src`, elsewhere the package that has \
                      the source of that rustc",
    })
}

fn rustup() -> anyhow::Result<Compiler> {
    ensure!(
        in_path(OsStr::new("rustup")).is_some(),
        "no rustup: install it from https://rustup.rs, then `rustup toolchain install nightly \
         --component rust-src`"
    );
    let which = |tool: &str| {
        process::output(Command::new("rustup").args(["which", "--toolchain", "nightly", tool]))
            .map(|path| PathBuf::from(path.trim()))
            .context("no nightly: `rustup toolchain install nightly --component rust-src`")
    };
    Ok(Compiler {
        rustc: which("rustc")?,
        cargo: which("cargo")?,
        source_from: "`rustup component add rust-src --toolchain nightly`",
    })
}

/// Adds source, linker and objcopy to a compiler, or says what is missing.
fn complete(workspace: &Workspace, route: Route, compiler: Compiler) -> anyhow::Result<Toolchain> {
    let Compiler {
        rustc,
        cargo,
        source_from,
    } = compiler;
    let version = rustc_version(&process::output(Command::new(&rustc).arg("-vV"))?)?;
    let least = minimum_rustc(workspace)?;
    ensure!(
        at_least(&version.release, &least),
        "{} is {} and stackwalk needs {least}: on Debian 12 `apt-get install rustc-web cargo-web \
         rust-web-src`, with rustup `rustup update nightly`",
        rustc.display(),
        version.release,
    );
    let rust_source = rust_source(&rustc, &version, source_from)?;
    let linker = linker(&version)?;
    let (linker_version, linker_llvm) = linker_versions(&linker)?;
    let llvm = major(&version.llvm);
    ensure!(
        major(&linker_llvm) == llvm,
        "{} has LLVM {linker_llvm} and {} has LLVM {}: the linker reads what the compiler writes, \
         so their major versions must be equal. Install a bpf-linker for it: `{}`",
        linker.display(),
        rustc.display(),
        version.llvm,
        install_linker(llvm),
    );
    let objcopy = objcopy(&rustc, llvm)?;
    let objcopy_version = llvm_version(&process::output(Command::new(&objcopy).arg("--version"))?)
        .with_context(|| format!("{} --version names no LLVM version", objcopy.display()))?;
    Ok(Toolchain {
        route,
        versions: Versions {
            rustc: version.full,
            rustc_llvm: version.llvm,
            bpf_linker: linker_version,
            bpf_linker_llvm: linker_llvm,
            objcopy: objcopy_version,
        },
        rust_source,
        rustc,
        cargo,
        linker,
        objcopy,
    })
}

/// The folder that `-Z build-std` takes the core library from.
fn rust_source(rustc: &Path, version: &RustcVersion, source_from: &str) -> anyhow::Result<PathBuf> {
    let sysroot = process::output(Command::new(rustc).args(["--print", "sysroot"]))?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    ensure!(
        source.join("library/core/Cargo.toml").is_file(),
        "{} has no source of the core library in {}: {source_from}",
        rustc.display(),
        source.display(),
    );
    // Distributions ship the whole source tree, which names its version; rustup's component has
    // no such file and is always of its compiler's version.
    if let Ok(found) = std::fs::read_to_string(source.join("src/version")) {
        let found = found.trim();
        let release = version.release.split('-').next().unwrap_or_default();
        ensure!(
            found == release,
            "{} is version {} and the source in {} is version {found}: core must be compiled by \
             its own compiler, install both from one release ({source_from})",
            rustc.display(),
            version.release,
            source.display(),
        );
    }
    Ok(source)
}

fn linker(version: &RustcVersion) -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os(LINKER_VARIABLE) {
        let path = PathBuf::from(named);
        ensure!(
            path.is_file(),
            "{LINKER_VARIABLE} is {}, which is no file: set it to a bpf-linker or unset it",
            path.display()
        );
        return Ok(path);
    }
    in_path(OsStr::new("bpf-linker"))
        .or_else(|| {
            let installed = cargo_home()?.join("bin/bpf-linker");
            installed.is_file().then_some(installed)
        })
        .with_context(|| {
            format!(
                "no bpf-linker in PATH, in cargo's bin folder or in {LINKER_VARIABLE}: `{}`",
                install_linker(major(&version.llvm))
            )
        })
}

/// The version of a bpf-linker and of the LLVM it brings or loads.
fn linker_versions(linker: &Path) -> anyhow::Result<(String, String)> {
    let failed = || {
        format!(
            "{} does not work: install it anew (is its libLLVM still there?)",
            linker.display()
        )
    };
    let version = process::output(Command::new(linker).arg("--version")).with_context(failed)?;
    let version = version.split_whitespace().last().with_context(failed)?;
    // It has no option for this, but LLVM's own command line has; it prints and exits.
    let output = env::temp_dir().join("stackwalk-llvm-version.o");
    let text = process::output(
        Command::new(linker)
            .args(["--llvm-args=--version", "-o"])
            .arg(output)
            .arg("/dev/null"),
    )
    .with_context(failed)?;
    let llvm = llvm_version(&text)
        .with_context(|| format!("{} does not tell its LLVM version", linker.display()))?;
    Ok((version.to_owned(), llvm))
}

fn install_linker(llvm: &str) -> String {
    format!(
        "apt-get install llvm-{llvm}-dev && LLVM_PREFIX=/usr/lib/llvm-{llvm} cargo install \
         bpf-linker@{LINKER_VERSION} --no-default-features --features llvm-{llvm}"
    )
}

/// llvm-objcopy: of the same LLVM if it is there, else the one in the PATH, else the compiler's.
fn objcopy(rustc: &Path, llvm: &str) -> anyhow::Result<PathBuf> {
    let versioned = format!("llvm-objcopy-{llvm}");
    for name in [versioned.as_str(), "llvm-objcopy"] {
        if let Some(path) = in_path(OsStr::new(name)) {
            return Ok(path);
        }
    }
    let tool = process::output(Command::new(rustc).args(["--print", "target-libdir"]))
        .ok()
        .and_then(|dir| Some(Path::new(dir.trim()).parent()?.join("bin/llvm-objcopy")));
    match tool {
        Some(path) if path.is_file() => Ok(path),
        _ => bail!(
            "no llvm-objcopy: `apt-get install llvm-{llvm}`, or `rustup component add llvm-tools \
             --toolchain nightly`"
        ),
    }
}

/// The first file of this name in the PATH.
fn in_path(name: &OsStr) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Where cargo keeps its registry and what it installs.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
}

#[derive(Debug, PartialEq, Eq)]
struct RustcVersion {
    /// Everything but the name, which tells two builds of one release apart.
    full: String,
    /// `1.96.0`, `1.98.0-nightly`.
    release: String,
    llvm: String,
}

/// Reads the output of `rustc -vV`.
fn rustc_version(text: &str) -> anyhow::Result<RustcVersion> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("`rustc -vV` prints no line `{name}`; it printed {text:?}"))
    };
    Ok(RustcVersion {
        full: field("rustc ")?,
        release: field("release:")?,
        llvm: field("LLVM version:")?,
    })
}

/// Finds the version in what an LLVM tool prints of itself.
fn llvm_version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("LLVM version ")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

/// The least compiler version that the workspace asks for.
fn minimum_rustc(workspace: &Workspace) -> anyhow::Result<String> {
    let manifest: toml::Table = workspace
        .read("Cargo.toml")?
        .parse()
        .context("Cargo.toml is not valid TOML")?;
    manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("package")?.get("rust-version")?.as_str())
        .map(str::to_owned)
        .context("Cargo.toml has no workspace.package.rust-version: put it back")
}

/// Whether a release is this version or a newer one, by its first two numbers.
fn at_least(release: &str, least: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        version
            .split(['.', '-'])
            .take(2)
            .map_while(|part| part.parse().ok())
            .collect()
    };
    numbers(release) >= numbers(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
        binary: rustc\ncommit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\n\
        commit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\n\
        LLVM version: 22.1.8\n";

    #[test]
    fn a_compiler_tells_its_version() {
        assert_eq!(
            rustc_version(DEBIAN).unwrap(),
            RustcVersion {
                full: "1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)".to_owned(),
                release: "1.96.0".to_owned(),
                llvm: "22.1.8".to_owned(),
            }
        );
    }

    #[test]
    fn a_compiler_without_llvm_is_refused() {
        let error = rustc_version("rustc 1.96.0\nrelease: 1.96.0\n").unwrap_err();
        assert!(error.to_string().contains("LLVM version:"));
    }

    #[test]
    fn llvm_tools_tell_their_version() {
        for (text, version) in [
            ("Debian LLVM version 22.1.8\n  Optimized build.\n", "22.1.8"),
            (
                "llvm-objcopy, compatible with GNU objcopy\nLLVM (http://llvm.org/):\n  LLVM \
                 version 22.1.2-rust-1.95.0-stable\n",
                "22.1.2-rust-1.95.0-stable",
            ),
        ] {
            assert_eq!(llvm_version(text).as_deref(), Some(version));
        }
        assert_eq!(llvm_version("error: no such option"), None);
    }

    #[test]
    fn versions_compare_by_number() {
        for release in ["1.95.0", "1.96.0", "1.100.0", "2.0.0", "1.97.0-nightly"] {
            assert!(at_least(release, "1.95"), "{release}");
        }
        for release in ["1.63.0", "1.94.9", "1.9.0", "", "unknown"] {
            assert!(!at_least(release, "1.95"), "{release}");
        }
        assert_eq!(major("22.1.8"), "22");
    }

    #[test]
    fn differences_name_the_tool() {
        let recorded = Versions {
            rustc: "1.96.0".to_owned(),
            rustc_llvm: "22.1.8".to_owned(),
            bpf_linker: "0.13.0".to_owned(),
            bpf_linker_llvm: "22.1.8".to_owned(),
            objcopy: "22.1.8".to_owned(),
        };
        assert!(recorded.differences(&recorded).is_empty());
        let here = Versions {
            rustc: "1.97.0".to_owned(),
            ..recorded.clone()
        };
        assert_eq!(
            here.differences(&recorded),
            ["rustc is 1.97.0 here and 1.96.0 in the record"]
        );
    }
}
