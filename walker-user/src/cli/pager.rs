//! Showing a report: at once, or page by page where it is longer than the terminal.
//!
//! As in git and perf, the pager is `$PAGER`, or `less` if that is not set.

use std::{
    env,
    io::{self, BufWriter, IsTerminal as _, Write as _},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use clap::Args;
use terminal_size::{Height, Width, terminal_size_of};
use tokio::signal::unix::{SignalKind, signal};

use super::run::complain;

/// Ends by itself if all fits on a page, and leaves the screen as it is.
const DEFAULT: &str = "less -FRX";
/// What a shell returns for a command that is not there or cannot be run.
const CANNOT_RUN: [i32; 2] = [126, 127];

/// How to show a report.
#[derive(Debug, Args)]
pub(super) struct PagerArgs {
    /// Do not show it page by page with $PAGER where it is longer than the terminal
    #[arg(long)]
    no_pager: bool,
}

impl PagerArgs {
    /// Shows what `write` writes, in lines of the width that it is told: that of the terminal if
    /// there is one.
    pub(super) fn show(
        &self,
        write: impl FnOnce(Option<usize>, &mut dyn io::Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let stdout = io::stdout();
        let size = match stdout.is_terminal() {
            true => terminal_size_of(&stdout),
            false => None,
        };
        let Some((Width(columns), Height(rows))) = size else {
            let mut out = BufWriter::new(stdout.lock());
            write(None, &mut out)?;
            out.flush()?;
            return Ok(());
        };
        let mut text = Vec::new();
        write(Some(usize::from(columns)), &mut text)?;
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        let command = env::var("PAGER").unwrap_or_else(|_| DEFAULT.to_owned());
        let fits = lines < usize::from(rows);
        if !self.no_pager && !fits && !matches!(command.trim(), "" | "cat") {
            match page(&text, &command)? {
                Paged::Shown => return Ok(()),
                Paged::CannotRun => complain(&format!(
                    "warning  cannot run the pager `{command}`; $PAGER names another, --no-pager \
                     uses none"
                )),
            }
        }
        stdout.lock().write_all(&text)?;
        Ok(())
    }
}

/// What became of a text.
#[derive(Debug, PartialEq, Eq)]
enum Paged {
    Shown,
    CannotRun,
}

/// Lets a command of the shell show `text`.
fn page(text: &[u8], command: &str) -> anyhow::Result<Paged> {
    // Ctrl-C is for the pager, which is to be waited for: tokio takes the signal from now on.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot start the event loop")?;
    let _entered = runtime.enter();
    let _interrupts = signal(SignalKind::interrupt()).context("cannot listen for signals")?;

    let mut pager = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run /bin/sh for the pager; --no-pager uses none")?;
    let written = pager
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(text));
    let status = pager.wait().context("cannot wait for the pager")?;
    if status.code().is_some_and(|code| CANNOT_RUN.contains(&code)) {
        return Ok(Paged::CannotRun);
    }
    match written {
        // Who has seen enough ends the pager.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Paged::Shown),
        written => written
            .map(|()| Paged::Shown)
            .context("cannot write to the pager"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Paged, page};

    #[test]
    fn the_pager_gets_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen");
        let text = b"a line\n".repeat(100_000);
        let shown = page(&text, &format!("cat > '{}'", path.display())).unwrap();
        assert_eq!(shown, Paged::Shown);
        assert_eq!(std::fs::read(path).unwrap(), text);
    }

    #[test]
    fn who_has_seen_enough_makes_no_error() {
        let text = b"a line\n".repeat(100_000);
        assert_eq!(page(&text, "head -n 1 > /dev/null").unwrap(), Paged::Shown);
        assert_eq!(page(&text, "exit 1").unwrap(), Paged::Shown);
    }

    #[test]
    fn a_pager_that_is_not_there_shows_nothing() {
        let shown = page(b"text\n", "/no/such/pager 2> /dev/null").unwrap();
        assert_eq!(shown, Paged::CannotRun);
    }
}
