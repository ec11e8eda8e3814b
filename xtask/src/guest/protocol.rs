//! What a guest and the host say to each other in lines on the serial ports, as text.
//!
//! Nothing is read, written or done here.

use std::time::Duration;

/// What a line that is meant for the host starts with.
const MARK: &str = "stackwalk-guest: ";
/// What the host answers when it has done what was asked for.
pub(crate) const DONE: &str = "stackwalk-guest: done\n";
/// The line that asks for a dump, unless another is given.
pub(crate) const DUMP: &str = "stackwalk-guest: dump";
/// The most NMIs that one line can ask for.
const MAX_NMIS: u32 = 100_000;

/// A line of the command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Output, for people.
    Output,
    /// The guest is set up, and the command starts.
    Begin,
    /// The command has ended with this status.
    End(u8),
    /// `stackwalk-guest: nmi COUNT MILLISECONDS`: so many NMIs, so far apart.
    Nmi { count: u32, every: Duration },
}

impl Line {
    /// Tells what a line is. `token` is what only this guest's first process knows.
    pub(crate) fn of(line: &str, token: &str) -> Self {
        // The command's last line may have no end, so its end can be on the same line.
        let Some(at) = line.rfind(MARK) else {
            return Self::Output;
        };
        let words: Vec<&str> = line[at + MARK.len()..].split_ascii_whitespace().collect();
        match words[..] {
            ["begin", of] if of == token => Self::Begin,
            ["end", of, status] if of == token => {
                // A shell's status is that of eight bits.
                status.parse().map_or(Self::Output, Self::End)
            }
            ["nmi", count, every] if at == 0 => match (count.parse(), every.parse()) {
                (Ok(count @ 1..=MAX_NMIS), Ok(every)) => Self::Nmi {
                    count,
                    every: Duration::from_millis(every),
                },
                _ => Self::Output,
            },
            _ => Self::Output,
        }
    }

    /// The output on the line that says how the command ended, which is before the mark.
    pub(crate) fn output_before_mark(line: &str) -> &str {
        line.rfind(MARK).map_or(line, |at| &line[..at])
    }
}

/// What the kernel says when something is wrong with it, on the port of its own messages. Nothing
/// that a test does on purpose is among them: an injected NMI is "unknown", which is no complaint.
const COMPLAINTS: &[&str] = &[
    "Kernel panic",
    "[ cut here ]",
    "Oops",
    "BUG:",
    "general protection fault",
    "detected stall",
    "detected stalls",
    "soft lockup",
    "hard LOCKUP",
    "blocked for more than",
    "Out of memory",
];

/// Whether a line of the kernel's messages means that the run has failed.
pub(crate) fn is_complaint(line: &str) -> bool {
    COMPLAINTS.iter().any(|complaint| line.contains(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Line {
        Line::of(line, "1f2e")
    }

    #[test]
    fn the_end_has_a_status_and_the_token() {
        assert_eq!(of("stackwalk-guest: begin 1f2e"), Line::Begin);
        assert_eq!(of("stackwalk-guest: end 1f2e 7"), Line::End(7));
        assert_eq!(of("stackwalk-guest: end 1f2e 256"), Line::Output);
        assert_eq!(of("stackwalk-guest: end ffff 0"), Line::Output);
        assert_eq!(of("stackwalk-guest: end 1f2e"), Line::Output);
        assert_eq!(of("end 1f2e 0"), Line::Output);
    }

    #[test]
    fn output_without_a_newline_does_not_hide_the_end() {
        let line = "done.stackwalk-guest: end 1f2e 0";
        assert_eq!(of(line), Line::End(0));
        assert_eq!(Line::output_before_mark(line), "done.");
    }

    #[test]
    fn nmis_are_asked_for_in_bounds() {
        let asked = Line::Nmi {
            count: 200,
            every: Duration::from_millis(10),
        };
        assert_eq!(of("stackwalk-guest: nmi 200 10"), asked);
        for line in [
            "stackwalk-guest: nmi 0 10",
            "stackwalk-guest: nmi 100001 10",
            "stackwalk-guest: nmi 200",
            "stackwalk-guest: nmi many 10",
            "it says stackwalk-guest: nmi 200 10",
        ] {
            assert_eq!(of(line), Line::Output, "{line}");
        }
    }

    #[test]
    fn complaints_of_the_kernel_are_told_from_its_other_messages() {
        for line in [
            "[    2.1] Kernel panic - not syncing: Attempted to kill init!",
            "[    2.1] ------------[ cut here ]------------",
            "[    9.9] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[   30.0] watchdog: BUG: soft lockup - CPU#1 stuck for 23s!",
        ] {
            assert!(is_complaint(line), "{line}");
        }
        for line in [
            "[    5.0] Uhhuh. NMI received for unknown reason 20 on CPU 0.",
            "[    5.0] Dazed and confused, but trying to continue",
            "[    0.0] Spectre V2 : Mitigation: Retpolines",
        ] {
            assert!(!is_complaint(line), "{line}");
        }
    }
}
