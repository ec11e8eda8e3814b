//! `cargo xtask dist`: what a package of stackwalk holds: the program, its manual pages, completions
//! for bash, zsh and fish, and what systemd needs to run it all the time.
//!
//! The pages are made by an example of walker-user, which knows the command line; xtask does not
//! depend on the program, so that it builds where the program does not.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::{process, workspace::Workspace};

/// The unit of systemd, and the file that it reads.
const SERVICE: [&str; 2] = ["stackwalk-live.service", "live.toml"];

/// Arguments of `cargo xtask dist`.
#[derive(Debug, Args)]
pub(crate) struct DistArgs {
    /// Where to write; by default `dist` in the target folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, args: &DistArgs) -> anyhow::Result<()> {
    let out = args.out.clone().unwrap_or_else(|| workspace.dist());
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let out = fs::canonicalize(&out).with_context(|| format!("cannot find {}", out.display()))?;

    let mut build = workspace.cargo();
    build.args(["build", "--release", "--locked", "--package", "walker-user"]);
    process::stream(&mut build)?;
    let program = workspace.release().join("stackwalk");
    fs::copy(&program, out.join("stackwalk"))
        .with_context(|| format!("cannot copy {} to {}", program.display(), out.display()))?;

    let mut manual = workspace.cargo();
    manual
        .args(["run", "--release", "--locked", "--package", "walker-user"])
        .args(["--example", "manual", "--"])
        .arg(&out);
    process::stream(&mut manual)?;
    let service = out.join("systemd");
    fs::create_dir_all(&service).with_context(|| format!("cannot create {}", service.display()))?;
    for name in SERVICE {
        let from = workspace.service_files().join(name);
        fs::copy(&from, service.join(name))
            .with_context(|| format!("cannot copy {} to {}", from.display(), service.display()))?;
    }
    println!(
        "{}: stackwalk, man/*.1, completions/*, systemd/*",
        workspace.shown(&out)
    );
    Ok(())
}
