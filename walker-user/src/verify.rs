//! The agreement check: stackwalk's walk against the kernel's own, taken at the same event.
//!
//! Nothing is left out of the comparison. The one class in which the two may differ, a frame of a
//! BPF program that the kernel keeps out of its own trace, is counted apart, and only where the
//! frame's address is proved to be BPF text.

use std::collections::BTreeMap;

use walker_common::wire::MAX_CHAIN;

use crate::unwind::{Frame, FrameSource};

/// Most distinct disagreements that are kept for showing.
const MAX_SHOWN: usize = 10;

/// How one sample compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The same frames.
    Agree,
    /// The same frames once proved BPF frames that the kernel hides are left out.
    AgreeButHiddenBpf,
    /// Anything else.
    Disagree,
}

/// Compares a walk with the kernel's chain, both leaf first.
///
/// The walk counts up to where the kernel's rules end it: scanned frames are no part of it, nor is
/// what follows a retpoline thunk, which the kernel cannot leave. The kernel's chain
/// ends after `kernel.perf_event_max_stack` frames at the latest (127 by default).
/// `is_bpf_text` proves that an address is in a BPF program or trampoline.
pub fn compare(walk: &[Frame], kernel: &[u64], is_bpf_text: &dyn Fn(u64) -> bool) -> Outcome {
    let exact: Vec<u64> = walk
        .iter()
        .take_while(|frame| frame.reliable && frame.source != FrameSource::Thunk)
        .map(|frame| frame.ip)
        .collect();
    let same =
        |ours: &[u64]| ours == kernel || (kernel.len() == MAX_CHAIN && ours.starts_with(kernel));
    if same(&exact) {
        return Outcome::Agree;
    }
    let mut expected = kernel.iter().peekable();
    let visible: Vec<u64> = exact
        .into_iter()
        .filter(|ip| {
            let in_both = expected.next_if_eq(&ip).is_some();
            in_both || !is_bpf_text(*ip)
        })
        .collect();
    if same(&visible) {
        Outcome::AgreeButHiddenBpf
    } else {
        Outcome::Disagree
    }
}

/// A disagreement and how often the same one was seen.
#[derive(Debug, Clone)]
pub struct Disagreement {
    /// The walk.
    pub walk: Vec<Frame>,
    /// Why it ended, in words.
    pub stop: String,
    /// The kernel's chain.
    pub kernel: Vec<u64>,
    /// How many samples had it.
    pub samples: u64,
}

/// The running result.
#[derive(Debug, Default)]
pub struct Agreement {
    /// Samples with the same frames.
    pub agree: u64,
    /// Samples with the same frames but for hidden BPF frames.
    pub agree_but_hidden_bpf: u64,
    /// Samples that differ.
    pub disagree: u64,
    /// Distinct disagreements, by what the two ended with, at most [`MAX_SHOWN`].
    distinct: BTreeMap<(Vec<u64>, Vec<u64>), Disagreement>,
}

impl Agreement {
    /// Counts one sample.
    pub fn add(&mut self, outcome: Outcome, walk: &[Frame], stop: &str, kernel: &[u64]) {
        match outcome {
            Outcome::Agree => self.agree += 1,
            Outcome::AgreeButHiddenBpf => self.agree_but_hidden_bpf += 1,
            Outcome::Disagree => {
                self.disagree += 1;
                self.keep(walk, stop, kernel);
            }
        }
    }

    fn keep(&mut self, walk: &[Frame], stop: &str, kernel: &[u64]) {
        let key = difference(walk, kernel);
        if let Some(known) = self.distinct.get_mut(&key) {
            known.samples += 1;
        } else if self.distinct.len() < MAX_SHOWN {
            let disagreement = Disagreement {
                walk: walk.to_vec(),
                stop: stop.to_owned(),
                kernel: kernel.to_vec(),
                samples: 1,
            };
            self.distinct.insert(key, disagreement);
        }
    }

    /// The disagreements that are kept, most frequent first.
    #[must_use]
    pub fn disagreements(&self) -> Vec<&Disagreement> {
        let mut all: Vec<_> = self.distinct.values().collect();
        all.sort_by_key(|disagreement| std::cmp::Reverse(disagreement.samples));
        all
    }
}

