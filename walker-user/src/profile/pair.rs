//! Two profiles whose strings and frames have the same ids, so that they can be compared. The same
//! code has the same name in both, whichever build it is of.

use std::borrow::Cow;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Frame, FrameClass, FrameId, Profile, SymbolId, WeightedStack, build_names};

/// The names of two profiles that stand for the same: what each is called in both.
#[derive(Debug, Default)]
struct Renames {
    modules: FxHashMap<String, String>,
    processes: FxHashMap<String, String>,
}

impl Renames {
    fn of(before: &Profile, after: &Profile) -> Self {
        let modules = [before, after].map(|profile| {
            let user = profile.frames.iter().map(|(frame, _)| frame);
            let user = user.filter(|frame| frame.class == FrameClass::User);
            let modules = user.filter_map(|frame| Some(profile.text(frame.module?)));
            modules
                .filter(|module| !module.starts_with('['))
                .collect::<FxHashSet<_>>()
        });
        let processes = [before, after].map(|profile| {
            let stacks = profile.stacks.iter();
            stacks
                .flat_map(|stack| [stack.process, stack.comm])
                .map(|name| profile.text(name))
                .collect::<FxHashSet<_>>()
        });
        Self {
            modules: renamed(&modules),
            processes: renamed(&processes),
        }
    }
}

/// What names that only one side has are called in both: what they have in common but for the hash
/// of a build; if a single one is left on each side, that it was renamed.
fn renamed(sides: &[FxHashSet<&str>; 2]) -> FxHashMap<String, String> {
    let only = [0, 1].map(|side: usize| {
        let names = sides[side].iter().copied();
        let mut names: Vec<&str> = names
            .filter(|name| !sides[1 - side].contains(name))
            .collect();
        names.sort_unstable();
        names
    });
    let plain = only.each_ref().map(|names| {
        let plain = names.iter().map(|name| build_names::of_file(name));
        plain.collect::<FxHashSet<Cow<'_, str>>>()
    });
    let mut renamed = FxHashMap::default();
    let left = [0, 1].map(|side: usize| {
        let mut left = Vec::new();
        for name in &only[side] {
            let common = build_names::of_file(name);
            if plain[1 - side].contains(&common) {
                renamed.insert((*name).to_owned(), common.into_owned());
            } else {
                left.push(*name);
            }
        }
        left
    });
    if let ([before], [after]) = (&left[0][..], &left[1][..]) {
        let both = format!("{before} → {after}");
        renamed.insert((*before).to_owned(), both.clone());
        renamed.insert((*after).to_owned(), both);
    }
    renamed
}

impl Profile {
    /// Two profiles with one numbering of strings and frames. Functions are called by their
    /// [name without clones](build_names::of_function); an object file or a process that only one of
    /// the two has is called as its counterpart in the other, if it is clear which that is.
    #[must_use]
    pub fn side_by_side(before: &Self, after: &Self) -> [Self; 2] {
        let renames = Renames::of(before, after);
        let mut both = Self::new(after.meta.clone());
        let stacks = [before, after].map(|side| {
            let frames = side.frames.iter();
            let frames: Vec<FrameId> = frames
                .map(|(frame, _)| both.take_over_renamed(side, frame, &renames))
                .collect();
            let stacks = side.stacks.iter().map(|stack| {
                let mut process = |name| {
                    let name = side.text(name);
                    let renamed = renames.processes.get(name);
                    both.intern(renamed.map_or(name, String::as_str))
                };
                WeightedStack {
                    process: process(stack.process),
                    comm: process(stack.comm),
                    frames: { stack.frames.iter() }
                        .map(|id| frames[id.index()])
                        .collect(),
                    ..*stack
                }
            });
            stacks.collect::<Vec<_>>()
        });
        let [before_stacks, after_stacks] = stacks;
        [
            both.with_stacks(before.meta.clone(), before_stacks),
            both.with_stacks(after.meta.clone(), after_stacks),
        ]
    }

    fn take_over_renamed(&mut self, other: &Self, frame: &Frame, renames: &Renames) -> FrameId {
        let name = frame.name.map(|name| {
            let name = other.text(name);
            self.intern(&build_names::of_function(name))
        });
        let module = frame.module.map(|module| {
            let module = other.text(module);
            let renamed = renames.modules.get(module);
            let renamed = renamed.filter(|_| frame.class == FrameClass::User);
            self.intern(renamed.map_or(module, String::as_str))
        });
        self.take_over_as(other, frame, name, module)
    }

