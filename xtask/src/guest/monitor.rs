//! QEMU's monitor: the machine protocol QMP (`docs/interop/qmp-spec`), as far as it takes to
//! inject NMIs and to write memory dumps.
//!
//! When that is done is `machine`'s business.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// The longest answer that is read.
const MAX_ANSWER: u64 = 1 << 20;
/// The longest that QEMU may take for an answer: a dump of a few GiB takes less.
const LIMIT: Duration = Duration::from_secs(120);

/// A connection to the monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Takes QEMU's greeting and goes into the mode for commands.
    ///
    /// # Errors
    /// If the other end does not speak the protocol.
    pub(crate) fn connect(stream: UnixStream) -> anyhow::Result<Self> {
        stream
            .set_read_timeout(Some(LIMIT))
            .context("cannot limit the wait for QEMU's monitor")?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        let greeting = monitor.answer()?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU's monitor greets with {greeting}, which is not QMP");
        }
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Injects an NMI into every CPU.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub(crate) fn inject_nmi(&mut self) -> anyhow::Result<()> {
        self.execute("inject-nmi", &json!({}))
    }

    /// Writes the guest's memory to a file, as an ELF core file. The guest stands still meanwhile.
    ///
    /// # Errors
    /// If QEMU cannot write it.
    pub(crate) fn dump(&mut self, file: &Path) -> anyhow::Result<()> {
        let protocol = format!("file:{}", file.display());
        self.execute(
            "dump-guest-memory",
            &json!({ "paging": false, "protocol": protocol }),
        )
    }

    /// Runs a command, and passes over the events that come before its answer.
    fn execute(&mut self, command: &str, arguments: &Value) -> anyhow::Result<()> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .with_context(|| format!("cannot ask QEMU's monitor for {command}"))?;
        loop {
            let answer = self.answer()?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                let said = error["desc"].as_str().unwrap_or("no reason given");
                bail!("QEMU refuses {command}: {said}");
            }
        }
    }

    fn answer(&mut self) -> anyhow::Result<Value> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(MAX_ANSWER)
            .read_until(b'\n', &mut line)
            .context("QEMU's monitor does not answer")?;
        if read == 0 {
            bail!("QEMU's monitor has closed the connection");
        }
        serde_json::from_slice(&line).context("cannot understand QEMU's monitor")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;

    /// Talks to a monitor that says these lines, and returns what it was asked.
    fn with_answers(
        lines: &[&str],
        talk: impl FnOnce(UnixStream) -> anyhow::Result<()>,
    ) -> (anyhow::Result<()>, String) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all((lines.join("\r\n") + "\r\n").as_bytes())
            .unwrap();
        let mut reading = theirs.try_clone().unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let asked = thread::spawn(move || {
            let mut asked = String::new();
            reading.read_to_string(&mut asked).unwrap();
            asked
        });
        (talk(ours), asked.join().unwrap())
    }

    #[test]
    fn events_before_an_answer_are_passed_over() {
        let (result, asked) = with_answers(
            &[
                GREETING,
                r#"{"return": {}}"#,
                r#"{"event": "STOP", "timestamp": {}}"#,
                r#"{"event": "RESUME", "timestamp": {}}"#,
                r#"{"return": {}}"#,
            ],
            |stream| Monitor::connect(stream)?.dump(Path::new("/tmp/a dump")),
        );
        result.unwrap();
        let asked: Vec<Value> = asked
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(asked[0]["execute"], "qmp_capabilities");
        assert_eq!(asked[1]["execute"], "dump-guest-memory");
        assert_eq!(asked[1]["arguments"]["protocol"], "file:/tmp/a dump");
    }

    #[test]
    fn a_refusal_says_why() {
        let refusal = r#"{"error": {"class": "GenericError", "desc": "no space"}}"#;
        let (result, _) = with_answers(&[GREETING, r#"{"return": {}}"#, refusal], |stream| {
            Monitor::connect(stream)?.inject_nmi()
        });
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "QEMU refuses inject-nmi: no space");
    }

    #[test]
    fn a_stranger_and_a_closed_connection_are_errors() {
        for lines in [&["hello"][..], &[r#"{"hello": 1}"#], &[GREETING]] {
            let (result, _) = with_answers(lines, |stream| Monitor::connect(stream).map(drop));
            assert!(result.is_err(), "{lines:?}");
        }
    }
}
