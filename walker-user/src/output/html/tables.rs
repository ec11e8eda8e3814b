//! The tables of a page, recorded or live: texts, labels, frames, objects, the heads of stacks and why walks stopped,
//! each stored once and named by its index.
//!
//! Everything that is to be shown is decided here from the profile's labels, as the other outputs
//! do: names, colours, words, and the order of siblings.

use rustc_hash::FxHashMap;
use walker_common::StackKind;

use super::super::palette::{CHANGES, Group, SHADES, change_fill, shade_of};
use super::super::stands_for;
use super::columns::Columns;
use super::printable;
use crate::numbered::Numbered;
use crate::profile::{
    Frame, FrameClass, FrameId, Label, NOT_UNWOUND, Profile, WeightedStack, view::thread_name,
};

/// What a frame of a picture is merged and shown by, as [`Label`] is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LabelRow {
    pub(crate) name: u32,
    pub(crate) class: FrameClass,
    pub(crate) reliable: bool,
    pub(crate) inlined: bool,
}

/// What the page tells of a frame. Indices are one more than they are, 0 is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FrameRow {
    pub(crate) label: u32,
    pub(crate) module: u32,
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) object: u32,
    /// 0 if addresses are not told.
    pub(crate) address: u64,
}

/// Where a stack begins: labels, of which the event's is one more than it is, 0 for none. Of the
/// others the page shows one: the process by name, by name and PID, or the thread by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HeadRow {
    pub(crate) event: u32,
    pub(crate) name: u32,
    pub(crate) process: u32,
    pub(crate) thread: u32,
}

/// The tables while they grow.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) texts: Numbered<String>,
    pub(crate) labels: Numbered<LabelRow>,
    pub(crate) frames: Numbered<FrameRow>,
    pub(crate) heads: Numbered<HeadRow>,
    pub(crate) objects: Numbered<(String, Option<String>)>,
    pub(crate) stops: Numbered<(&'static str, bool)>,
    frame_rows: FxHashMap<FrameId, u32>,
    addresses: bool,
}

impl Tables {
    /// The tables with what every page needs, with or without the addresses of frames: label 0 is the root's, the next are the markers' in
    /// the order of [`StackKind::ALL`].
    pub(crate) fn new(addresses: bool) -> Self {
        let mut tables = Self {
            texts: Numbered::default(),
            labels: Numbered::default(),
            frames: Numbered::default(),
            heads: Numbered::default(),
            objects: Numbered::default(),
            stops: Numbered::default(),
            frame_rows: FxHashMap::default(),
            addresses,
        };
        tables.label("all", FrameClass::Process);
        for kind in StackKind::ALL {
            tables.label(&format!("[{}]", kind.name()), FrameClass::Marker(kind));
        }
        tables
    }

    fn text(&mut self, text: &str) -> u32 {
        self.texts.number(printable(text))
    }

    fn label(&mut self, name: &str, class: FrameClass) -> u32 {
        let name = self.text(name);
        self.labels.number(LabelRow {
            name,
            class,
            reliable: true,
            inlined: false,
        })
    }

    /// The index of the name of a stack's thread.
    pub(super) fn comm(&mut self, profile: &Profile, stack: u32) -> u32 {
        let comm = profile.stacks()[stack as usize].comm;
        self.text(profile.text(comm))
    }

    /// The index of what a stack begins with.
    pub(crate) fn head(&mut self, profile: &Profile, stack: &WeightedStack) -> u32 {
        let events = &profile.meta.events;
        let event = match events.get(stack.event) {
            Some(event) if events.len() > 1 => self.label(event, FrameClass::Event) + 1,
            _ => 0,
        };
        let text = profile.text(stack.process);
        let name = self.label(text, FrameClass::Process);
        let process = match stack.pid {
            Some(pid) => self.label(&format!("{text} ({pid})"), FrameClass::Process),
            None => name,
        };
        let thread = thread_name(text, profile.text(stack.comm));
        let thread = self.label(&thread, FrameClass::Process);
        self.heads.number(HeadRow {
            event,
            name,
            process,
            thread,
        })
    }

    /// The index of a frame.
    pub(crate) fn frame(&mut self, profile: &Profile, id: FrameId) -> u32 {
        if let Some(&row) = self.frame_rows.get(&id) {
            return row;
        }
        let Label {
            name,
            class,
            reliable,
            inlined,
        } = profile.label(id);
        let Frame {
            module,
            source,
            object,
            address,
            ..
        } = *profile.frame(id);
        let name = self.text(profile.text(name));
        let label = self.labels.number(LabelRow {
            name,
            class,
            reliable,
            inlined,
        });
        let row = self.labels.rows()[label as usize].clone();
        self.collapsed(&row);
        let object = object.map_or(0, |object| {
            let object = profile.object(object);
            let path = printable(&object.path.to_string_lossy());
            let build_id = object.build_id.as_ref().map(ToString::to_string);
            self.objects.number((path, build_id)) + 1
        });
        let mut named = |text| self.text(profile.text(text)) + 1;
        let row = FrameRow {
            label,
            module: module.map_or(0, &mut named),
            file: source.map_or(0, |(file, _)| named(file)),
            line: source.map_or(0, |(_, line)| line),
            object,
            address: if self.addresses { address } else { 0 },
        };
        let row = self.frames.number(row);
        self.frame_rows.insert(id, row);
        row
    }

