//! The result of a recording: distinct symbolized stacks, how often each was seen, and what was
//! lost on the way.
//!
//! Everything here is already symbolized and is held in memory; how stacks are captured and
//! unwound is the business of the layers before this one, how they are shown that of
//! [`crate::output`].

pub mod build_names;
pub mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod frame;
pub mod functions;
pub mod handlers;
mod named;
mod pair;
mod strings;
pub mod timeline;
pub mod tree;
pub mod view;

use std::{borrow::Cow, time::Duration};

use rustc_hash::FxHashMap;
use walker_common::StackKind;

pub use frame::{Frame, FrameClass, FrameId, Label, ObjectIndex, Origin, ProfileObject};
pub use strings::{Strings, SymbolId};
use tree::{CallTree, TreeBuilder};

/// The name of frames that were found by scanning a stack, wherever they are shown as one.
pub(crate) const NOT_UNWOUND: &str = "[not unwound]";

/// A distinct stack of one process and thread name, with its weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WeightedStack {
    /// The name of the process: what its main thread was called when its program was first seen.
    pub process: SymbolId,
    /// The name of the thread, its `comm`.
    pub comm: SymbolId,
    /// The process id, if the stack was not merged over processes.
    pub pid: Option<u32>,
    /// The frames **root first**: the outermost user frame (or the outermost kernel frame of a
    /// kernel thread) is first, the function that was running when the sample was taken is last.
    pub frames: Vec<FrameId>,
    /// Index of the event in [`Meta::events`]; 0 if there is one event.
    pub event: usize,
    /// How many samples had this stack.
    pub samples: u64,
    /// What they weigh together, in [`Meta::unit`].
    pub weight: u64,
    /// Why the walk ended, in a few words.
    pub stop: &'static str,
    /// Whether the walk ended where a stack ends, rather than where the unwinder had to give up.
    pub complete: bool,
}

/// Samples that went missing for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Why, in a few words.
    pub reason: Cow<'static, str>,
    /// How many samples.
    pub samples: u64,
}

/// Where the samples of a recording went; all figures count samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// How often the event fired.
    pub taken: u64,
    /// How many samples arrived in user space.
    pub delivered: u64,
    /// Samples that should have arrived but did not, by reason.
    pub lost: Vec<Missing>,
    /// Samples left out because the user asked for it, by reason.
    pub filtered: Vec<Missing>,
}

/// What the weight of a stack is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// In samples.
    #[default]
    Samples,
    /// In occurrences of the event, of which a sample can stand for many.
    Events,
    /// In nanoseconds.
    Nanoseconds,
}

/// What was recorded, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// What to call the recording in a heading.
    pub title: String,
    /// The sampling events, as `perf list` names them. If there are several, every listing begins
    /// with the event.
    pub events: Vec<String>,
    /// What weights are in.
    pub unit: Unit,
    /// Samples per second and CPU; `None` if the event is not sampled by frequency.
    pub frequency: Option<u64>,
    /// How long the recording ran.
    pub duration: Duration,
    /// Where the samples went.
    pub totals: Totals,
}

/// A recording.
#[derive(Debug, Clone)]
pub struct Profile {
    /// What was recorded, and how.
    pub meta: Meta,
    strings: Strings,
    root: SymbolId,
    events: Vec<SymbolId>,
    not_unwound: SymbolId,
    markers: [SymbolId; StackKind::ALL.len()],
    frames: Vec<(Frame, Label)>,
    frame_ids: FxHashMap<Frame, FrameId>,
    objects: Vec<ProfileObject>,
    object_ids: FxHashMap<ProfileObject, ObjectIndex>,
    stacks: Vec<WeightedStack>,
}

impl Profile {
    /// A profile without stacks.
    #[must_use]
    pub fn new(meta: Meta) -> Self {
        let mut strings = Strings::default();
        let events = match meta.events.as_slice() {
            [] | [_] => Vec::new(),
            events => events.iter().map(|name| strings.intern(name)).collect(),
        };
        Self {
            meta,
            root: strings.intern("all"),
            events,
            not_unwound: strings.intern(NOT_UNWOUND),
            markers: StackKind::ALL.map(|kind| strings.intern(&format!("[{}]", kind.name()))),
            strings,
            frames: Vec::new(),
            frame_ids: FxHashMap::default(),
            objects: Vec::new(),
            object_ids: FxHashMap::default(),
            stacks: Vec::new(),
        }
    }

    /// The id of `text` in this profile.
    pub fn intern(&mut self, text: &str) -> SymbolId {
        self.strings.intern(text)
    }

