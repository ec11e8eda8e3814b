//! A stack as the formats for other tools show it: what is at one address together, a marker where
//! another kernel stack begins, and what was not unwound as one entry.
//!
//! The same as [`Profile::picture`], which has single frames in the form in which they are merged.

use walker_common::StackKind;

use crate::profile::{FrameClass, FrameId, Profile, WeightedStack};

/// A part of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// What follows is on this kernel stack.
    Marker(StackKind),
    /// One address: its function, then those that are inlined there, each into the one before.
    Code(&'a [FrameId]),
    /// Neighbouring frames that are [not reliable](crate::profile::Frame::reliable).
    NotUnwound(&'a [FrameId]),
    /// Something about the event.
    Note(FrameId),
}

/// The entries of `stack`, root first; without `markers`, none is an [`Entry::Marker`].
pub(super) fn entries<'a>(
    profile: &Profile,
    stack: &'a WeightedStack,
    markers: bool,
) -> Vec<Entry<'a>> {
    let mut entries = Vec::with_capacity(stack.frames.len());
    let mut current = StackKind::Task;
    let mut rest = stack.frames.as_slice();
    while let Some(&id) = rest.first() {
        let frame = profile.frame(id);
        let before = current;
        current = match frame.class {
            FrameClass::Kernel(kind) => kind,
            FrameClass::Note => before,
            _ => StackKind::Task,
        };
        if markers && current != before && matches!(frame.class, FrameClass::Kernel(_)) {
            entries.push(Entry::Marker(current));
        }
        let more = |same: &dyn Fn(FrameId) -> bool| {
            1 + rest[1..].iter().take_while(|id| same(**id)).count()
        };
        let len = if frame.class == FrameClass::Note {
            1
        } else if frame.reliable {
            more(&|id| {
                let next = profile.frame(id);
                next.inlined
                    && next.reliable
                    && (next.class, next.address, next.object)
                        == (frame.class, frame.address, frame.object)
            })
        } else {
            more(&|id| {
                let next = profile.frame(id);
                !next.reliable && next.class == frame.class
            })
        };
        let (here, after) = rest.split_at(len);
        rest = after;
        entries.push(match frame.class {
            FrameClass::Note => Entry::Note(id),
            _ if frame.reliable => Entry::Code(here),
            _ => Entry::NotUnwound(here),
        });
    }
    entries
}

/// The stack that was running at the samples of `stack`; [`StackKind::Unknown`] if it has no
/// frames.
pub(super) fn running_on(profile: &Profile, stack: &WeightedStack) -> StackKind {
    let classes = stack.frames.iter().rev().map(|&id| profile.frame(id).class);
    let kinds = classes.filter_map(|class| match class {
        FrameClass::User => Some(StackKind::User),
        FrameClass::Kernel(kind) => Some(kind),
        _ => None,
    });
    { kinds }.next().unwrap_or(StackKind::Unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walker_common::StackKind;

    use super::{Entry, entries, running_on};
    use crate::profile::fixture;

    /// One letter for each entry, and the number of its frames.
    fn shape(entries: &[Entry<'_>]) -> String {
        let parts = entries.iter().map(|entry| match entry {
            Entry::Marker(kind) => format!("[{}]", kind.name()),
            Entry::Code(frames) => format!("c{}", frames.len()),
            Entry::NotUnwound(frames) => format!("?{}", frames.len()),
            Entry::Note(_) => "n".to_owned(),
        });
        parts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn stacks_are_taken_apart() {
        let profile = fixture::profile();
        let shapes = |markers: bool| -> Vec<_> {
            let stacks = profile.stacks()[3..5].iter();
            stacks
                .map(|stack| shape(&entries(&profile, stack, markers)))
                .collect()
        };
        assert_eq!(
            shapes(true),
            ["c1 c1 c1 c1 c1 [IRQ] c1 [NMI] c1 c1", "c1 c1 c1 c1 ?1"]
        );
        assert_eq!(shapes(false)[0], "c1 c1 c1 c1 c1 c1 c1 c1");
        let running = profile.stacks().iter().map(|s| running_on(&profile, s));
        assert_eq!(
            running.take(4).collect::<Vec<_>>(),
            [
                StackKind::User,
                StackKind::Task,
                StackKind::Irq,
                StackKind::Nmi
            ]
        );
    }

    #[test]
    fn what_is_inlined_is_at_the_address_of_its_caller() {
        let profile = fixture::inlined();
        let shapes: Vec<_> = profile
            .stacks()
            .iter()
            .map(|stack| shape(&entries(&profile, stack, true)))
            .collect();
        assert_eq!(shapes, ["c2", "c2", "c1 c1"]);
    }

    proptest! {
        #[test]
        fn no_frame_is_lost_or_twice(profile in fixture::any_profile()) {
            for stack in profile.stacks() {
                let mut frames = Vec::new();
                for entry in entries(&profile, stack, true) {
                    match entry {
                        Entry::Code(ids) | Entry::NotUnwound(ids) => frames.extend_from_slice(ids),
                        Entry::Note(id) => frames.push(id),
                        Entry::Marker(_) => {}
                    }
                }
                prop_assert_eq!(&frames, &stack.frames);
            }
        }
    }
}
