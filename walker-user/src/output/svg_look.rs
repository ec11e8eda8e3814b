//! What the colours of a flame graph stand for, and what is said of its frames: by default the kind
//! of stack, and what a frame weighs.
//!
//! How frames are laid out is the business of [`svg`](super::svg), which colours there are that of
//! [`palette`](super::palette).

use super::palette::{Group, SHADES, shade_of};
use super::{amount, percent, recording, weighed, whereabouts};
use crate::profile::Profile;
use crate::profile::tree::{CallTree, Node};

/// A colour in the legend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The CSS classes that give the colour.
    pub(super) look: String,
    /// The CSS class of the frames that are found by a click on it.
    pub(super) group: String,
    /// What it means.
    pub(super) text: String,
}

/// What frames look like, and what is said of them.
pub(super) trait Look {
    /// The heading.
    fn title(&self) -> String;
    /// What is said below the heading; the last line says what was lost.
    fn lines(&self) -> Vec<String>;
    /// The CSS classes of a node of the tree, which has this index and is shown by this name.
    fn class(&self, index: usize, node: &Node, name: &str) -> String;
    /// What a node of the tree weighs.
    fn figures(&self, index: usize, node: &Node) -> String;
    /// What the legend begins with.
    fn lead(&self) -> &'static str;
    /// The legend.
    fn keys(&self) -> Vec<Key>;
    /// The rules of CSS that give the classes their colours, in the light and the dark theme.
    fn fills(&self, dark: bool) -> String;
}

/// Frames have the colour of their kind of stack.
pub(super) struct ByStack<'a> {
    profile: &'a Profile,
    tree: &'a CallTree,
}

impl<'a> ByStack<'a> {
    /// The look of the tree of `profile`.
    pub(super) const fn new(profile: &'a Profile, tree: &'a CallTree) -> Self {
        Self { profile, tree }
    }
}

impl Look for ByStack<'_> {
    fn title(&self) -> String {
        match self.profile.meta.title.as_str() {
            "" => "Flame graph".to_owned(),
            title => title.to_owned(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let totals = &self.profile.meta.totals;
        vec![recording(self.profile), whereabouts(totals)]
    }

    fn class(&self, _index: usize, node: &Node, name: &str) -> String {
        let letter = Group::of(node.label.class).letter();
        format!("{letter} {letter}{}", shade_of(name))
    }

    fn figures(&self, _index: usize, node: &Node) -> String {
        let weight = weighed(self.profile, node.total);
        let share = percent(node.total, self.tree.nodes()[0].total);
        let own = amount(self.profile.meta.unit, node.own);
        format!("{weight}, {share:.2} %, {own} own")
    }

    fn lead(&self) -> &'static str {
        "sampled in:"
    }

    /// What was sampled where. An unreliable or inlined frame has no colour of its own, but looks
    /// washed out.
    fn keys(&self) -> Vec<Key> {
        let nodes = self.tree.nodes();
        let mut keys = Vec::new();
        for group in Group::ALL {
            let members = || {
                nodes
                    .iter()
                    .filter(|node| Group::of(node.label.class) == group)
            };
            if members().next().is_none() {
                continue;
            }
            let own = members().map(|node| node.own).sum();
            let share = percent(own, nodes[0].total);
            let (name, letter) = (group.name(), group.letter());
            keys.push(Key {
                look: format!("{letter}0"),
                group: letter.to_string(),
                text: match own {
                    0 => name.to_owned(),
                    _ => format!("{name} {share:.2} %"),
                },
            });
        }
        let mut washed_out = |is_there: bool, look: &str, group: &str, text: &str| {
            if is_there {
                keys.push(Key {
                    look: look.to_owned(),
                    group: group.to_owned(),
                    text: text.to_owned(),
                });
            }
        };
        let unreliable = nodes.iter().any(|node| !node.label.reliable);
        washed_out(unreliable, "r q0", "r", "? not unwound");
        let inlined = nodes.iter().any(|node| node.label.inlined);
        washed_out(inlined, "l u0", "l", "inlined");
        keys
    }

    fn fills(&self, dark: bool) -> String {
        let lines = Group::ALL.iter().map(|group| {
            let letter = group.letter();
            let rule = |shade| format!(".{letter}{shade}{{fill:{}}}", group.shade(dark, shade));
            (0..SHADES).map(rule).collect::<String>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