    /// The string with this id.
    ///
    /// # Panics
    ///
    /// May panic if the id comes from another profile.
    #[must_use]
    pub fn text(&self, id: SymbolId) -> &str {
        self.strings.get(id)
    }

    /// The id of `frame` in this profile.
    ///
    /// # Panics
    ///
    /// If there would be more than 2^32 distinct frames, or if `frame` names strings of another
    /// profile.
    pub fn intern_frame(&mut self, frame: Frame) -> FrameId {
        if let Some(&id) = self.frame_ids.get(&frame) {
            return id;
        }
        let id = FrameId(u32::try_from(self.frames.len()).expect("fewer than 2^32 frames"));
        let label = Label {
            name: self.label_text(&frame),
            class: frame.class,
            reliable: frame.reliable,
            inlined: frame.inlined,
        };
        self.frames.push((frame, label));
        self.frame_ids.insert(frame, id);
        id
    }

    /// The index of `object` in this profile.
    ///
    /// # Panics
    ///
    /// If there would be more than 2^32 distinct objects.
    pub fn intern_object(&mut self, object: ProfileObject) -> ObjectIndex {
        if let Some(&id) = self.object_ids.get(&object) {
            return id;
        }
        let id = u32::try_from(self.objects.len()).expect("fewer than 2^32 objects");
        self.objects.push(object.clone());
        self.object_ids.insert(object, ObjectIndex(id));
        ObjectIndex(id)
    }

    /// The object with this index.
    ///
    /// # Panics
    ///
    /// May panic if the index comes from another profile.
    #[must_use]
    pub fn object(&self, index: ObjectIndex) -> &ProfileObject {
        &self.objects[index.0 as usize]
    }

    /// A frame that is no code: something about the event that belongs to the stack.
    pub fn note(&mut self, text: &str) -> FrameId {
        let name = Some(self.intern(text));
        self.intern_frame(Frame {
            name,
            module: None,
            class: FrameClass::Note,
            inlined: false,
            source: None,
            reliable: true,
            address: 0,
            offset: 0,
            size: 0,
            object: None,
        })
    }

    /// A kernel frame without a symbol is called by its module, as `stackcollapse-perf.pl` does:
    /// by its address, it could not be merged with another sample of the same function. In user
    /// space the address in the file is what a later look at that file starts from.
    fn label_text(&mut self, frame: &Frame) -> SymbolId {
        let text = match (frame.name, frame.module) {
            (Some(name), _) => return name,
            (None, None) => "[unknown]".to_owned(),
            (None, Some(module)) => match (self.strings.get(module), frame.class) {
                (name, _) if name.starts_with('[') => return module,
                (module, FrameClass::User) => format!("{module}+{:#x}", frame.offset),
                (module, _) => format!("[{module}]"),
            },
        };
        self.strings.intern(&text)
    }

