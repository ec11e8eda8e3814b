//! Two profiles whose strings and frames have the same ids, so that they can be compared.

use super::{Frame, FrameId, Profile, WeightedStack};

impl Profile {
    /// Two profiles as they are, but for ids: a string or a frame that both have is the same in
    /// both.
    #[must_use]
    pub fn side_by_side(before: &Self, after: &Self) -> [Self; 2] {
        let mut both = after.clone();
        let taken_over: Vec<FrameId> = before
            .frames
            .iter()
            .map(|(frame, _)| both.take_over(before, frame))
            .collect();
        let stacks = before.stacks.iter().map(|stack| WeightedStack {
            comm: both.intern(before.text(stack.comm)),
            frames: stack
                .frames
                .iter()
                .map(|id| taken_over[id.0 as usize])
                .collect(),
            ..*stack
        });
        let stacks = stacks.collect();
        let after_stacks = std::mem::take(&mut both.stacks);
        [
            both.with_stacks(before.meta.clone(), stacks),
            both.with_stacks(after.meta.clone(), after_stacks),
        ]
    }

    /// The frame of another profile in this one.
    pub(crate) fn take_over(&mut self, other: &Self, frame: &Frame) -> FrameId {
        let name = frame.name.map(|name| self.intern(other.text(name)));
        let module = frame.module.map(|module| self.intern(other.text(module)));
        let source = frame
            .source
            .map(|(file, line)| (self.intern(other.text(file)), line));
        let object = frame
            .object
            .map(|object| self.intern_object(other.object(object).clone()));
        self.intern_frame(Frame {
            name,
            module,
            source,
            object,
            ..*frame
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{
        output::folded,
        profile::{Profile, fixture},
    };

    fn shown(profile: &Profile) -> String {
        let mut out = Vec::new();
        folded::write(profile, &folded::Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn both_are_as_they_were(before in fixture::any_profile(), after in fixture::any_profile()) {
            let pair = Profile::side_by_side(&before, &after);
            prop_assert_eq!(shown(&pair[0]), shown(&before));
            prop_assert_eq!(shown(&pair[1]), shown(&after));
            prop_assert_eq!(&pair[0].meta, &before.meta);
            // The same function has the same id in both.
            let [mut a, mut b] = pair;
            for text in ["a", "all", "[IRQ]", "[not unwound]"] {
                let (id, other) = (a.intern(text), b.intern(text));
                if a.text(id) == b.text(id) {
                    prop_assert_eq!(id, other);
                }
            }
        }
    }
}
