//! Telling the live tests and those of a browser from the others: which test targets the workspace
//! has.
//!
//! The live tests (test target `live` of walker-user) profile this machine, and those of target
//! `browser` measure what a browser shows, both one after the other; everything else runs in
//! parallel and anywhere. So they are run apart, and `cargo test` has no option for "all targets
//! but this one". No test is run here.

use anyhow::Context as _;
use serde::Deserialize;

use crate::{process, workspace::Workspace};

/// Name of the test target with the live tests.
pub(crate) const LIVE: &str = "live";

/// Name of the test target that shows pages in a browser.
pub(crate) const BROWSER: &str = "browser";

/// The integration tests of the workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestTargets {
    /// Whether there are live tests.
    pub(crate) live: bool,
    /// Whether there are tests of a browser.
    pub(crate) browser: bool,
    /// The names of the other test targets.
    pub(crate) others: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl TestTargets {
    /// Asks cargo.
    pub(crate) fn of(workspace: &Workspace) -> anyhow::Result<Self> {
        let json = process::output(workspace.cargo().args([
            "metadata",
            "--locked",
            "--no-deps",
            "--format-version=1",
        ]))?;
        Self::parse(&json)
    }

    fn parse(json: &str) -> anyhow::Result<Self> {
        let metadata: Metadata =
            serde_json::from_str(json).context("cannot read what `cargo metadata` printed")?;
        let mut targets = Self::default();
        for target in metadata
            .packages
            .into_iter()
            .flat_map(|package| package.targets)
        {
            if !target.kind.iter().any(|kind| kind == "test") {
                continue;
            }
            if target.name == LIVE {
                targets.live = true;
            } else if target.name == BROWSER {
                targets.browser = true;
            } else {
                targets.others.push(target.name);
            }
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_tests_are_told_from_the_others() {
        let json = r#"{ "packages": [
            { "name": "walker-user", "targets": [
                { "name": "walker_user", "kind": ["lib"] },
                { "name": "stackwalk", "kind": ["bin"] },
                { "name": "cli", "kind": ["test"] },
                { "name": "browser", "kind": ["test"] },
                { "name": "live", "kind": ["test"] } ] },
            { "name": "walker-common", "targets": [ { "name": "layout", "kind": ["test"] } ] }
        ], "version": 1 }"#;
        let targets = TestTargets::parse(json).unwrap();
        assert!(targets.live && targets.browser);
        assert_eq!(targets.others, ["cli", "layout"]);
    }

    #[test]
    fn a_workspace_may_have_none() {
        let targets = TestTargets::parse(r#"{ "packages": [] }"#).unwrap();
        assert_eq!(targets, TestTargets::default());
    }
}
