//! How much time may be spent: a lot at once, little in the long run.
//!
//! Limits per file do not help against many files that each take all they may.

use std::time::{Duration, Instant};

/// A tenth of the time that passes may be spent.
const SHARE: u32 = 10;

/// Time that may be spent.
#[derive(Debug)]
pub(super) struct Allowance {
    left: Duration,
    full: Duration,
    updated: Instant,
}

impl Allowance {
    /// All of `full` may be spent at once.
    pub(super) const fn new(full: Duration, now: Instant) -> Self {
        Self {
            left: full,
            full,
            updated: now,
        }
    }

    /// What may be spent now.
    pub(super) fn left(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.updated);
        self.left = self.full.min(self.left.saturating_add(passed / SHARE));
        self.updated = now;
        self.left
    }

    /// Takes off what was spent.
    pub(super) const fn spend(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Allowance;

    #[test]
    fn what_was_spent_comes_back_slowly_and_not_beyond_the_start() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut allowance = Allowance::new(Duration::from_secs(100), start);
        assert_eq!(allowance.left(at(1000)), Duration::from_secs(100));
        allowance.spend(Duration::from_secs(70));
        assert_eq!(allowance.left(at(1000)), Duration::from_secs(30));
        assert_eq!(allowance.left(at(1050)), Duration::from_secs(35));
        allowance.spend(Duration::from_secs(500));
        assert_eq!(allowance.left(at(1050)), Duration::ZERO);
        assert_eq!(allowance.left(at(1060)), Duration::from_secs(1));
        assert_eq!(
            allowance.left(at(1)),
            Duration::from_secs(1),
            "time went back"
        );
        assert_eq!(allowance.left(at(9000)), Duration::from_secs(100));
    }
}
