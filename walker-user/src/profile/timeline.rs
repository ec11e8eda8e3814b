//! A profile with the samples it was made of, one by one, in the order of time.
//!
//! What has no use for single samples takes the [`Profile`] alone.

use std::time::SystemTime;

use super::Profile;
pub use crate::classify::StackUse;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// When, in nanoseconds since the recording began. Of a wait: when it began.
    pub time_ns: u64,
    /// Its stack: an index into [`Profile::stacks`].
    pub stack: u32,
    /// The thread.
    pub tid: u32,
    /// The CPU.
    pub cpu: u32,
    /// Its number in the recording, from 1, in the order of time.
    pub number: u32,
    /// What it weighs, in [`Meta::unit`](super::Meta::unit).
    pub weight: u64,
    /// Where its [`StackUse`]s begin in [`Timeline::uses`].
    pub first_use: u32,
    /// How many it has.
    pub use_count: u8,
}

/// A profile and its samples.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// The distinct stacks, with the sums of their samples.
    pub profile: Profile,
    /// The samples in the order of time.
    pub points: Vec<Point>,
    /// The stacks in use, of all samples; of each from the one that was interrupted outwards.
    pub uses: Vec<StackUse>,
    /// The wall-clock time at which the recording began; `None` if that is not known.
    pub began: Option<SystemTime>,
}

impl Timeline {
    /// The kernel stacks that were in use at a sample, from the interrupted one outwards.
    #[must_use]
    pub fn uses_of(&self, point: &Point) -> &[StackUse] {
        let first = point.first_use as usize;
        let end = first + usize::from(point.use_count);
        self.uses.get(first..end).unwrap_or_default()
    }

    /// The time of the last sample, in nanoseconds since the recording began.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.points.last().map_or(0, |point| point.time_ns)
    }
}

#[cfg(test)]
mod tests {
    use crate::profile::fixture;

    #[test]
    fn samples_find_their_stacks_in_use() {
        let timeline = fixture::timeline();
        assert_eq!(timeline.points.len() as u64, timeline.profile.samples());
        let kinds = |stack: u32| {
            let point = timeline.points.iter().find(|point| point.stack == stack);
            let uses = timeline.uses_of(point.unwrap());
            uses.iter().map(|used| used.kind.name()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(0), [""; 0]);
        assert_eq!(kinds(3), ["NMI", "IRQ", "TASK"]);
        assert_eq!(timeline.uses[0].room(), 16384 - 200);
        assert_eq!(timeline.end_ns(), 99 * 15_000_000);
    }
}
