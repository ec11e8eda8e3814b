//! What every function, stack kind and call path weighs in each run, with names that are the same in all
//! builds, so that runs can be compared.
//!
//! Stacks are kept as a tree of functions by [name that builds have in common](build_names); of each run only what its
//! stacks weigh. What a change of that means is the business of [`super::compare`].

use rustc_hash::FxHashMap;

use crate::{
    numbered::Numbered,
    profile::{FrameClass, FrameId, NOT_UNWOUND, Profile, build_names},
};

/// Most call paths that are told apart. What goes on from others ends with them.
const MAX_PATHS: usize = 1 << 22;

/// A function, whichever build it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name where it was seen last, with all that compilers put behind it.
    pub name: String,
    /// What code it is, and on which stack.
    pub class: FrameClass,
    /// Its module where it was seen last; `None` for the kernel image itself.
    pub module: Option<String>,
}

/// What of the stacks is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// The kernel's part only, whoever called it.
    pub kernel_only: bool,
}

/// Functions and call paths of all runs so far.
#[derive(Debug, Default)]
pub struct Space {
    scope: Scope,
    functions: Vec<Function>,
    ids: FxHashMap<(String, FrameClass), u32>,
    /// Each with the number of its parent + 1, or 0, and its function.
    nodes: Numbered<(u32, u32)>,
}

/// What a run weighs, in the unit of its profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    /// All of it that is compared.
    pub whole: f64,
    /// What of that is in code of the kernel without a name.
    pub nameless: f64,
    /// The samples of that.
    pub samples: u64,
    /// Of the functions by number: that in which they are innermost, and all in which they are.
    pub functions: FxHashMap<u32, [f64; 2]>,
    /// By the class of the innermost function.
    pub classes: FxHashMap<FrameClass, f64>,
    /// Of call paths by number: that of which they are all.
    pub paths: FxHashMap<u32, f64>,
}

impl Space {
    /// No function is known.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// The functions by number.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// How many call paths there are.
    #[must_use]
    pub fn paths(&self) -> usize {
        self.nodes.rows().len()
    }

    /// The path that a path goes on.
    #[must_use]
    pub fn parent(&self, path: u32) -> Option<u32> {
        self.nodes.rows()[path as usize].0.checked_sub(1)
    }

    /// The functions of a path, innermost first.
    pub fn path(&self, path: u32) -> impl Iterator<Item = u32> {
        let at = |node: u32| self.nodes.rows()[node as usize];
        let mut next = Some(path);
        std::iter::from_fn(move || {
            let (parent, function) = at(next?);
            next = parent.checked_sub(1);
            Some(function)
        })
    }

    /// The functions of a path, root first.
    #[must_use]
    pub fn way(&self, path: u32) -> Vec<u32> {
        let mut way: Vec<u32> = self.path(path).collect();
        way.reverse();
        way
    }

    /// Adds a run.
    pub fn add(&mut self, profile: &Profile) -> Sums {
        let mut sums = Sums::default();
        // Frames and names of processes are many times in stacks.
        let frames: Vec<Option<u32>> = profile.frames().map(|id| self.frame(profile, id)).collect();
        let mut processes = FxHashMap::default();
        let mut seen: Vec<u32> = Vec::new();
        let mut counted: Vec<u32> = Vec::new();
        for (number, stack) in (1..).zip(profile.stacks()) {
            if stack.weight == 0 && stack.samples == 0 {
                continue;
            }
            seen.clear();
            if !self.scope.kernel_only {
                seen.push(*processes.entry(stack.process).or_insert_with(|| {
                    let name = profile.text(stack.process);
                    let key = build_names::of_process(name).into_owned();
                    self.function(key, name, FrameClass::Process, None)
                }));
            }
            for id in &stack.frames {
                let Some(function) = frames[id.index()] else {
                    continue;
                };
                // All that could not be unwound is one.
                if Some(&function) != seen.last() || profile.frame(*id).reliable {
                    seen.push(function);
                }
            }
            let weight = stack.weight as f64;
            if seen.is_empty() {
                continue;
            }
            sums.whole += weight;
            let leaf = stack.frames.last().map(|id| profile.frame(*id));
            if leaf.is_some_and(|leaf| {
                leaf.name.is_none() && matches!(leaf.class, FrameClass::Kernel(_))
            }) {
                sums.nameless += weight;
            }
            sums.samples += stack.samples;
            counted.resize(self.functions.len(), 0);
            let mut node = 0;
            for function in &seen {
                node = self.node(node, *function) + 1;
                let last = &mut counted[*function as usize];
                if *last != number {
                    *last = number;
                    sums.functions.entry(*function).or_default()[1] += weight;
                }
            }
            if let Some(leaf) = seen.last() {
                sums.functions.entry(*leaf).or_default()[0] += weight;
                let class = self.functions[*leaf as usize].class;
                *sums.classes.entry(class).or_default() += weight;
            }
            *sums.paths.entry(node - 1).or_default() += weight;
        }
        sums
    }

