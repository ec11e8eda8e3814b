//! Keeps a walk from going in circles.
//!
//! A stack pointer goes up from callee to caller. Only where a signal interrupted another stack
//! may it go anywhere, but never to where the walk has been.

/// How many times a walk may go down. A thread has one alternate signal stack at a time, so more
/// than once needs stacks that are switched by hand.
const MAX_RUNS: usize = 4;

/// Where the walk has been: runs of addresses in which the stack pointer went up.
#[derive(Debug)]
pub(super) struct Progress {
    left: [(u64, u64); MAX_RUNS],
    left_count: usize,
    run_start: u64,
    sp: u64,
}

impl Progress {
    /// At the first frame.
    pub(super) fn new(sp: u64) -> Self {
        Self {
            left: [(0, 0); MAX_RUNS],
            left_count: 0,
            run_start: sp,
            sp,
        }
    }

    /// Goes to a caller with this stack pointer. Returns whether that is further up, or at the
    /// same place and `may_stay`.
    #[inline]
    pub(super) fn advance(&mut self, sp: u64, may_stay: bool) -> bool {
        if sp < self.sp || (sp == self.sp && !may_stay) || self.was_left(sp) {
            return false;
        }
        self.sp = sp;
        true
    }

    /// Goes to an interrupted frame with this stack pointer. Returns whether the walk has not been
    /// there.
    pub(super) fn interrupt(&mut self, sp: u64) -> bool {
        if sp > self.sp {
            return self.advance(sp, false);
        }
        if sp >= self.run_start || self.was_left(sp) {
            return false;
        }
        let Some(run) = self.left.get_mut(self.left_count) else {
            return false;
        };
        *run = (self.run_start, self.sp);
        self.left_count += 1;
        (self.run_start, self.sp) = (sp, sp);
        true
    }

    #[inline]
    fn was_left(&self, sp: u64) -> bool {
        self.left_count > 0
            && self.left[..self.left_count]
                .iter()
                .any(|&(first, last)| (first..=last).contains(&sp))
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_RUNS, Progress};

    #[test]
    fn calls_only_go_up() {
        let mut progress = Progress::new(100);
        assert!(progress.advance(100, true));
        assert!(!progress.advance(100, false));
        assert!(progress.advance(108, false));
        assert!(!progress.advance(100, true));
    }

    #[test]
    fn a_signal_can_go_down_but_never_back() {
        let mut progress = Progress::new(1000);
        assert!(progress.advance(1100, false));
        assert!(!progress.interrupt(1100), "the same place");
        assert!(!progress.interrupt(1050), "within the run");
        assert!(progress.interrupt(500));
        assert!(progress.advance(900, false));
        assert!(!progress.advance(1000, false), "the first run again");
        assert!(!progress.advance(1100, false), "the first run's end");
        assert!(progress.advance(1108, false), "past the first run");
    }

    #[test]
    fn going_down_is_limited() {
        let mut progress = Progress::new(1000);
        for run in 1..=MAX_RUNS as u64 {
            assert!(progress.interrupt(1000 - run));
        }
        assert!(!progress.interrupt(0));
    }
}
