//! The live tests in guests: those that need no compiler, on each of the kernels.
//!
//! Which tests those are is the tests' own business. Their output is read by `tally`.

use std::{ffi::OsString, io, time::Duration};

use super::{
    Guest,
    binaries::Binaries,
    kernel::{Choice, Kernel},
};
use crate::{
    report::{Outcome, counts},
    tally::Tally,
    workspace::Workspace,
};

/// The kernels that are tested besides the host's, and what the step is called.
pub(crate) const KERNELS: [(&str, &str); 2] =
    [("6.1", "live tests, 6.1"), ("6.12", "live tests, 6.12")];

/// Several times what the tests take on a machine with two CPUs.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs the tests on a kernel and adds what they count to `tally`.
pub(crate) fn live_tests(workspace: &Workspace, kernel: &str, tally: &mut Tally) -> Outcome {
    outcome(run(workspace, kernel, tally), tally)
}

fn run(workspace: &Workspace, kernel: &str, tally: &mut Tally) -> anyhow::Result<u8> {
    let choice: Choice = kernel.parse().map_err(anyhow::Error::msg)?;
    let kernel = Kernel::get(&choice, &workspace.guest())?;
    let binaries = Binaries::build(workspace)?;
    let guest = Guest {
        workspace,
        kernel: &kernel,
        binaries: Some(&binaries),
    };
    let command = ["live", "--test-threads=1"].map(OsString::from);
    guest.run(
        &command,
        |machine| machine.timeout = LIMIT,
        &mut io::stdout(),
        |line| tally.line(line),
    )
}

/// A guest that did not come to its end has failed, whatever its tests said before.
fn outcome(ended: anyhow::Result<u8>, tally: &mut Tally) -> Outcome {
    let reason = match ended {
        Ok(0) if tally.failed == 0 && tally.binaries == 1 && tally.passed > 0 => {
            return Outcome::Ok(counts(tally));
        }
        Ok(_) if tally.failed > 0 => return Outcome::Failed(counts(tally)),
        Ok(status) => format!("the tests did not run to their end (exit status {status})"),
        Err(error) => format!("{error:#}"),
    };
    // No line has counted this one.
    tally.failed += 1;
    Outcome::Failed(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(closing: &str) -> Tally {
        let mut tally = Tally::default();
        tally.line(closing);
        tally
    }

    #[test]
    fn tests_that_pass_are_fine() {
        let mut tally = tally("test result: ok. 40 passed; 0 failed; 41 ignored; 0 measured");
        assert!(matches!(
            outcome(Ok(0), &mut tally),
            Outcome::Ok(note) if note == "40 passed, 0 failed, 41 skipped"
        ));
    }

    #[test]
    fn failed_tests_are_counted_once() {
        let mut tally = tally("test result: FAILED. 40 passed; 2 failed; 0 ignored");
        assert!(matches!(outcome(Ok(101), &mut tally), Outcome::Failed(_)));
        assert_eq!(tally.failed, 2);
    }

    #[test]
    fn an_end_before_the_end_is_a_failure_of_its_own() {
        let ok = "test result: ok. 40 passed; 0 failed; 0 ignored";
        for (closing, ended) in [
            (ok, Err(anyhow::anyhow!("the guest hangs"))),
            (ok, Ok(101)),
            ("", Ok(0)),
            ("test result: ok. 0 passed; 0 failed; 9 ignored", Ok(0)),
        ] {
            let mut tally = tally(closing);
            let outcome = outcome(ended, &mut tally);
            assert!(
                matches!(outcome, Outcome::Failed(_)),
                "{closing} {outcome:?}"
            );
            assert_eq!(tally.failed, 1, "{closing}");
        }
    }
}
