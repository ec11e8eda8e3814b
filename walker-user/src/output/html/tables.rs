//! The tables of a page: texts, labels, frames, objects, the heads of stacks and why walks stopped,
//! each stored once and named by its index.
//!
//! Everything that is to be shown is decided here from the profile's labels, as the other outputs
//! do: names, colours, words, and the order of siblings.

use rustc_hash::FxHashMap;
use walker_common::StackKind;

use super::super::palette::{Group, shade_of};
use super::super::stands_for;
use super::columns::Columns;
use super::shown;
use super::table::Table;
use crate::profile::{Frame, FrameClass, FrameId, Label, Profile, WeightedStack};

/// What a frame of a picture is merged and shown by, as [`Label`] is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LabelRow {
    name: u32,
    class: FrameClass,
    reliable: bool,
    inlined: bool,
}

/// What the page tells of a frame. Indices are one more than they are, 0 is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FrameRow {
    label: u32,
    module: u32,
    file: u32,
    line: u32,
    object: u32,
}

/// Where a stack begins: labels, of which the event's is one more than it is, 0 for none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HeadRow {
    event: u32,
    comm: u32,
    process: u32,
}

/// The tables while they grow.
#[derive(Debug)]
pub(super) struct Tables<'a> {
    profile: &'a Profile,
    pub(super) texts: Table<String>,
    labels: Table<LabelRow>,
    frames: Table<FrameRow>,
    heads: Table<HeadRow>,
    pub(super) objects: Table<(String, Option<String>)>,
    pub(super) stops: Table<(&'static str, bool)>,
    frame_rows: FxHashMap<FrameId, u32>,
}

impl<'a> Tables<'a> {
    /// The tables with what every page needs: label 0 is the root's, the next are the markers' in
    /// the order of [`StackKind::ALL`].
    pub(super) fn new(profile: &'a Profile) -> Self {
        let mut tables = Self {
            profile,
            texts: Table::new(),
            labels: Table::new(),
            frames: Table::new(),
            heads: Table::new(),
            objects: Table::new(),
            stops: Table::new(),
            frame_rows: FxHashMap::default(),
        };
        tables.label("all", FrameClass::Process);
        for kind in StackKind::ALL {
            tables.label(&format!("[{}]", kind.name()), FrameClass::Marker(kind));
        }
        tables
    }

    fn text(&mut self, text: &str) -> u32 {
        self.texts.id(shown(text))
    }

    fn label(&mut self, name: &str, class: FrameClass) -> u32 {
        let name = self.text(name);
        self.labels.id(LabelRow {
            name,
            class,
            reliable: true,
            inlined: false,
        })
    }

    /// The index of the name of a stack's process.
    pub(super) fn comm(&mut self, stack: u32) -> u32 {
        let comm = self.profile.stacks()[stack as usize].comm;
        self.text(self.profile.text(comm))
    }

    /// The index of what a stack begins with.
    pub(super) fn head(&mut self, stack: &WeightedStack) -> u32 {
        let profile = self.profile;
        let events = &profile.meta.events;
        let event = match events.get(stack.event) {
            Some(event) if events.len() > 1 => self.label(event, FrameClass::Event) + 1,
            _ => 0,
        };
        let name = profile.text(stack.comm);
        let comm = self.label(name, FrameClass::Process);
        let process = match stack.pid {
            Some(pid) => self.label(&format!("{name} ({pid})"), FrameClass::Process),
            None => comm,
        };
        self.heads.id(HeadRow {
            event,
            comm,
            process,
        })
    }

