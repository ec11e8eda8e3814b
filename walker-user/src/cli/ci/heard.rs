//! What a run prints: passed on as it comes, and searched for how much work was done. What the recorder
//! itself says is kept apart.
//!
//! A command can leave processes behind that keep its output open; what they print later is nobody's.

use std::{
    io::{self, PipeReader, Write},
    os::fd::OwnedFd,
};

use regex::Regex;
use tokio::net::unix::pipe::Receiver;

/// Longest line that is searched, in bytes; a longer one is searched in parts.
const MAX_LINE: usize = 64 << 10;
/// What lines of a recorder's own begin with.
const OWN: &str = "stackwalk: ";

/// Listens to one output of a run.
pub(super) struct Listener<'a, W> {
    from: Receiver,
    to: W,
    search: Option<&'a Regex>,
    line: Vec<u8>,
    /// Whether nothing can come any more.
    pub(super) closed: bool,
    /// The last number that was found.
    pub(super) work: Option<f64>,
    /// What the recorder said last.
    pub(super) own: Option<String>,
}

impl<'a, W: Write> Listener<'a, W> {
    /// Has to be called on a runtime of tokio.
    pub(super) fn new(from: PipeReader, to: W, search: Option<&'a Regex>) -> io::Result<Self> {
        Ok(Self {
            from: Receiver::from_owned_fd(OwnedFd::from(from))?,
            to,
            search,
            line: Vec::new(),
            closed: false,
            work: None,
            own: None,
        })
    }

    /// Waits until something can be read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.from.readable().await
    }

    /// Takes what can be read now.
    pub(super) fn take(&mut self) {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.from.try_read(&mut bytes) {
                Ok(0) => self.closed = true,
                Ok(count) => {
                    self.hear(&bytes[..count]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
            if self.closed {
                self.end_line();
            }
            return;
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= MAX_LINE {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        if let Some(own) = text.strip_prefix(OWN) {
            self.own = Some(own.trim_end().to_owned());
            return;
        }
        // Where nobody reads it the command still has to run to its end.
        let _passed_on = self.to.write_all(&line);
        let found = self
            .search
            .and_then(|regex| regex.captures_iter(&text).last());
        if let Some(found) = found {
            let number = found.get(1).or_else(|| found.get(0));
            let number = number.map(|number| number.as_str().replace(['_', ','], ""));
            let number = number.and_then(|number| number.trim().parse().ok());
            self.work = number.or(self.work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(regex: &str, text: &[u8]) -> (Option<f64>, Option<String>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(text).unwrap();
            drop(writer);
            let regex = Regex::new(regex).unwrap();
            let mut passed_on = Vec::new();
            let mut listener = Listener::new(reader, &mut passed_on, Some(&regex)).unwrap();
            while !listener.closed {
                listener.readable().await.unwrap();
                listener.take();
            }
            let (work, own) = (listener.work, listener.own.clone());
            (work, own, passed_on)
        })
    }

    #[test]
    fn the_last_number_counts_and_all_but_the_recorder_is_passed_on() {
        let text = b"done 1,000 requests\nstackwalk: wrote it\ndone 2_500.5 requests\nno end";
        let (work, own, passed_on) = heard("done ([0-9_,.]+) requests", text);
        assert_eq!(work, Some(2500.5));
        assert_eq!(own.as_deref(), Some("wrote it"));
        assert_eq!(
            passed_on,
            b"done 1,000 requests\ndone 2_500.5 requests\nno end"
        );
        assert_eq!(heard("[0-9]+", b"take 7").0, Some(7.0));
        assert_eq!(heard("take (.*)", b"take none").0, None);
    }

    #[test]
    fn lines_without_an_end_are_bounded() {
        let text = vec![b'x'; 3 * MAX_LINE];
        // A pipe does not hold it, so somebody has to write while it is read.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let (reader, mut writer) = io::pipe().unwrap();
            let written = text.clone();
            let writing = std::thread::spawn(move || writer.write_all(&written));
            let mut passed_on = Vec::new();
            let mut listener = Listener::new(reader, &mut passed_on, None).unwrap();
            while !listener.closed {
                listener.readable().await.unwrap();
                listener.take();
                assert!(listener.line.len() < MAX_LINE);
            }
            writing.join().unwrap().unwrap();
            assert_eq!(passed_on, text);
        });
    }
}