    /// The frame with this id.
    ///
    /// # Panics
    ///
    /// May panic if the id comes from another profile.
    #[must_use]
    pub fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.0 as usize].0
    }

    /// All frames, in the order of their [indices](FrameId::index).
    pub fn frames(&self) -> impl ExactSizeIterator<Item = FrameId> + use<> {
        (0..self.frames.len() as u32).map(FrameId)
    }

    /// All objects, in the order of their [indices](ObjectIndex::index).
    #[must_use]
    pub fn objects(&self) -> &[ProfileObject] {
        &self.objects
    }

    /// What the frame with this id is merged and shown by.
    ///
    /// # Panics
    ///
    /// May panic if the id comes from another profile.
    #[must_use]
    pub fn label(&self, id: FrameId) -> Label {
        self.frames[id.0 as usize].1
    }

    /// The frame, or if it is one of the kernel the same without its address.
    pub(crate) fn without_kernel_address(&mut self, id: FrameId) -> FrameId {
        let frame = *self.frame(id);
        match frame.class {
            FrameClass::Kernel(_) if frame.address != 0 => self.intern_frame(Frame {
                address: 0,
                offset: 0,
                ..frame
            }),
            _ => id,
        }
    }

    /// Adds a stack. Stacks that differ in nothing but their weight may be added more than once:
    /// every output merges them.
    pub fn push(&mut self, stack: WeightedStack) {
        self.stacks.push(stack);
    }

    /// Says how many samples the stack with this index has, and what they weigh.
    ///
    /// # Panics
    ///
    /// If there is no such stack.
    pub fn weigh(&mut self, index: usize, samples: u64, weight: u64) {
        let stack = &mut self.stacks[index];
        (stack.samples, stack.weight) = (samples, weight);
    }

    /// The same with other samples: how many each stack has, and what they weigh. Stacks without any
    /// are left out.
    #[must_use]
    pub fn weighed(&self, weights: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let stacks = self.stacks.iter().zip(weights);
        let stacks = stacks.filter(|(_, (samples, _))| *samples > 0);
        Self {
            meta: self.meta.clone(),
            strings: self.strings.clone(),
            events: self.events.clone(),
            frames: self.frames.clone(),
            frame_ids: self.frame_ids.clone(),
            objects: self.objects.clone(),
            object_ids: self.object_ids.clone(),
            stacks: stacks
                .map(|(stack, (samples, weight))| WeightedStack {
                    samples,
                    weight,
                    ..stack.clone()
                })
                .collect(),
            ..*self
        }
    }

    /// The stacks, in the order they were added.
    #[must_use]
    pub fn stacks(&self) -> &[WeightedStack] {
        &self.stacks
    }

    /// The sum of the weights of all stacks, in [`Meta::unit`].
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.weight).sum()
    }

    /// All samples.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.samples).sum()
    }

    /// The samples whose stack was walked to its end.
    #[must_use]
    pub fn complete_samples(&self) -> u64 {
        let complete = self.stacks.iter().filter(|stack| stack.complete);
        complete.map(|stack| stack.samples).sum()
    }

    /// What a listing shows of `stack`, root first: the event if there are several, the process, then
    /// the frames.
    ///
    /// With `markers`, a marker stands before the first kernel frame on another stack than the
    /// kernel frame before it, so that an interrupt is not taken for a call by the function it
    /// interrupted. A kernel that is entered on the task stack needs no marker.
    pub fn path(&self, stack: &WeightedStack, markers: bool) -> impl Iterator<Item = Label> {
        let labels = self.labels(stack, markers, false);
        labels.map(|(label, _)| label)
    }

    /// What a picture shows of `stack`: its [path](Profile::path) with all neighbouring unreliable
    /// frames as one, which says that the rest of the stack could not be unwound. A flame graph
    /// merges its frames with those of other stacks, and left-over words of a stack have no place
    /// there.
    pub fn picture(&self, stack: &WeightedStack, markers: bool) -> impl Iterator<Item = Label> {
        let labels = self.labels(stack, markers, true);
        labels.map(|(label, _)| label)
    }

    fn labels(
        &self,
        stack: &WeightedStack,
        markers: bool,
        collapse: bool,
    ) -> impl Iterator<Item = (Label, Origin)> {
        let process = Label {
            name: stack.process,
            class: FrameClass::Process,
            reliable: true,
            inlined: false,
        };
        let mut current = StackKind::Task;
        let mut collapsed = false;
        let frames = stack.frames.iter().flat_map(move |&id| {
            let mut label = self.label(id);
            let frame = self.frame(id);
            let mut origin = Origin {
                module: frame.module,
                source: frame.source,
            };
            let before = current;
            current = match label.class {
                FrameClass::Kernel(kind) => kind,
                FrameClass::Note => before,
                _ => StackKind::Task,
            };
            let follows_collapsed = collapsed;
            collapsed = collapse && !label.reliable;
            if collapsed && follows_collapsed {
                return None.into_iter().chain(None);
            }
            if collapsed {
                label.name = self.not_unwound;
                origin = Origin::default();
            }
            let marker =
                (markers && current != before && matches!(label.class, FrameClass::Kernel(_)))
                    .then(|| Label {
                        name: self.markers[current as usize],
                        class: FrameClass::Marker(current),
                        reliable: true,
                        inlined: false,
                    });
            let marker = marker.map(|marker| (marker, Origin::default()));
            marker.into_iter().chain(Some((label, origin)))
        });
        let event = self.events.get(stack.event).map(|&name| Label {
            name,
            class: FrameClass::Event,
            reliable: true,
            inlined: false,
        });
        let heads = event.into_iter().chain(Some(process));
        let heads = heads.map(|label| (label, Origin::default()));
        heads.chain(frames)
    }

    /// All stacks merged into one tree; `markers` is that of [`Profile::picture`].
    #[must_use]
    pub fn tree(&self, markers: bool) -> CallTree {
        let mut tree = TreeBuilder::new(Label {
            name: self.root,
            class: FrameClass::Process,
            reliable: true,
            inlined: false,
        });
        for stack in &self.stacks {
            tree.insert(self.labels(stack, markers, true), stack.weight);
        }
        tree.finish(&self.strings)
    }
}

#[cfg(test)]
mod tests;
