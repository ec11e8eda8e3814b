//! What is shown of some samples: functions by weight, and the tree of calls with the heaviest first.

use std::collections::HashSet;

use crate::{
    output::printable,
    profile::{FrameClass, Label, Profile, functions::Functions, tree::CallTree, view::View},
};

/// What a frame is found again by, whatever its number is.
pub(super) type Key = (String, FrameClass);

/// Which functions come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Those that weigh most by themselves.
    #[default]
    Own,
    /// Those that weigh most with all that they call.
    Total,
}

/// A line of a list: its weights, and how deep it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// As it is shown.
    pub(super) name: String,
    pub(super) class: FrameClass,
    pub(super) own: u64,
    pub(super) total: u64,
    pub(super) depth: usize,
    /// Whether something stands on it, and whether that is shown.
    pub(super) has_children: bool,
    pub(super) open: bool,
    /// The node of the tree.
    node: usize,
}

/// The samples of a window, as they are looked at.
#[derive(Debug)]
pub(super) struct Picture {
    profile: Profile,
    tree: CallTree,
    /// The nodes of the tree in the order in which they are shown.
    order: Vec<usize>,
    functions: Vec<Row>,
}

impl Picture {
    pub(super) fn new(profile: Profile, view: &View, markers: bool) -> Self {
        let profile = match *view == View::default() {
            true => profile,
            false => view.of(&profile),
        };
        let tree = profile.tree(markers);
        let order = heaviest_first(&tree);
        let functions = functions(&profile);
        Self {
            profile,
            tree,
            order,
            functions,
        }
    }

    pub(super) fn samples(&self) -> u64 {
        self.profile.samples()
    }

    /// The weight of all.
    pub(super) fn weight(&self) -> u64 {
        self.profile.weight()
    }

    /// The functions, in an order.
    pub(super) fn functions(&self, order: Order) -> Vec<Row> {
        let mut rows = self.functions.clone();
        rows.sort_by(|a, b| {
            let weights = |row: &Row| match order {
                Order::Own => (row.own, row.total),
                Order::Total => (row.total, row.own),
            };
            weights(b)
                .cmp(&weights(a))
                .then_with(|| a.name.cmp(&b.name))
        });
        rows
    }

    /// The nodes that are shown: those below the root, and what stands on nodes that are open.
    pub(super) fn rows(&self, open: &HashSet<Vec<Key>>) -> Vec<Row> {
        let nodes = self.tree.nodes();
        let mut rows = Vec::new();
        let mut path: Vec<Key> = Vec::new();
        let mut hidden_below = None;
        for &node in &self.order {
            let depth = nodes[node].depth;
            if hidden_below.is_some_and(|limit| depth > limit) {
                continue;
            }
            path.truncate(depth - 1);
            path.push(self.key(node));
            let has_children = nodes[node].end > node + 1;
            let is_open = has_children && open.contains(&path);
            hidden_below = (!is_open).then_some(depth);
            rows.push(Row {
                name: self.name(&nodes[node].label),
                class: nodes[node].label.class,
                own: nodes[node].own,
                total: nodes[node].total,
                depth: depth - 1,
                has_children,
                open: is_open,
                node,
            });
        }
        rows
    }

    /// The way to a row of the tree.
    pub(super) fn path(&self, row: &Row) -> Vec<Key> {
        self.path_of(row.node)
    }

    fn path_of(&self, node: usize) -> Vec<Key> {
        let nodes = self.tree.nodes();
        let mut path = Vec::new();
        let mut at = 0;
        while at != node {
            let Some(next) = self
                .tree
                .children(at)
                .find(|child| nodes[*child].end > node)
            else {
                break;
            };
            path.push(self.key(next));
            at = next;
        }
        path
    }

    /// The way to the next node whose name matches, from a row on and round the end; `back` is the
    /// other way.
    pub(super) fn next_match(
        &self,
        from: Option<&Row>,
        back: bool,
        matches: impl Fn(&str) -> bool,
    ) -> Option<Vec<Key>> {
        let count = self.order.len();
        let at = from.and_then(|row| self.order.iter().position(|node| *node == row.node));
        let steps = 1..=count;
        let index = |step: usize| match (at, back) {
            (Some(at), false) => (at + step) % count,
            (Some(at), true) => (at + count - step) % count,
            (None, false) => step - 1,
            (None, true) => count - step,
        };
        let nodes = self.tree.nodes();
        let found = steps
            .map(|step| self.order[index(step)])
            .find(|node| matches(&self.name(&nodes[*node].label)))?;
        Some(self.path_of(found))
    }

    /// The weight of the stacks in which something matches.
    pub(super) fn matched(&self, matches: impl Fn(&str) -> bool) -> u64 {
        let nodes = self.tree.nodes();
        let (mut weight, mut skip) = (0, 0);
        for (index, node) in nodes.iter().enumerate().skip(1) {
            if index >= skip && matches(&self.name(&node.label)) {
                weight += node.total;
                skip = node.end;
            }
        }
        weight
    }

    fn key(&self, node: usize) -> Key {
        let label = &self.tree.nodes()[node].label;
        (self.profile.text(label.name).to_owned(), label.class)
    }

    fn name(&self, label: &Label) -> String {
        let name = printable(self.profile.text(label.name));
        match label.reliable {
            true => name,
            false => format!("? {name}"),
        }
    }
}

/// The nodes below the root depth first, the heaviest first among siblings.
fn heaviest_first(tree: &CallTree) -> Vec<usize> {
    let nodes = tree.nodes();
    let mut order = Vec::with_capacity(nodes.len());
    let mut pending = vec![0];
    while let Some(node) = pending.pop() {
        if node > 0 {
            order.push(node);
        }
        let from = pending.len();
        pending.extend(tree.children(node));
        // The last one is taken first.
        pending[from..].reverse();
        pending[from..].sort_by_key(|child| nodes[*child].total);
    }
    order
}

fn functions(profile: &Profile) -> Vec<Row> {
    let functions = Functions::of(profile);
    let weights = functions.weigh(profile);
    let rows = functions.list().iter().zip(weights);
    rows.filter(|(_, weight)| weight.total > 0)
        .map(|(function, weight)| Row {
            name: printable(profile.text(function.name)),
            class: function.class,
            own: weight.own,
            total: weight.total,
            depth: 0,
            has_children: false,
            open: false,
            node: 0,
        })
        .collect()
}
