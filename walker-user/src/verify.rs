//! The agreement check: stackwalk's walk against the kernel's own, taken at the same event.
//!
//! Nothing is left out of the comparison. The one class in which the two may differ, a frame of a
//! BPF program that the kernel keeps out of its own trace, is counted apart, and only where the
//! frame's address is proved to be BPF text.

use std::collections::BTreeMap;

use walker_common::{
    StackKind,
    wire::{MAX_CHAIN, Start},
};

use crate::unwind::{Frame, FrameSource, StopReason};

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

/// The parts of a walk and of the kernel's chain that tell of the same frames.
///
/// The two begin at different places where the event did not interrupt what is walked. In a program
/// on a tracepoint or a trampoline, the kernel's chain begins with the program itself, and ours in
/// its caller. In the handler of a watchpoint the kernel's begins at what was interrupted, and ours
/// in the handler. `interrupted` is the address that the event interrupted, 0 if none.
#[must_use]
pub fn common<'a>(
    walk: &'a [Frame],
    kernel: &'a [u64],
    start: Start,
    interrupted: u64,
) -> (&'a [Frame], &'a [u64]) {
    /// How many frames a program and what calls it can have before its caller.
    const AHEAD: usize = 4;
    if start == Start::Registers || start == Start::Frame {
        return (walk, kernel);
    }
    if interrupted != 0 {
        let at = walk.iter().position(|frame| {
            frame.ip == interrupted
                && matches!(
                    frame.source,
                    FrameSource::OrcRegs | FrameSource::FramePointerRegs
                )
        });
        return (&walk[at.unwrap_or(0)..], kernel);
    }
    let first = walk.first().map(|frame| frame.ip);
    let at = kernel.iter().take(AHEAD).position(|ip| Some(*ip) == first);
    (walk, &kernel[at.unwrap_or(0)..])
}

/// The stacks that a walk went over, from the innermost out: `NMI > IRQ > TASK > USER`.
#[must_use]
pub fn stacks(walk: &[Frame], stop: &StopReason) -> String {
    let mut names: Vec<&str> = Vec::new();
    for frame in walk.iter().take_while(|frame| frame.reliable) {
        let name = frame.stack.name();
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    match stop {
        StopReason::UserMode => names.push(StackKind::User.name()),
        StopReason::EndOfStack => {}
        other => names.push(other.name()),
    }
    names.join(" > ")
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
    /// Samples, and those that agree, by the stacks that were walked over.
    pub by_stacks: BTreeMap<String, (u64, u64)>,
    /// Distinct disagreements, by what the two ended with, at most [`MAX_SHOWN`].
    distinct: BTreeMap<(Vec<u64>, Vec<u64>), Disagreement>,
}

impl Agreement {
    /// Counts one sample, which went over `stacks`.
    pub fn add(
        &mut self,
        outcome: Outcome,
        walk: &[Frame],
        (stacks, stop): (&str, &str),
        kernel: &[u64],
    ) {
        let (all, same) = match self.by_stacks.get_mut(stacks) {
            Some(known) => known,
            None => self.by_stacks.entry(stacks.to_owned()).or_default(),
        };
        *all += 1;
        *same += u64::from(outcome != Outcome::Disagree);
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
    fn walks_that_begin_elsewhere_are_compared_from_where_both_are() {
        // A tracepoint: the kernel tells the program first.
        let ours = walk(&[2, 3]);
        let (walked, kernel) = common(&ours, &[9, 2, 3], Start::Caller, 0);
        assert_eq!((walked, kernel), (&ours[..], &[2, 3][..]));
        // What is not there is a disagreement, not left out.
        let (_, kernel) = common(&ours, &[9, 8, 3], Start::Caller, 0);
        assert_eq!(kernel, [9, 8, 3]);
        // A watchpoint: ours tells the handler first.
        let mut ours = walk(&[1, 7, 3]);
        ours[1].source = FrameSource::OrcRegs;
        let (walked, _) = common(&ours, &[7, 3], Start::Caller, 7);
        assert_eq!(walked, &ours[1..]);
        let (walked, _) = common(&ours, &[7, 3], Start::Registers, 7);
        assert_eq!(walked, &ours[..]);
    }

    #[test]
    fn the_stacks_of_a_walk_are_told_from_the_innermost_out() {
        let mut ours = walk(&[1, 2, 3, 4]);
        ours[0].stack = StackKind::Nmi;
        ours[1].stack = StackKind::Irq;
        assert_eq!(
            stacks(&ours, &StopReason::UserMode),
            "NMI > IRQ > TASK > USER"
        );
        assert_eq!(stacks(&ours, &StopReason::EndOfStack), "NMI > IRQ > TASK");
        ours[3].reliable = false;
        let lost = StopReason::NoUnwindInfo { ip: 3 };
        assert_eq!(stacks(&ours, &lost), "NMI > IRQ > TASK > no-unwind-info");
    }

    #[test]
    fn equal_disagreements_are_shown_once() {
        let mut agreement = Agreement::default();
        for _ in 0..3 {
            agreement.add(Outcome::Disagree, &walk(&[1, 2]), ("IRQ", ""), &[1, 3]);
        }
        agreement.add(Outcome::Disagree, &walk(&[1, 5]), ("IRQ", ""), &[1, 3]);
        for other in 100..200 {
            agreement.add(Outcome::Disagree, &walk(&[1, other]), ("IRQ", ""), &[1, 3]);
        }
        assert_eq!(agreement.disagree, 104);
        assert_eq!(agreement.by_stacks["IRQ"], (104, 0));
        let shown = agreement.disagreements();
        assert_eq!(shown.len(), MAX_SHOWN);
        assert_eq!(shown[0].samples, 3);
    }
}
