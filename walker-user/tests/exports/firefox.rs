//! `output::firefox`, read by the Firefox Profiler's own code: its command line has the whole
//! profiler but the pages.

use std::{path::Path, process::Command};

use libtest_mimic::Completion;
use serde_json::Value;
use tempfile::TempDir;

use crate::tool;

const TOOL: &str = "profiler-cli";

/// A server of the tool that holds the profile; it is stopped whatever comes of the test.
struct Session<'a> {
    folder: &'a Path,
}

impl Session<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(TOOL);
        command.args(arguments);
        command.env("PROFILER_CLI_SESSION_DIR", self.folder.join("sessions"));
        command
    }

    fn ask(&self, arguments: &[&str]) -> String {
        tool::text(&mut self.command(arguments))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // Whatever is wrong has been said already.
        let _stopped = self.command(&["stop", "--all"]).output();
    }
}

/// The profile loads, which converts it to the newest version; then the threads, their functions,
/// and the markers of what is incomplete are found.
pub(crate) fn threads_and_functions(folder: &TempDir) -> Completion {
    if !tool::is_there(TOOL, "--version") {
        return Completion::ignored_with(
            "needs profiler-cli: `npm install -g @firefox-devtools/profiler-cli`",
        );
    }
    let session = Session {
        folder: folder.path(),
    };
    let file = folder.path().join("run.firefox.json");
    session.ask(&["load", file.to_str().unwrap()]);
    let info = session.ask(&["profile", "info", "--all"]);
    assert!(info.contains("3 threads across 2 processes"), "{info}");

    // Sorted by process and thread: make, cc1's main thread, its other one.
    let tree = session.ask(&["thread", "samples-top-down", "--thread", "t-1", "--json"]);
    let tree: Value = serde_json::from_str(&tree).unwrap();
    let mut functions = Vec::new();
    collect(&tree["regularCallTree"], &mut functions);
    let expected = [
        ("cc1 (deleted)!main", 33, 0),
        ("cc1 (deleted)!parse<int>", 25, 0),
        ("cc1 (deleted)!peek", 25, 20),
        ("[IRQ]", 5, 0),
        ("[kernel.kallsyms]!net_rx_action", 5, 0),
        ("[NMI]", 5, 0),
        ("[kernel.kallsyms]!nmi_handle", 5, 5),
        ("cc1 (deleted)!a__ffff forged+0x1 (b)_c", 8, 0),
        ("[kernel.kallsyms]!do_syscall_64", 8, 0),
        ("[ext4]!ext4_file_read_iter", 8, 8),
    ];
    let expected = expected.map(|(name, total, own)| (name.to_owned(), total, own));
    assert_eq!(functions, expected);

    let markers = session.ask(&["thread", "markers", "--thread", "t-0", "--list"]);
    assert_eq!(markers.matches("truncated").count(), 4, "{markers}");
    assert!(markers.contains("ring buffer full"), "{markers}");
    Completion::Completed
}

/// The functions below `node`, depth first: name, samples, samples of their own.
fn collect(node: &Value, functions: &mut Vec<(String, u64, u64)>) {
    for child in node["children"].as_array().into_iter().flatten() {
        functions.push((
            child["nameWithLibrary"].as_str().unwrap().to_owned(),
            child["totalSamples"].as_u64().unwrap(),
            child["selfSamples"].as_u64().unwrap(),
        ));
        collect(child, functions);
    }
}