    /// The function of a frame; `None` if it is not compared.
    fn frame(&mut self, profile: &Profile, id: FrameId) -> Option<u32> {
        let frame = profile.frame(id);
        if self.scope.kernel_only && frame.class == FrameClass::User {
            return None;
        }
        if !frame.reliable {
            return Some(self.function(NOT_UNWOUND.to_owned(), NOT_UNWOUND, frame.class, None));
        }
        let name = profile.text(profile.label(id).name);
        let module = frame.module.map(|module| profile.text(module));
        let key = build_names::of_function(name).into_owned();
        Some(self.function(key, name, frame.class, module))
    }

    fn function(
        &mut self,
        key: String,
        name: &str,
        class: FrameClass,
        module: Option<&str>,
    ) -> u32 {
        let next = self.functions.len() as u32;
        let id = *self.ids.entry((key, class)).or_insert(next);
        if id == next {
            self.functions.push(Function {
                name: name.to_owned(),
                class,
                module: module.map(str::to_owned),
            });
        }
        id
    }

    /// The path that goes on from a parent; where there are too many, the parent itself.
    fn node(&mut self, parent: u32, function: u32) -> u32 {
        match self.nodes.rows().len() < MAX_PATHS {
            true => self.nodes.number((parent, function)),
            false => { self.nodes.known(&(parent, function)) }.unwrap_or(parent.saturating_sub(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use walker_common::StackKind;

    use super::*;
    use crate::profile::fixture;

    /// What the functions of a profile weigh, by name: by themselves and in all.
    fn weights(scope: Scope, profile: &Profile) -> Vec<(String, f64, f64)> {
        let mut space = Space::new(scope);
        let sums = space.add(profile);
        let name = |id: &u32| space.functions()[*id as usize].name.clone();
        let mut weights: Vec<_> = sums
            .functions
            .iter()
            .map(|(id, [own, total])| (name(id), *own, *total))
            .collect();
        weights.sort_by(|a, b| a.0.cmp(&b.0));
        let own: f64 = sums.functions.values().map(|[own, _]| own).sum();
        assert_eq!(sums.whole, own);
        weights
    }

    #[test]
    fn functions_weigh_the_same_as_in_a_report() {
        let profile = fixture::profile();
        let weights = weights(Scope::default(), &profile);
        let of = |name: &str| weights.iter().find(|row| row.0 == name).unwrap();
        assert_eq!(
            of("parse<int; char>(a)"),
            &("parse<int; char>(a)".to_owned(), 50.0, 92.0)
        );
        assert_eq!(of("do_syscall_64").2, 42.0);
        assert_eq!(of("perf_event_nmi_handler").1, 20.0);
        assert_eq!(of("cc1").2, 92.0);
        let own: f64 = weights.iter().map(|row| row.1).sum();
        assert_eq!(own, profile.weight() as f64);
    }

    #[test]
    fn the_kernel_can_be_compared_alone() {
        let scope = Scope { kernel_only: true };
        let profile = fixture::profile();
        let weights = weights(scope, &profile);
        assert!(
            weights
                .iter()
                .all(|row| row.0 != "cc1" && row.0 != "_start")
        );
        let total = |name: &str| weights.iter().find(|row| row.0 == name).unwrap().2;
        assert_eq!(total("do_syscall_64"), 42.0);
    }

    #[test]
    fn clones_and_other_processes_of_a_pool_are_the_same() {
        let mut space = Space::new(Scope::default());
        for (comm, clone) in [
            ("kworker/0:1", "f.isra.0"),
            ("kworker/1:7", "f.constprop.3"),
        ] {
            let mut profile = Profile::new(crate::profile::Meta::default());
            let class = FrameClass::Kernel(StackKind::Task);
            let frame = fixture::frame(&mut profile, class, clone, None);
            let comm = profile.intern(comm);
            profile.push(crate::profile::WeightedStack {
                process: comm,
                comm,
                pid: None,
                frames: vec![frame, frame],
                event: 0,
                samples: 1,
                weight: 1,
                stop: "",
                complete: true,
            });
            let sums = space.add(&profile);
            // Recursion counts once.
            assert_eq!(sums.functions[&0], [1.0, 1.0]);
        }
        assert_eq!(space.functions().len(), 2);
        assert_eq!(space.functions()[0].name, "f.isra.0");
        let path: Vec<u32> = space.path(2).collect();
        assert_eq!(path, [0, 0, 1]);
    }
}
