//! The line that shows, on a terminal, how a sampling is going.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use walker_common::maps::Counters;

use super::summary::{grouped, lost};
use crate::sys::clock::process_cpu_time;

/// The line; silent where standard error is no terminal.
pub(super) struct StatusLine {
    on_terminal: bool,
    last: Option<Shown>,
}

struct Shown {
    at: Duration,
    cpu: Duration,
    taken: u64,
}

impl StatusLine {
    pub(super) fn new() -> Self {
        Self {
            on_terminal: stderr().is_terminal(),
            last: None,
        }
    }

    /// Shows the state after `elapsed`, at most a few times a second.
    pub(super) fn show(&mut self, elapsed: Duration, counters: &Counters) {
        const EVERY: Duration = Duration::from_millis(500);
        if !self.on_terminal
            || self
                .last
                .as_ref()
                .is_some_and(|last| elapsed.saturating_sub(last.at) < EVERY)
        {
            return;
        }
        let cpu = process_cpu_time();
        let line = self.line(elapsed, cpu, counters);
        self.last = Some(Shown {
            at: elapsed,
            cpu,
            taken: counters.taken,
        });
        // A status line that cannot be written is no reason to stop sampling.
        let _written = write!(stderr(), "\r\x1b[K{line}");
        let _flushed = stderr().flush();
    }

    fn line(&self, elapsed: Duration, cpu: Duration, counters: &Counters) -> String {
        let mut line = format!(
            "{:.1} s  {} samples  {} lost",
            elapsed.as_secs_f64(),
            grouped(counters.delivered),
            grouped(lost(counters)),
        );
        if let Some(last) = &self.last {
            let seconds = elapsed.saturating_sub(last.at).as_secs_f64().max(0.001);
            let rate = (counters.taken.saturating_sub(last.taken)) as f64 / seconds;
            let share = cpu.saturating_sub(last.cpu).as_secs_f64() / seconds * 100.0;
            line += &format!("  {rate:.0} events/s  stackwalk {share:.1} % of a CPU");
        }
        line + "  (Ctrl-C ends)"
    }

    /// Takes the line off the terminal.
    pub(super) fn clear(&mut self) {
        if self.last.take().is_some() {
            let _written = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_since_the_last_line() {
        let mut status = StatusLine {
            on_terminal: true,
            last: None,
        };
        let counters = Counters {
            taken: 3000,
            delivered: 2500,
            lost_ring_full: 7,
            ..Default::default()
        };
        let at = Duration::from_secs(2);
        let first = status.line(at, Duration::from_millis(20), &counters);
        assert!(first.starts_with("2.0 s  2,500 samples  7 lost"), "{first}");
        status.last = Some(Shown {
            at: Duration::from_secs(1),
            cpu: Duration::from_millis(10),
            taken: 1000,
        });
        let second = status.line(at, Duration::from_millis(20), &counters);
        assert!(
            second.contains("2000 events/s  stackwalk 1.0 % of a CPU"),
            "{second}"
        );
    }
}