/// What tells two disagreements apart: the frames around the place where the chains part.
fn difference(walk: &[Frame], kernel: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let common = walk
        .iter()
        .zip(kernel)
        .take_while(|(frame, ip)| frame.ip == **ip)
        .count();
    let from = common.saturating_sub(1);
    let ours = walk
        .iter()
        .skip(from)
        .take(3)
        .map(|frame| frame.ip)
        .collect();
    let theirs = kernel.iter().skip(from).take(3).copied().collect();
    (ours, theirs)
}

#[cfg(test)]
mod tests {
    use walker_common::StackKind;

    use super::*;

    fn walk(ips: &[u64]) -> Vec<Frame> {
        ips.iter()
            .map(|ip| Frame {
                ip: *ip,
                sp: 0,
                stack: StackKind::Task,
                source: FrameSource::Orc,
                reliable: true,
            })
            .collect()
    }

    const NO_BPF: &dyn Fn(u64) -> bool = &|_| false;

    #[test]
    fn only_equal_chains_agree() {
        assert_eq!(
            compare(&walk(&[1, 2, 3]), &[1, 2, 3], NO_BPF),
            Outcome::Agree
        );
        assert_eq!(
            compare(&walk(&[1, 2]), &[1, 2, 3], NO_BPF),
            Outcome::Disagree
        );
        assert_eq!(
            compare(&walk(&[1, 2, 3]), &[1, 2], NO_BPF),
            Outcome::Disagree
        );
        assert_eq!(
            compare(&walk(&[1, 9, 3]), &[1, 2, 3], NO_BPF),
            Outcome::Disagree
        );
        assert_eq!(compare(&walk(&[1]), &[], NO_BPF), Outcome::Disagree);
    }

    #[test]
    fn an_extra_frame_must_be_proved_to_be_bpf() {
        let ours = walk(&[1, 100, 3]);
        assert_eq!(compare(&ours, &[1, 3], NO_BPF), Outcome::Disagree);
        assert_eq!(
            compare(&ours, &[1, 3], &|ip| ip == 100),
            Outcome::AgreeButHiddenBpf
        );
        assert_eq!(compare(&ours, &[1, 4], &|ip| ip == 100), Outcome::Disagree);
        // A BPF frame that both have is no difference.
        assert_eq!(
            compare(&ours, &[1, 100, 3], &|ip| ip == 100),
            Outcome::Agree
        );
        assert_eq!(
            compare(&ours, &[1, 100], &|ip| ip == 100),
            Outcome::Disagree
        );
    }

    #[test]
    fn frames_the_kernel_cannot_find_are_not_compared() {
        let mut ours = walk(&[1, 2, 3]);
        ours[2].reliable = false;
        assert_eq!(compare(&ours, &[1, 2], NO_BPF), Outcome::Agree);
        assert_eq!(compare(&ours, &[1, 2, 3], NO_BPF), Outcome::Disagree);
        let mut ours = walk(&[1, 2, 3]);
        ours[1].source = FrameSource::Thunk;
        assert_eq!(compare(&ours, &[1], NO_BPF), Outcome::Agree);
        assert_eq!(compare(&ours, &[1, 2, 3], NO_BPF), Outcome::Disagree);
    }

    #[test]
    fn a_chain_that_the_kernel_cut_is_compared_as_far_as_it_goes() {
        let long: Vec<u64> = (1..=200).collect();
        assert_eq!(
            compare(&walk(&long), &long[..MAX_CHAIN], NO_BPF),
            Outcome::Agree
        );
        assert_eq!(
            compare(&walk(&long), &long[..MAX_CHAIN - 1], NO_BPF),
            Outcome::Disagree
        );
    }

    #[test]
    fn equal_disagreements_are_shown_once() {
        let mut agreement = Agreement::default();
        for _ in 0..3 {
            agreement.add(Outcome::Disagree, &walk(&[1, 2]), "", &[1, 3]);
        }
        agreement.add(Outcome::Disagree, &walk(&[1, 5]), "", &[1, 3]);
        for other in 100..200 {
            agreement.add(Outcome::Disagree, &walk(&[1, other]), "", &[1, 3]);
        }
        assert_eq!(agreement.disagree, 104);
        let shown = agreement.disagreements();
        assert_eq!(shown.len(), MAX_SHOWN);
        assert_eq!(shown[0].samples, 3);
    }
}
