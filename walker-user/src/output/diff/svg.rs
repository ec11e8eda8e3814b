//! A flame graph whose colours are what changed: what grew is red, what shrank is blue.
//!
//! A frame has the colour of what changed in itself, so that what grew is not lost among all that
//! call it; its total is said beside. As wide as frames are in one recording: what the other one
//! alone has is in the table only.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::{Both, Diff, Measure, change, signed};
use crate::output::palette::{CHANGES, change_fill};
use crate::output::svg::{Options, draw};
use crate::output::svg_look::{Key, Look};
use crate::output::{printable, recording, whereabouts};
use crate::profile::{
    FrameClass,
    tree::{CallTree, Node},
};

/// Changes of less than this share of the largest one have no colour.
const NOISE: f64 = 0.02;

/// The recording whose stacks are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Widths {
    /// The first one.
    Before,
    /// The second one.
    #[default]
    After,
}

/// Draws what changed.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(
    diff: &Diff,
    widths: Widths,
    options: &Options,
    out: &mut impl Write,
) -> io::Result<()> {
    write_counted(diff, widths, options, &|_, _| true, out)
}

/// The same, of which only frames have a colour that count: by the name and what they stand for.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write_counted(
    diff: &Diff,
    widths: Widths,
    options: &Options,
    counts: &dyn Fn(&str, FrameClass) -> bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let trees = [0, 1].map(|side| diff.profiles[side].tree(options.markers));
    let drawn = match widths {
        Widths::Before => 0,
        Widths::After => 1,
    };
    let changes = Changes::new(diff, &trees, drawn, counts);
    draw(&diff.profiles[drawn], &trees[drawn], &changes, options, out)
}

/// What a node is in both recordings.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    own: Both,
    total: Both,
}

struct Changes<'a> {
    diff: &'a Diff,
    /// Of each node of the tree that is drawn.
    figures: Vec<Figures>,
    /// Of each, whether its change counts.
    counted: Vec<bool>,
    /// The largest change of what a node weighs by itself, of those that count.
    largest: f64,
}

impl<'a> Changes<'a> {
    fn new(
        diff: &'a Diff,
        trees: &[CallTree; 2],
        drawn: usize,
        counts: &dyn Fn(&str, FrameClass) -> bool,
    ) -> Self {
        let (tree, other) = (trees[drawn].nodes(), &trees[1 - drawn]);
        let same = counterparts(&trees[drawn], other);
        let weights = |node: &Node, same: Option<&Node>| {
            let both = |weight: fn(&Node) -> u64| {
                let mut weights = [weight(node); 2];
                weights[1 - drawn] = same.map_or(0, weight);
                diff.both(weights)
            };
            Figures {
                own: both(|node| node.own),
                total: both(|node| node.total),
            }
        };
        let figures: Vec<Figures> = tree
            .iter()
            .zip(same)
            .map(|(node, same)| weights(node, same.map(|index| &other.nodes()[index])))
            .collect();
        let profile = &diff.profiles[drawn];
        let counted = tree
            .iter()
            .map(|node| counts(profile.text(node.label.name), node.label.class));
        let counted: Vec<bool> = counted.collect();
        let changes = figures
            .iter()
            .zip(&counted)
            .map(|(figures, counts)| match counts {
                true => change(figures.own).abs(),
                false => 0.0,
            });
        Self {
            diff,
            largest: changes.fold(0.0, f64::max),
            figures,
            counted,
        }
    }

    /// The colour of a change, from 0 for what shrank most.
    fn level(&self, change: f64) -> usize {
        let middle = CHANGES / 2;
        if self.largest == 0.0 || change.abs() < NOISE * self.largest {
            return middle;
        }
        let steps = (change.abs() / self.largest * middle as f64).ceil() as usize;
        let steps = steps.min(middle);
        match change < 0.0 {
            true => middle - steps,
            false => middle + steps,
        }
    }
}

/// Of each node of a tree, the node of another tree that is called by the same functions.
fn counterparts(tree: &CallTree, other: &CallTree) -> Vec<Option<usize>> {
    let mut children = FxHashMap::default();
    for (parent, _) in other.nodes().iter().enumerate() {
        for child in other.children(parent) {
            children.insert((parent, other.nodes()[child].label), child);
        }
    }
    let mut found = vec![None; tree.nodes().len()];
    found[0] = Some(0);
    for parent in 0..tree.nodes().len() {
        if let Some(same) = found[parent] {
            for child in tree.children(parent) {
                let label = tree.nodes()[child].label;
                found[child] = children.get(&(same, label)).copied();
            }
        }
    }
    found
}

impl Look for Changes<'_> {
    fn title(&self) -> String {
        let titles = [0, 1].map(|side| &self.diff.profiles[side].meta.title);
        match titles[0] == titles[1] {
            true => format!("Changes of {}", titles[0]),
            false => format!("Changes from {} to {}", titles[0], titles[1]),
        }
    }

    fn lines(&self) -> Vec<String> {
        let [before, after] = &self.diff.profiles;
        let lost = [before, after].map(|profile| whereabouts(&profile.meta.totals));
        vec![
            format!("before: {}", recording(before)),
            format!("after: {}", recording(after)),
            format!("before: {}; after: {}", lost[0], lost[1]),
        ]
    }

    fn class(&self, index: usize, _node: &Node, _name: &str) -> String {
        let level = match self.counted[index] {
            true => self.level(change(self.figures[index].own)),
            false => CHANGES / 2,
        };
        format!("d{level}")
    }

    fn figures(&self, index: usize, _node: &Node) -> String {
        let unit = match self.diff.measure {
            Measure::Share | Measure::Cost => "%",
            Measure::PerSecond => self.diff.unit(),
        };
        let shown = |both: Both| {
            let change = signed(change(both));
            format!("{:.2} to {:.2} {unit} ({change})", both[0], both[1])
        };
        let Figures { own, total } = self.figures[index];
        format!("{}, own {}", shown(total), shown(own))
    }

    fn lead(&self) -> &'static str {
        match self.diff.measure {
            Measure::Share => "own share changed by points:",
            Measure::PerSecond => "own weight a second changed by:",
            Measure::Cost => {
                "own cost changed by points of the whole before, if that is significant:"
            }
        }
    }

    fn keys(&self) -> Vec<Key> {
        let middle = CHANGES / 2;
        let keys = (0..CHANGES).map(|level| {
            let steps = level as f64 - middle as f64;
            Key {
                look: format!("d{level}"),
                group: format!("d{level}"),
                text: printable(&signed(steps / middle as f64 * self.largest)),
            }
        });
        match self.largest == 0.0 {
            true => keys.skip(middle).take(1).collect(),
            false => keys.collect(),
        }
    }

    fn fills(&self, dark: bool) -> String {
        let rule = |level| format!(".d{level}{{fill:{}}}", change_fill(dark, level));
        (0..CHANGES).map(rule).collect()
    }
}