    /// The index of a frame.
    pub(super) fn frame(&mut self, id: FrameId) -> u32 {
        if let Some(&row) = self.frame_rows.get(&id) {
            return row;
        }
        let profile = self.profile;
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
            ..
        } = *profile.frame(id);
        let name = self.text(profile.text(name));
        let label = self.labels.id(LabelRow {
            name,
            class,
            reliable,
            inlined,
        });
        if !reliable {
            // What neighbours in doubt are shown as, together.
            let name = self.text("[not unwound]");
            self.labels.id(LabelRow {
                name,
                class,
                reliable,
                inlined,
            });
        }
        let object = object.map_or(0, |object| {
            let object = profile.object(object);
            let path = shown(&object.path.to_string_lossy());
            let build_id = object.build_id.as_ref().map(ToString::to_string);
            self.objects.id((path, build_id)) + 1
        });
        let mut named = |text| self.text(profile.text(text)) + 1;
        let row = FrameRow {
            label,
            module: module.map_or(0, &mut named),
            file: source.map_or(0, |(file, _)| named(file)),
            line: source.map_or(0, |(_, line)| line),
            object,
        };
        let row = self.frames.id(row);
        self.frame_rows.insert(id, row);
        row
    }

    /// Adds the columns of all tables; those of texts, objects and stops are no numbers.
    pub(super) fn push_columns(&mut self, columns: &mut Columns) {
        // Children of one node are shown in the order of their labels, as `CallTree` has them.
        let labels: Vec<LabelRow> = self.labels.list().to_vec();
        let mut by_name: Vec<u32> = (0..labels.len() as u32).collect();
        by_name.sort_unstable_by_key(|&label| {
            let label = &labels[label as usize];
            let name = &self.texts.list()[label.name as usize];
            (name, label.class, label.reliable, label.inlined)
        });
        let mut ranks = vec![0; labels.len()];
        for (rank, &label) in by_name.iter().enumerate() {
            ranks[label as usize] = rank as u64;
        }
        let name = |label: &LabelRow| self.texts.list()[label.name as usize].as_str();
        let shades = labels.iter().map(|label| shade_of(name(label)) as u64);
        let shades: Vec<u64> = shades.collect();
        let collapsed: Vec<u64> = labels
            .iter()
            .map(|label| match label.reliable {
                true => self.labels.id(label.clone()).into(),
                false => {
                    let name = self.text("[not unwound]");
                    let whole = LabelRow {
                        name,
                        ..label.clone()
                    };
                    self.labels.id(whole).into()
                }
            })
            .collect();
        let words: Vec<u64> = labels
            .iter()
            .map(|label| self.text(&stands_for(label.class, label.inlined)).into())
            .collect();
        columns.push("labelName", labels.iter().map(|label| label.name.into()));
        columns.push(
            "labelClass",
            labels.iter().map(|label| class(label.class).0),
        );
        columns.push("labelKind", labels.iter().map(|label| class(label.class).1));
        columns.push(
            "labelGroup",
            labels.iter().map(|label| group_number(label.class)),
        );
        columns.push("labelFlags", labels.iter().map(flags));
        columns.push("labelShade", shades);
        columns.push("labelRank", ranks);
        columns.push("labelCollapsed", collapsed);
        columns.push("labelWords", words);
        let frames = self.frames.list();
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
        let heads = self.heads.list();
        columns.push("headEvent", heads.iter().map(|head| head.event.into()));
        columns.push("headComm", heads.iter().map(|head| head.comm.into()));
        columns.push("headProcess", heads.iter().map(|head| head.process.into()));
    }
}

/// The numbers of a class and of its kind of stack, as `js/model.js` names them.
fn class(class: FrameClass) -> (u64, u64) {
    let kind = |kind| StackKind::ALL.iter().position(|other| *other == kind);
    match class {
        FrameClass::Process => (0, 0),
        FrameClass::User => (1, 0),
        FrameClass::Kernel(stack) => (2, kind(stack).unwrap_or(0) as u64),
        FrameClass::Marker(stack) => (3, kind(stack).unwrap_or(0) as u64),
        FrameClass::Event => (4, 0),
        FrameClass::Note => (5, 0),
    }
}

fn group_number(class: FrameClass) -> u64 {
    let group = Group::of(class);
    Group::ALL
        .iter()
        .position(|other| *other == group)
        .unwrap_or(0) as u64
}

/// 1 for reliable, 2 for inlined.
fn flags(label: &LabelRow) -> u64 {
    u64::from(label.reliable) | u64::from(label.inlined) << 1
}