    /// The frame of another profile in this one.
    pub(crate) fn take_over(&mut self, other: &Self, frame: &Frame) -> FrameId {
        let name = frame.name.map(|name| self.intern(other.text(name)));
        let module = frame.module.map(|module| self.intern(other.text(module)));
        self.take_over_as(other, frame, name, module)
    }

    /// The frame of another profile, with this name and module.
    fn take_over_as(
        &mut self,
        other: &Self,
        frame: &Frame,
        name: Option<SymbolId>,
        module: Option<SymbolId>,
    ) -> FrameId {
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
        profile::{FrameClass, Meta, Profile, WeightedStack, fixture, functions::Functions},
    };

    fn shown(profile: &Profile) -> String {
        let mut out = Vec::new();
        folded::write(profile, &folded::Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A profile of one stack of a process.
    fn profile(comm: &str, module: &str, functions: &[&str]) -> Profile {
        let mut profile = Profile::new(Meta::default());
        let comm = profile.intern(comm);
        let frames = { functions.iter() }
            .map(|name| fixture::frame(&mut profile, FrameClass::User, name, Some(module)))
            .collect();
        profile.push(WeightedStack {
            process: comm,
            comm,
            pid: None,
            frames,
            event: 0,
            samples: 1,
            weight: 1,
            stop: "",
            complete: true,
        });
        profile
    }

    fn functions(profile: &Profile) -> Vec<(String, String)> {
        let functions = Functions::of(profile);
        let shown = functions.list().iter().map(|function| {
            let module = function.module.unwrap();
            (
                profile.text(function.name).to_owned(),
                profile.text(module).to_owned(),
            )
        });
        shown.collect()
    }

    #[test]
    fn the_same_function_has_one_name_in_both_builds() {
        let before = profile("bench-1a2b", "bench-1a2b", &["main", "stir(int)"]);
        let after = profile(
            "bench-9c3d",
            "bench-9c3d",
            &["main", "stir(int) [clone .constprop.0]"],
        );
        let [before, after] = Profile::side_by_side(&before, &after);
        assert_eq!(shown(&before), "bench-#;main;stir(int) 1\n");
        assert_eq!(shown(&before), shown(&after));
        let same = [("main", "bench-#"), ("stir(int)", "bench-#")];
        let same = same.map(|(name, module)| (name.to_owned(), module.to_owned()));
        let list = functions(&after);
        assert!(
            same.iter().all(|function| list.contains(function)),
            "{list:?}"
        );
        let weights = Functions::of(&before).weigh(&before);
        let used = weights.iter().filter(|weight| weight.samples > 0);
        assert_eq!(used.count(), 2);
    }

    #[test]
    fn a_program_that_was_renamed_is_one_only_if_it_is_clear_which() {
        let before = profile("old", "old", &["main"]);
        let [renamed, _] = Profile::side_by_side(&before, &profile("new", "new", &["main"]));
        assert_eq!(shown(&renamed), "old → new;main 1\n");
        let mut after = profile("new", "new", &["main"]);
        let other = profile("other", "other", &["main"]);
        let frame = after.take_over(&other, &other.frames[0].0);
        let comm = after.intern("other");
        let stack = after.stacks()[0].clone();
        after.push(WeightedStack {
            comm,
            frames: vec![frame],
            ..stack
        });
        let [kept, _] = Profile::side_by_side(&before, &after);
        assert_eq!(shown(&kept), "old;main 1\n");
    }

    proptest! {
        #[test]
        fn what_both_have_is_as_it_was(before in fixture::any_profile(), after in fixture::any_profile()) {
            let pair = Profile::side_by_side(&before, &after);
            let renames = super::Renames::of(&before, &after);
            if renames.modules.is_empty() && renames.processes.is_empty() {
                prop_assert_eq!(shown(&pair[0]), shown(&before));
                prop_assert_eq!(shown(&pair[1]), shown(&after));
            }
            prop_assert_eq!(pair[0].weight(), before.weight());
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
