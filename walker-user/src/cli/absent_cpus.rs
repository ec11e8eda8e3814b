//! CPUs that are not sampled because they came online, or came back, after the start: the kernel takes
//! the events of a CPU that goes offline away. This only finds them; nobody should miss their samples
//! without knowing.

use std::collections::BTreeSet;

/// The CPUs that are sampled, and those that it was told of that are not.
pub(super) struct AbsentCpus {
    sampled: BTreeSet<u32>,
    told: BTreeSet<u32>,
    /// Events that are not of CPUs have nothing to do with it.
    watches: bool,
}

impl AbsentCpus {
    /// `sampled` are the CPUs with an event, `online` those that are online at the start.
    pub(super) fn new(sampled: &[u32], online: &[u32]) -> Self {
        let sampled: BTreeSet<u32> = sampled.iter().copied().collect();
        Self {
            watches: online.iter().all(|cpu| sampled.contains(cpu)),
            sampled,
            told: BTreeSet::new(),
        }
    }

    /// The CPUs of those that are online now which are not sampled, and were not told before.
    pub(super) fn look(&mut self, online: &[u32]) -> Vec<u32> {
        self.sampled.retain(|cpu| online.contains(cpu));
        let absent = online
            .iter()
            .copied()
            .filter(|cpu| self.watches && !self.sampled.contains(cpu) && !self.told.contains(cpu));
        let absent: Vec<u32> = absent.collect();
        self.told.extend(&absent);
        absent
    }
}

#[cfg(test)]
mod tests {
    use super::AbsentCpus;

    #[test]
    fn what_comes_later_or_comes_back_is_told_once() {
        let mut cpus = AbsentCpus::new(&[0, 1], &[0, 1]);
        assert!(cpus.look(&[0, 1]).is_empty());
        assert!(cpus.look(&[0]).is_empty());
        assert_eq!(cpus.look(&[0, 1, 2]), [1, 2]);
        assert!(cpus.look(&[0, 1, 2]).is_empty());
    }

    #[test]
    fn events_of_no_cpu_miss_none() {
        let mut cpus = AbsentCpus::new(&[], &[0, 1]);
        assert!(cpus.look(&[0, 1, 2]).is_empty());
    }
}
