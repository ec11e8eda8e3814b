//! `output::pprof`, read by `go tool pprof`.

use std::process::Command;

use libtest_mimic::Completion;
use tempfile::TempDir;

use crate::tool;

const MISSING: &str = "needs Go, for `go tool pprof`";

/// What `go tool pprof` prints of the file; `None` without Go.
fn pprof(folder: &TempDir, arguments: &[&str]) -> Option<String> {
    if !tool::is_there("go", "version") {
        return None;
    }
    let mut command = Command::new("go");
    command.args(["tool", "pprof"]).args(arguments);
    // It looks for the object files, and for a place to keep things.
    command.env("PPROF_BINARY_PATH", folder.path());
    command.env("PPROF_TMPDIR", folder.path());
    command.env("HOME", folder.path());
    command.arg(folder.path().join("run.pb.gz"));
    Some(tool::text(&mut command))
}

/// A line's words.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The functions have the shares of the recording, in samples and in time.
pub(crate) fn numbers(folder: &TempDir) -> Completion {
    let Some(top) = pprof(folder, &["-top", "-sample_index=samples", "-nodecount=99"]) else {
        return Completion::ignored_with(MISSING);
    };
    assert!(top.contains("Type: samples\n"), "{top}");
    assert!(top.contains("Duration: 60ms, Total samples = 60"), "{top}");
    let lines: Vec<_> = top.lines().map(words).collect();
    for expected in [
        // Own, share, sum of the shares above, with callees, share, name.
        "30 50.00% 50.00% 38 63.33% peek (inline)",
        "12 20.00% 70.00% 12 20.00% ext4_file_read_iter",
        "8 13.33% 83.33% 8 13.33% nmi_handle",
        "6 10.00% 93.33% 6 10.00% [not unwound]",
        "0 0% 100% 8 13.33% [NMI]",
        "0 0% 100% 38 63.33% parse<int>",
        "0 0% 100% 50 83.33% main",
    ] {
        let expected = words(expected);
        assert!(lines.contains(&expected), "{expected:?} is not in\n{top}");
    }
    // Time is what is shown unless samples are asked for.
    let time = pprof(folder, &["-top", "-nodecount=99"]).unwrap();
    assert!(time.contains("Type: cpu\n"), "{time}");
    assert!(time.contains("Total samples = 60ms"), "{time}");
    Completion::Completed
}

/// Every stack is there with its labels, its inlined functions and their lines, and the files.
pub(crate) fn stacks(folder: &TempDir) -> Completion {
    let Some(raw) = pprof(folder, &["-raw"]) else {
        return Completion::ignored_with(MISSING);
    };
    assert!(
        raw.contains("PeriodType: cpu nanoseconds\nPeriod: 1000000\n"),
        "{raw}"
    );
    assert!(raw.contains("2023-11-14 "), "{raw}");
    assert!(raw.contains("3 lost (4.76 %): 3 ring buffer full"), "{raw}");
    for mapping in [
        format!("/usr/lib/gcc/cc1 (deleted) {}", "ab".repeat(20)),
        "/usr/lib/libc.so.6".to_owned(),
        "[kernel.kallsyms]".to_owned(),
        "[ext4]".to_owned(),
    ] {
        assert!(raw.contains(&mapping), "{mapping} is not in\n{raw}");
    }
    let lines: Vec<_> = raw.lines().collect();
    let inlined = lines
        .iter()
        .position(|line| line.contains(" peek /src/parse.cc:18"));
    let inlined = inlined.unwrap_or_else(|| panic!("no inlined function in\n{raw}"));
    let outer = lines[inlined + 1];
    assert!(outer.contains(" parse<int> /src/parse.cc:17"), "{raw}");

    let traces = pprof(folder, &["-traces", "-sample_index=samples"]).unwrap();
    let blocks: Vec<_> = traces.split("-----------+").skip(1).collect();
    let block = |name: &str| {
        let block = blocks.iter().find(|block| block.contains(name));
        block.unwrap_or_else(|| panic!("no {name} in\n{traces}"))
    };
    let nmi = block("nmi_handle");
    for line in ["comm: cc1", "pid: 42", "stack: NMI"] {
        let there = nmi
            .lines()
            .any(|shown| words(shown).join(" ").contains(line));
        assert!(there, "{line} is not in\n{nmi}");
    }
    let order = [
        "nmi_handle",
        "[NMI]",
        "net_rx_action",
        "[IRQ]",
        "peek",
        "parse<int>",
        "main",
    ];
    let places: Vec<_> = order.iter().map(|name| nmi.find(name).unwrap()).collect();
    assert!(places.is_sorted(), "{nmi}");
    assert!(block("truncated").contains("libc.so.6+0x2010"), "{traces}");
    Completion::Completed
}