    /// The label that neighbours in doubt with this label are shown as, together; of others the label
    /// itself.
    pub(crate) fn collapsed(&mut self, label: &LabelRow) -> u32 {
        let mut whole = label.clone();
        if !label.reliable {
            whole.name = self.text(NOT_UNWOUND);
        }
        self.labels.number(whole)
    }

    /// The index of the words that say what a label stands for.
    pub(crate) fn words(&mut self, label: &LabelRow) -> u32 {
        self.text(&stands_for(label.class, label.inlined))
    }

    /// Which of its group's shades a label has.
    pub(crate) fn shade(&self, label: &LabelRow) -> usize {
        shade_of(&self.texts.rows()[label.name as usize])
    }

    /// Adds the columns of all tables; those of texts, objects and stops are no numbers.
    pub(super) fn push_columns(&mut self, columns: &mut Columns) {
        // Children of one node are shown in the order of their labels, as `CallTree` has them.
        let labels: Vec<LabelRow> = self.labels.rows().to_vec();
        let mut by_name: Vec<u32> = (0..labels.len() as u32).collect();
        by_name.sort_unstable_by_key(|&label| {
            let label = &labels[label as usize];
            let name = &self.texts.rows()[label.name as usize];
            (name, label.class, label.reliable, label.inlined)
        });
        let mut ranks = vec![0; labels.len()];
        for (rank, &label) in by_name.iter().enumerate() {
            ranks[label as usize] = rank as u64;
        }
        let shades = labels.iter().map(|label| self.shade(label) as u64);
        let shades: Vec<u64> = shades.collect();
        let collapsed = labels.iter().map(|label| self.collapsed(label).into());
        let collapsed: Vec<u64> = collapsed.collect();
        let words = labels.iter().map(|label| self.words(label).into());
        let words: Vec<u64> = words.collect();
        columns.push("labelName", labels.iter().map(|label| label.name.into()));
        columns.push(
            "labelClass",
            labels.iter().map(|label| label.class_and_kind().0),
        );
        columns.push(
            "labelKind",
            labels.iter().map(|label| label.class_and_kind().1),
        );
        columns.push("labelGroup", labels.iter().map(LabelRow::group));
        columns.push("labelFlags", labels.iter().map(LabelRow::flags));
        columns.push("labelShade", shades);
        columns.push("labelRank", ranks);
        columns.push("labelCollapsed", collapsed);
        columns.push("labelWords", words);
        let frames = self.frames.rows();
        columns.push("frameLabel", frames.iter().map(|frame| frame.label.into()));
        columns.push(
            "frameModule",
            frames.iter().map(|frame| frame.module.into()),
        );
        columns.push("frameFile", frames.iter().map(|frame| frame.file.into()));
        columns.push("frameLine", frames.iter().map(|frame| frame.line.into()));
        columns.push(
            "frameObject",
            frames.iter().map(|frame| frame.object.into()),
        );
        let heads = self.heads.rows();
        columns.push("headEvent", heads.iter().map(|head| head.event.into()));
        columns.push("headName", heads.iter().map(|head| head.name.into()));
        columns.push("headProcess", heads.iter().map(|head| head.process.into()));
        columns.push("headThread", heads.iter().map(|head| head.thread.into()));
    }
}

impl LabelRow {
    /// The numbers of its class and of its kind of stack, as `js/model.js` names them.
    pub(crate) fn class_and_kind(&self) -> (u64, u64) {
        let kind = |kind| StackKind::ALL.iter().position(|other| *other == kind);
        match self.class {
            FrameClass::Process => (0, 0),
            FrameClass::User => (1, 0),
            FrameClass::Kernel(stack) => (2, kind(stack).unwrap_or(0) as u64),
            FrameClass::Marker(stack) => (3, kind(stack).unwrap_or(0) as u64),
            FrameClass::Event => (4, 0),
            FrameClass::Note => (5, 0),
        }
    }

    /// The number of its group of colours.
    pub(crate) fn group(&self) -> u64 {
        let group = Group::of(self.class);
        let number = Group::ALL.iter().position(|other| *other == group);
        number.unwrap_or(0) as u64
    }

    /// 1 for reliable, 2 for inlined.
    pub(crate) fn flags(&self) -> u64 {
        u64::from(self.reliable) | u64::from(self.inlined) << 1
    }
}

/// Of each group of colours its name, and its shades in the light and in the dark theme.
pub(crate) fn groups() -> Vec<(&'static str, [Vec<String>; 2])> {
    let shades = |group: Group, dark| (0..SHADES).map(|shade| group.shade(dark, shade)).collect();
    let group = |group: Group| (group.name(), [shades(group, false), shades(group, true)]);
    Group::ALL.map(group).to_vec()
}

/// The colours of changes in the light and in the dark theme, from what shrank to what grew.
pub(crate) fn changes() -> [Vec<String>; 2] {
    let fills = |dark| (0..CHANGES).map(|level| change_fill(dark, level)).collect();
    [fills(false), fills(true)]
}
