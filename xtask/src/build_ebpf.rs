//! `cargo xtask build-ebpf`: builds the BPF object that is committed in `walker-user/bpf/`, or
//! checks that it belongs to the sources.
//!
//! The object is committed so that `cargo build` needs no BPF toolchain. Which tools build it is
//! found by `toolchain`; what it is built from is hashed by `sources`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{
    object_record::ObjectRecord,
    process, sources,
    toolchain::{self, Found, Route, Toolchain},
    workspace::Workspace,
};

/// Compiler flags of the object, besides the path remappings.
pub(crate) const FLAGS: [&str; 3] = [
    // Chooses aya-ebpf's register layout: the object is for the kernels of this architecture.
    r#"--cfg=bpf_target_arch="x86_64""#,
    // BTF is made from the debug information.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
];

const TARGET: &str = "bpfel-unknown-none";

/// Arguments of `cargo xtask build-ebpf`.
#[derive(Debug, Args)]
pub(crate) struct BuildEbpfArgs {
    /// Change nothing: fail if the committed object does not belong to the sources, and compare
    /// it with a fresh build if the recorded toolchain is here
    #[arg(long, conflicts_with = "log")]
    check: bool,
    /// With --check, fail also if the fresh build could not be made
    #[arg(long, requires = "check")]
    require_rebuild: bool,
    /// Build with log lines into target/bpf/walker-log.bpf.o, leaving the committed object alone
    #[arg(long)]
    log: bool,
}

/// How far a check went.
#[derive(Debug)]
pub(crate) enum Checked {
    /// A fresh build has the same bytes.
    Rebuilt,
    /// The hashes are right, but no fresh build was compared, for this reason.
    HashesOnly(String),
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, args: &BuildEbpfArgs) -> anyhow::Result<()> {
    if args.check {
        match check(workspace, args.require_rebuild)? {
            Checked::Rebuilt => println!("the BPF object belongs to its sources, byte for byte"),
            Checked::HashesOnly(_) => {
                println!("the BPF object's hashes are right; its bytes were NOT compared");
            }
        }
        return Ok(());
    }
    let found = toolchain::find(workspace);
    let toolchain = found.usable.first().with_context(|| {
        format!(
            "cannot build the BPF object, no toolchain for it is here\n  {}",
            found.why_not()
        )
    })?;
    if args.log {
        let object = workspace.bpf_target().join("walker-log.bpf.o");
        build(workspace, toolchain, &["log"], &object)?;
        println!("{} (with log lines)", workspace.shown(&object));
        return Ok(());
    }
    // Before the build: a file that is saved during it must show as a change afterwards.
    let sources_sha256 = sources::hash(workspace)?;
    let object = workspace.object();
    build(workspace, toolchain, &[], &object)?;
    let record = ObjectRecord {
        object_sha256: sources::file_hash(&object)?,
        sources_sha256,
        toolchain: toolchain.versions.clone(),
    };
    record.write(&workspace.object_record())?;
    println!(
        "{} and {}: commit both",
        workspace.shown(&object),
        workspace.shown(&workspace.object_record())
    );
    Ok(())
}

/// Checks that the committed object belongs to the sources.
pub(crate) fn check(workspace: &Workspace, require_rebuild: bool) -> anyhow::Result<Checked> {
    let object = workspace.object();
    let record = ObjectRecord::read(&workspace.object_record())?;
    let mut wrong = Vec::new();
    if sources::hash(workspace)? != record.sources_sha256 {
        wrong.push("its sources have changed since it was built");
    }
    if sources::file_hash(&object)? != record.object_sha256 {
        wrong.push("it is not the file that its record was written for");
    }
    ensure!(
        wrong.is_empty(),
        "{} is not right: {}. Run `cargo xtask build-ebpf` and commit the object and its record",
        workspace.shown(&object),
        wrong.join(", and ")
    );
    let found = toolchain::find(workspace);
    let same = found
        .usable
        .iter()
        .find(|toolchain| toolchain.versions == record.toolchain);
    if let Some(toolchain) = same {
        compare(workspace, toolchain, &object)?;
        return Ok(Checked::Rebuilt);
    }
    let reason = why_not_compared(&found, &record);
    if require_rebuild && !distribution_moved_on(&found, &record) {
        bail!("cannot compare the BPF object with a fresh build: {reason}");
    }
    eprintln!(
        "\n*** WARNING: the BPF object was NOT compared with a fresh build:\n*** {}\n*** Only the \
         hashes of the object and of its sources were checked.\n",
        reason.replace('\n', "\n*** ")
    );
    Ok(Checked::HashesOnly(reason))
}

