//! Building the programs that run in a guest: `stackwalk` and its live tests, linked statically,
//! as a guest has no libraries.
//!
//! They have a target folder of their own: the flags differ from all other builds.

use std::{env, io, path::PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::{live::LIVE, process, workspace::Workspace};

/// Named, because only with a target named are build scripts and macros, which have to be linked
/// dynamically, built with other flags.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The built programs.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) stackwalk: PathBuf,
    pub(crate) live: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Binaries {
    /// Builds them, or finds that they are built.
    ///
    /// # Errors
    /// If they do not build.
    pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<Self> {
        let mut cargo = workspace.cargo();
        cargo
            .args(["test", "--locked", "--no-run", "--package", "walker-user"])
            .args(["--test", LIVE, "--profile", "guest", "--target", TARGET])
            .arg("--target-dir")
            .arg(workspace.guest().join("build"))
            .arg("--message-format=json-render-diagnostics")
            .env("RUSTFLAGS", static_flags(env::var("RUSTFLAGS").ok()))
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        let (mut stackwalk, mut live) = (None, None);
        let status =
            process::stream_lines(&mut cargo, &mut io::sink(), |line| match executable(line) {
                Some((kind, path)) if kind == "bin" => stackwalk = Some(path),
                Some((_, path)) => live = Some(path),
                None => {}
            })?;
        if !status.success() {
            bail!("the programs for guests do not build ({status})");
        }
        Ok(Self {
            stackwalk: stackwalk.context("cargo has built no `stackwalk`")?,
            live: live.context("cargo has built no live tests")?,
        })
    }
}

fn static_flags(before: Option<String>) -> String {
    let mut flags = before.unwrap_or_default();
    flags.push_str(" -C target-feature=+crt-static");
    flags.trim_start().to_owned()
}

/// The kind and path of a program of ours, from a line of cargo's messages.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Message = serde_json::from_str(line).ok()?;
    let target = message.target?;
    let kind = target.kind.into_iter().next()?;
    let ours = [("bin", "stackwalk"), ("test", LIVE)].contains(&(&*kind, &*target.name));
    ours.then_some((kind, message.executable?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_programs_are_found_in_the_messages() {
        let message = |name: &str, kind: &str, executable: &str| {
            executable_of(&format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"{name}"}},
                    "executable":{executable}}}"#
            ))
        };
        fn executable_of(line: &str) -> Option<(String, PathBuf)> {
            executable(line)
        }
        assert_eq!(
            message("stackwalk", "bin", r#""/t/stackwalk""#),
            Some(("bin".to_owned(), PathBuf::from("/t/stackwalk")))
        );
        assert_eq!(
            message("live", "test", r#""/t/live-1""#),
            Some(("test".to_owned(), PathBuf::from("/t/live-1")))
        );
        assert_eq!(message("walker_user", "lib", "null"), None);
        assert_eq!(message("stackwalk", "custom-build", r#""/t/build""#), None);
        assert_eq!(executable("{}"), None);
        assert_eq!(executable("test result: ok"), None);
    }

    #[test]
    fn flags_that_are_set_are_kept() {
        assert_eq!(static_flags(None), "-C target-feature=+crt-static");
        assert_eq!(
            static_flags(Some("-C opt-level=1".to_owned())),
            "-C opt-level=1 -C target-feature=+crt-static"
        );
    }
}
