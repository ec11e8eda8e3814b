//! The functions of a profile, and what each of them weighs: by itself, and with all that it
//! calls.

use super::{FrameClass, FrameId, Profile, SymbolId};

/// What reports count as one function: the same name in the same module on the same kind of
/// stack. A function that was inlined is the same as where it was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its name. All that could not be unwound is one function, `[not unwound]`.
    pub name: SymbolId,
    /// See [`Frame::module`](super::Frame::module).
    pub module: Option<SymbolId>,
    /// What kind of code it is, and on which stack. What is said about an event counts as a
    /// function too, as the weight of a wait or an interrupt is that of what is said.
    pub class: FrameClass,
}

/// The functions of a profile.
#[derive(Debug, Clone)]
pub struct Functions {
    list: Vec<Function>,
    /// Of each frame, its function.
    of_frame: Vec<u32>,
}

/// What a function weighs, in [`Meta::unit`](super::Meta::unit).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionWeight {
    /// Of the samples of which it is the innermost.
    pub own: u64,
    /// Of the samples in which it is, each once however often it is in there.
    pub total: u64,
    /// How many these samples are.
    pub samples: u64,
}

impl Functions {
    /// The functions of `profile`.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let mut indices = rustc_hash::FxHashMap::default();
        let mut list = Vec::new();
        let of_frame = profile.frames.iter().map(|(frame, label)| {
            let function = match frame.reliable {
                true => Function {
                    name: label.name,
                    module: frame.module,
                    class: frame.class,
                },
                false => Function {
                    name: profile.not_unwound,
                    module: None,
                    class: frame.class,
                },
            };
            *indices.entry(function).or_insert_with(|| {
                list.push(function);
                list.len() as u32 - 1
            })
        });
        let of_frame = of_frame.collect();
        Self { list, of_frame }
    }

    /// All functions, in the order in which frames first had them.
    #[must_use]
    pub fn list(&self) -> &[Function] {
        &self.list
    }

    /// The index in [`Functions::list`] of a frame's function.
    ///
    /// # Panics
    ///
    /// May panic if the frame is of another profile.
    #[must_use]
    pub fn index(&self, frame: FrameId) -> usize {
        self.of_frame[frame.0 as usize] as usize
    }

    /// What each function weighs, in the order of [`Functions::list`].
    #[must_use]
    pub fn weigh(&self, profile: &Profile) -> Vec<FunctionWeight> {
        self.weigh_by(profile, self.list.len(), |frame| self.index(frame))
    }

    /// What groups of frames weigh, of which there are `count`: a sample counts once for each
    /// group of which it has a frame.
    #[must_use]
    pub fn weigh_by(
        &self,
        profile: &Profile,
        count: usize,
        group: impl Fn(FrameId) -> usize,
    ) -> Vec<FunctionWeight> {
        let mut weights = vec![FunctionWeight::default(); count];
        // The last stack that was counted for each group, from 1.
        let mut counted = vec![0; count];
        for (number, stack) in profile.stacks().iter().enumerate() {
            for &frame in &stack.frames {
                let group = group(frame);
                if counted[group] != number + 1 {
                    counted[group] = number + 1;
                    weights[group].total += stack.weight;
                    weights[group].samples += stack.samples;
                }
            }
            if let Some(&leaf) = stack.frames.last() {
                weights[group(leaf)].own += stack.weight;
            }
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::Functions;
    use crate::profile::{FrameClass, Profile, fixture};

    fn shown(profile: &Profile) -> Vec<(&str, u64, u64)> {
        let functions = Functions::of(profile);
        let weights = functions.weigh(profile);
        let rows = functions.list().iter().zip(weights);
        rows.map(|(function, weight)| (profile.text(function.name), weight.own, weight.total))
            .collect()
    }

    #[test]
    fn functions_weigh_what_their_samples_weigh() {
        assert_eq!(
            shown(&fixture::profile()),
            [
                ("_start", 0, 92),
                ("parse<int; char>(a)", 50, 92),
                ("libc.so.6+0x1d", 6, 6),
                ("entry_SYSCALL_64_after_hwframe", 0, 42),
                ("do_syscall_64", 10, 42),
                ("[not unwound]", 5, 5),
                ("asm_sysvec_apic_timer_interrupt", 0, 27),
                ("__sysvec_apic_timer_interrupt", 7, 27),
                ("asm_exc_nmi", 0, 20),
                ("perf_event_nmi_handler", 20, 20),
                ("[unknown]", 2, 2),
            ]
        );
    }

    #[test]
    fn an_inlined_function_is_the_same_where_it_was_called() {
        assert_eq!(shown(&fixture::inlined()), [("main", 0, 6), ("step", 6, 6)]);
    }

    #[test]
    fn recursion_counts_once() {
        let mut profile = fixture::inlined();
        let mut stack = profile.stacks()[0].clone();
        stack.frames = [&stack.frames[..], &stack.frames[..]].concat();
        profile.push(stack);
        assert_eq!(shown(&profile), [("main", 0, 9), ("step", 9, 9)]);
        let functions = Functions::of(&profile);
        assert_eq!(functions.list()[0].class, FrameClass::User);
        assert_eq!(functions.weigh(&profile)[0].samples, 9);
    }
}