/// Builds the object again and compares the bytes.
fn compare(workspace: &Workspace, toolchain: &Toolchain, object: &Path) -> anyhow::Result<()> {
    let fresh = workspace.bpf_target().join("walker.bpf.o");
    build(workspace, toolchain, &[], &fresh)?;
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (committed, rebuilt) = (read(object)?, read(&fresh)?);
    if committed == rebuilt {
        return Ok(());
    }
    let place = committed
        .iter()
        .zip(&rebuilt)
        .position(|(a, b)| a != b)
        .unwrap_or_else(|| committed.len().min(rebuilt.len()));
    bail!(
        "{} ({} bytes) is not what its sources give with the recorded toolchain: {} ({} bytes) \
         differs from offset {place}. Run `cargo xtask build-ebpf` and commit the object and its \
         record; if they come out as they are, the build depends on this machine, which is a \
         mistake in the path remappings",
        workspace.shown(object),
        committed.len(),
        workspace.shown(&fresh),
        rebuilt.len(),
    );
}

fn why_not_compared(found: &Found, record: &ObjectRecord) -> String {
    if found.usable.is_empty() {
        return format!("no toolchain for it is here\n  {}", found.why_not());
    }
    let differences: Vec<String> = found
        .usable
        .iter()
        .map(|toolchain| {
            let differences = toolchain.versions.differences(&record.toolchain);
            format!("{}: {}", toolchain.route, differences.join(", "))
        })
        .collect();
    format!(
        "the toolchain here is not the recorded one\n  {}",
        differences.join("\n  ")
    )
}

/// Whether the versions differ only because the distribution now has newer packages: nobody can
/// get the recorded ones then, so it must not stop a change that has nothing to do with it. The
/// version of bpf-linker is everybody's own choice.
fn distribution_moved_on(found: &Found, record: &ObjectRecord) -> bool {
    found.usable.iter().any(|toolchain| {
        toolchain.route == Route::Distribution
            && toolchain.versions.bpf_linker == record.toolchain.bpf_linker
    })
}

/// Builds the object into `object`, stripped of debug information except BTF.
fn build(
    workspace: &Workspace,
    toolchain: &Toolchain,
    features: &[&str],
    object: &Path,
) -> anyhow::Result<()> {
    let target = workspace.bpf_target();
    let versions = &toolchain.versions;
    println!(
        "building the BPF object with {} (rustc {}, bpf-linker {}, LLVM {})",
        toolchain.route, versions.rustc, versions.bpf_linker, versions.bpf_linker_llvm
    );
    let mut cargo = toolchain.cargo(workspace);
    cargo
        .args(["build", "--locked", "--profile", "bpf"])
        .args(["--package", "walker-ebpf", "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, toolchain)?);
    if !features.is_empty() {
        cargo.arg("--features").arg(features.join(","));
    }
    process::stream(&mut cargo).context("the BPF object does not build")?;
    let linked = target.join(TARGET).join("bpf/walker");
    if let Some(parent) = object.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make the folder {}", parent.display()))?;
    }
    // Not into place yet: a strip that fails must leave the committed object as it is.
    let stripped = target.join("walker.stripped.o");
    process::stream(
        toolchain
            .objcopy()
            .arg("--strip-debug")
            .arg(&linked)
            .arg(&stripped),
    )
    .context("the BPF object cannot be stripped")?;
    fs::copy(&stripped, object).with_context(|| format!("cannot write {}", object.display()))?;
    Ok(())
}

/// All compiler flags, as `CARGO_ENCODED_RUSTFLAGS` takes them.
fn flags(workspace: &Workspace, toolchain: &Toolchain) -> anyhow::Result<String> {
    let registry = toolchain::cargo_home()
        .context("neither CARGO_HOME nor HOME is set: set one, cargo needs it too")?
        .join("registry/src");
    // The line information in the object names source files. Without these it would have other
    // bytes in every folder. A later one wins, so the innermost folder comes last.
    let remapped: [(PathBuf, &str); 3] = [
        (workspace.root().to_owned(), "."),
        (registry, "/cargo"),
        (toolchain.rust_source.clone(), "/rust"),
    ];
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
    for (from, to) in remapped {
        let from = from
            .to_str()
            .with_context(|| format!("{} is not a UTF-8 path: move it", from.display()))?;
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    Ok(flags.join("\u{1f}"))
}
