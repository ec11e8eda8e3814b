//! The rows of a report: what they are called, and what they weigh.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::super::table::Side;
use crate::profile::{
    FrameClass, Profile, SymbolId,
    functions::{Function, FunctionWeight, Functions},
    timeline::{Point, Timeline},
};

/// What a row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum By {
    /// A function of a module, on one kind of stack.
    #[default]
    Function,
    /// A process.
    Process,
    /// A thread.
    Thread,
    /// A CPU.
    Cpu,
    /// A kind of stack.
    Stack,
    /// A file with code, a kernel module, or the kernel itself.
    Module,
    /// An event.
    Event,
}

/// A column that says what a row is.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyColumn {
    /// Above the column.
    pub(super) heading: &'static str,
    /// In JSON objects.
    pub(super) field: &'static str,
    /// Where its cells are aligned.
    pub(super) side: Side,
}

/// A cell that says what a row is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Not known, or none.
    Nothing,
    /// An id.
    Number(u64),
    /// A name.
    Text(String),
}

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// What it is.
    pub(super) keys: Vec<Key>,
    /// What it weighs by itself.
    pub(super) own: u64,
    /// What it weighs with all that it calls.
    pub(super) total: u64,
    /// How many samples it is in.
    pub(super) samples: u64,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Function,
        Self::Process,
        Self::Thread,
        Self::Cpu,
        Self::Stack,
        Self::Module,
        Self::Event,
    ];

    /// Its name, in options and in JSON objects.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Process => "process",
            Self::Thread => "thread",
            Self::Cpu => "cpu",
            Self::Stack => "stack",
            Self::Module => "module",
            Self::Event => "event",
        }
    }

    /// Whether a row weighs more with what it calls than by itself.
    pub(super) const fn has_calls(self) -> bool {
        matches!(self, Self::Function | Self::Stack | Self::Module)
    }

    /// The columns that say what a row is.
    pub(super) fn keys(self) -> Vec<KeyColumn> {
        let column = |heading, field, side| KeyColumn {
            heading,
            field,
            side,
        };
        let pid = column("PID", "pid", Side::Right);
        let tid = column("TID", "tid", Side::Right);
        let comm = |heading| column(heading, "comm", Side::Left);
        let stack = column("Stack", "stack", Side::Left);
        let module = column("Module", "module", Side::Left);
        match self {
            Self::Function => {
                let function = column("Function", "function", Side::Left);
                vec![stack, module, function]
            }
            Self::Process => vec![pid, comm("Process")],
            Self::Thread => vec![pid, tid, comm("Thread")],
            Self::Cpu => vec![column("CPU", "cpu", Side::Right)],
            Self::Stack => vec![stack],
            Self::Module => vec![module],
            Self::Event => vec![column("Event", "event", Side::Left)],
        }
    }

    /// The rows, in no order.
    pub(super) fn rows(self, timeline: &Timeline) -> Vec<Row> {
        let profile = &timeline.profile;
        let number = |number: u32| Key::Number(number.into());
        let text = |id: SymbolId| Key::Text(profile.text(id).to_owned());
        match self {
            Self::Function => functions(profile),
            Self::Stack => {
                let kind = |function: &Function| stack_name(function.class);
                grouped_functions(profile, kind, Key::Text)
            }
            Self::Module => {
                let module = |function: &Function| module_name(profile, function).to_owned();
                grouped_functions(profile, module, Key::Text)
            }
            Self::Process => by_point(
                timeline,
                |point| {
                    let stack = &profile.stacks()[point.stack as usize];
                    (stack.pid, stack.process)
                },
                |(pid, name)| vec![pid.map_or(Key::Nothing, number), text(name)],
            ),
            Self::Thread => by_point(
                timeline,
                |point| {
                    let stack = &profile.stacks()[point.stack as usize];
                    (stack.pid, point.tid, stack.comm)
                },
                |(pid, tid, comm)| {
                    let pid = pid.map_or(Key::Nothing, number);
                    vec![pid, number(tid), text(comm)]
                },
            ),
            Self::Cpu => by_point(timeline, |point| point.cpu, |cpu| vec![number(cpu)]),
            Self::Event => by_point(
                timeline,
                |point| profile.stacks()[point.stack as usize].event,
                |event| {
                    let name = profile.meta.events.get(event);
                    vec![name.map_or(Key::Nothing, |name| Key::Text(name.clone()))]
                },
            ),
        }
    }
}

/// The side of the system and the kind of stack: `[u]`, `[k] IRQ`; `[e]` is said about an event.
pub(in super::super) fn stack_name(class: FrameClass) -> String {
    match class {
        FrameClass::User => "[u]".to_owned(),
        FrameClass::Kernel(kind) | FrameClass::Marker(kind) => format!("[k] {}", kind.name()),
        FrameClass::Note | FrameClass::Event | FrameClass::Process => "[e]".to_owned(),
    }
}

/// The module of a function; `[kernel]` is the kernel itself, and nothing is no code.
pub(in super::super) fn module_name<'a>(profile: &'a Profile, function: &Function) -> &'a str {
    match (function.module, function.class) {
        (Some(module), _) => profile.text(module),
        (None, FrameClass::Kernel(_)) => "[kernel]",
        (None, FrameClass::User) => "[unknown]",
        (None, _) => "-",
    }
}

fn functions(profile: &Profile) -> Vec<Row> {
    let functions = Functions::of(profile);
    let weights = functions.weigh(profile);
    let rows = functions.list().iter().zip(weights);
    let rows = rows.filter(|(_, weight)| weight.samples > 0);
    rows.map(|(function, weight)| {
        let keys = vec![
            Key::Text(stack_name(function.class)),
            Key::Text(module_name(profile, function).to_owned()),
            Key::Text(profile.text(function.name).to_owned()),
        ];
        row(keys, weight)
    })
    .collect()
}

/// Rows of what several functions have in common.
fn grouped_functions<K: Hash + Eq>(
    profile: &Profile,
    of: impl Fn(&Function) -> K,
    key: impl Fn(K) -> Key,
) -> Vec<Row> {
    let functions = Functions::of(profile);
    let mut groups: FxHashMap<K, usize> = FxHashMap::default();
    let list = functions.list().iter();
    let group_of: Vec<usize> = list
        .map(|function| {
            let next = groups.len();
            *groups.entry(of(function)).or_insert(next)
        })
        .collect();
    let weights = functions.weigh_by(profile, groups.len(), |frame| {
        group_of[functions.index(frame)]
    });
    let groups = groups.into_iter();
    let rows = groups.map(|(group, index)| row(vec![key(group)], weights[index]));
    rows.filter(|row| row.samples > 0).collect()
}

/// Rows of samples that have something in common.
fn by_point<K: Hash + Eq + Copy>(
    timeline: &Timeline,
    of: impl Fn(&Point) -> K,
    keys: impl Fn(K) -> Vec<Key>,
) -> Vec<Row> {
    let mut groups: FxHashMap<K, FunctionWeight> = FxHashMap::default();
    for point in &timeline.points {
        let group = groups.entry(of(point)).or_default();
        group.samples += 1;
        group.own += point.weight;
        group.total += point.weight;
    }
    let groups = groups.into_iter();
    groups
        .map(|(group, weight)| row(keys(group), weight))
        .collect()
}

const fn row(keys: Vec<Key>, weight: FunctionWeight) -> Row {
    let FunctionWeight {
        own,
        total,
        samples,
    } = weight;
    Row {
        keys,
        own,
        total,
        samples,
    }
}
