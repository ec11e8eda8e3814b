//! Reading what test binaries print: the counts of their closing lines, and why tests were
//! skipped.
//!
//! Knows the output of libtest and of libtest-mimic. It judges nothing.

use std::collections::BTreeSet;

/// Counts of one or more test binaries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were ignored or skipped.
    pub(crate) skipped: u64,
    /// Closing lines seen: how many test binaries ran to their end.
    pub(crate) binaries: u64,
    /// The reasons given for skipped tests.
    pub(crate) reasons: BTreeSet<String>,
}

impl Tally {
    /// Takes in a line of output, whatever it is.
    pub(crate) fn line(&mut self, line: &str) {
        let line = without_colour(line);
        if let Some(counts) = result_line(&line) {
            self.passed += counts.passed;
            self.failed += counts.failed;
            self.skipped += counts.skipped;
            self.binaries += 1;
        } else if let Some(reason) = skip_reason(&line) {
            self.reasons.insert(reason.to_owned());
        }
    }

    /// Adds the counts of other binaries.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.binaries += other.binaries;
        self.reasons.extend(other.reasons.iter().cloned());
    }
}

struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// The counts of a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let (_verdict, rest) = rest.split_once(". ")?;
    let mut counts = Counts {
        passed: 0,
        failed: 0,
        skipped: 0,
    };
    for part in rest.split("; ") {
        let Some((number, what)) = part.split_once(' ') else {
            continue;
        };
        match what {
            "passed" => counts.passed = number.parse().ok()?,
            "failed" => counts.failed = number.parse().ok()?,
            "ignored" => counts.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

/// The reason in a line like `test NAME ... ignored, REASON` (libtest) or
/// `test NAME ... ignored (REASON)` (libtest-mimic).
fn skip_reason(line: &str) -> Option<&str> {
    let (_name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    rest.strip_prefix(", ")
        .or_else(|| rest.strip_prefix(" (")?.strip_suffix(')'))
}

/// The line without ANSI colour sequences, which a forced `CARGO_TERM_COLOR` brings even into a
/// pipe.
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // "ESC [ numbers letter": the letter ends it.
            for char in chars.by_ref() {
                if char.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.line(line);
        }
        tally
    }

    #[test]
    fn closing_lines_are_summed() {
        let tally = tally(&[
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.10s",
            "",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ]);
        assert_eq!(
            (tally.passed, tally.failed, tally.skipped, tally.binaries),
            (13, 2, 1, 2)
        );
    }

    #[test]
    fn colour_does_not_matter() {
        let tally = tally(&[
            "test result: \u{1b}[32mok\u{1b}[0m. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!((tally.passed, tally.binaries), (7, 1));
    }

    #[test]
    fn other_lines_count_nothing() {
        let tally = tally(&[
            "error: test failed, to rerun pass `--lib`",
            "the test result: ok. 9 passed; 0 failed",
            "test result: ok",
            "test result: ok. x passed; 0 failed; 0 ignored",
        ]);
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn reasons_of_both_runners_are_kept() {
        let tally = tally(&[
            "test one ... ignored, needs root",
            "test [live] two ... ignored (no tracefs (not mounted))",
            "test \u{1b}[33mthree\u{1b}[0m ... \u{1b}[33mignored\u{1b}[0m",
            "test four - should panic ... ok",
        ]);
        let reasons: Vec<&str> = tally.reasons.iter().map(String::as_str).collect();
        assert_eq!(reasons, ["needs root", "no tracefs (not mounted)"]);
    }
}
