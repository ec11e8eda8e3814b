//! How much is worth copying of a process's user stacks: learned from how far its walks read.
//!
//! Only the arithmetic; the BPF maps that hold the result are [`super::object`]'s.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// The budget of a process that nothing is known of.
pub const FIRST_BUDGET: u32 = 4096;
/// The smallest budget.
pub const MIN_BUDGET: u32 = 1024;
/// Budgets are multiples of this.
const STEP: u32 = 256;
/// How much a budget grows when a walk ran out of bytes: twice is enough to reach the largest one
/// from the first.
const GROWTH: u32 = 4;
/// How many walks pass between two changes of a budget that suffices.
const LOOK_EVERY: u32 = 64;
/// How many times as many walks a budget is learned from: the deepest of a thousand stands for the
/// 99.9th percentile.
const LOOKS: usize = 16;
/// Most keys that are remembered; then all are forgotten, and learned anew.
const MAX_KEYS: usize = 8192;

/// How far the latest walks of one key read.
#[derive(Debug)]
struct Walks {
    budget: u32,
    walks: u32,
    /// The most bytes used, in steps, between two looks; a ring.
    deepest: [u16; LOOKS],
}

/// Budgets by `K`.
#[derive(Debug)]
pub struct Budgets<K> {
    largest: u32,
    walks: FxHashMap<K, Walks>,
}

impl<K: Eq + Hash> Budgets<K> {
    /// Nothing is known; no budget will be above `largest` bytes.
    #[must_use]
    pub fn new(largest: u32) -> Self {
        Self {
            largest,
            walks: FxHashMap::default(),
        }
    }

    /// Learns from a walk that read `used` of `copied` bytes, and that wanted more if it was
    /// `truncated`. Returns the new budget if it changes.
    pub fn learn(&mut self, key: K, copied: u32, used: u32, truncated: bool) -> Option<u32> {
        if self.walks.len() >= MAX_KEYS && !self.walks.contains_key(&key) {
            self.walks.clear();
        }
        let walks = self.walks.entry(key).or_insert_with(|| Walks {
            budget: FIRST_BUDGET.min(self.largest),
            walks: 0,
            deepest: [0; LOOKS],
        });
        let used = if truncated {
            copied.saturating_mul(GROWTH)
        } else {
            used
        };
        let steps = used.min(self.largest).div_ceil(STEP);
        let look = (walks.walks / LOOK_EVERY) as usize % LOOKS;
        if walks.walks.is_multiple_of(LOOK_EVERY) {
            walks.deepest[look] = 0;
        }
        walks.deepest[look] = walks.deepest[look].max(u16::try_from(steps).unwrap_or(u16::MAX));
        walks.walks = walks.walks.wrapping_add(1);
        let budget = if truncated {
            // An older sample of the same batch may have been cut at a smaller budget.
            used.min(self.largest).max(walks.budget)
        } else if walks.walks.is_multiple_of(LOOK_EVERY) {
            let deepest = u32::from(*walks.deepest.iter().max()?) * STEP;
            let roomy = (deepest + deepest / 4).next_multiple_of(STEP);
            roomy.clamp(MIN_BUDGET.min(self.largest), self.largest)
        } else {
            return None;
        };
        (budget != std::mem::replace(&mut walks.budget, budget)).then_some(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_walk_raises_the_budget_at_once() {
        let mut budgets = Budgets::new(65_536);
        assert_eq!(budgets.learn(1, 4096, 4096, true), Some(16_384));
        // Samples that were taken before the change say nothing new.
        assert_eq!(budgets.learn(1, 4096, 4096, true), None);
        assert_eq!(budgets.learn(1, 16_384, 16_384, true), Some(65_536));
        assert_eq!(budgets.learn(1, 65_536, 65_536, true), None);
    }

    #[test]
    fn shallow_walks_lower_it_to_what_they_need_with_room() {
        let mut budgets = Budgets::new(65_536);
        let changes: Vec<u32> = (0..LOOK_EVERY)
            .filter_map(|_| budgets.learn(1, 4096, 1500, false))
            .collect();
        assert_eq!(changes, [2048]);
        // A single deep walk keeps room for the next, but not forever.
        budgets.learn(1, 2048, 8000, false);
        let changes: Vec<u32> = (1..LOOK_EVERY * LOOKS as u32)
            .filter_map(|_| budgets.learn(1, 2048, 100, false))
            .collect();
        assert_eq!(changes, [10_240]);
        let changes: Vec<u32> = (0..LOOK_EVERY)
            .filter_map(|_| budgets.learn(1, 2048, 100, false))
            .collect();
        assert_eq!(changes, [MIN_BUDGET]);
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut budgets = Budgets::new(65_536);
        let mut last = None;
        for _ in 0..LOOK_EVERY * 4 {
            last = budgets.learn(1, 4096, 0, false).or(last);
        }
        assert_eq!(last, Some(MIN_BUDGET));
        let mut small = Budgets::new(512);
        for _ in 0..LOOK_EVERY {
            assert_eq!(small.learn(1, 512, 512, true), None);
        }
    }

    #[test]
    fn keys_are_bounded_and_independent() {
        let mut budgets = Budgets::new(65_536);
        for key in 0..MAX_KEYS * 2 {
            assert_eq!(budgets.learn(key, 4096, 4096, true), Some(16_384));
        }
        assert!(budgets.walks.len() <= MAX_KEYS);
    }
}
