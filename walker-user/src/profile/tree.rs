//! Stacks merged into a tree of calls, with the weight of each node.
//!
//! Nothing here recurses: a stack may be thousands of frames deep. How a tree is drawn is not
//! decided here.

use rustc_hash::FxHashMap;

use super::{Label, Origin, Strings};

/// One node of a [`CallTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// What the node stands for.
    pub label: Label,
    /// What all frames of this node have in common.
    pub origin: Origin,
    /// Calls between this node and the root; the root has 0.
    pub depth: usize,
    /// Weight of the stacks whose leaf is this node.
    pub own: u64,
    /// Weight of the stacks that go through this node, [`Node::own`] included.
    pub total: u64,
    /// One past the index of the last node below this one: the nodes below node `i` are
    /// `i + 1..end`.
    pub end: usize,
}

/// A tree of calls, laid out depth first: a node is followed by its first child with all that is
/// below it, then by the next child. Children are sorted by name, as `flamegraph.pl` sorts them,
/// so that the same code is found in the same place in every picture.
#[derive(Debug, Clone)]
pub struct CallTree {
    nodes: Vec<Node>,
}

impl CallTree {
    /// All nodes, the root first. There is always a root.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The indices of the children of a node, in order.
    ///
    /// # Panics
    ///
    /// If there is no node `parent`.
    pub fn children(&self, parent: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes[parent].end;
        let first = Some(parent + 1).filter(|&child| child < end);
        std::iter::successors(first, move |&child| {
            Some(self.nodes[child].end).filter(|&next| next < end)
        })
    }
}

/// A tree that still grows.
#[derive(Debug, Clone)]
pub struct TreeBuilder {
    nodes: Vec<GrowingNode>,
    /// One map for the whole tree: most nodes have one child, and a map each would be larger than
    /// the tree.
    children: FxHashMap<(usize, Label), usize>,
}

#[derive(Debug, Clone)]
struct GrowingNode {
    label: Label,
    origin: Origin,
    parent: usize,
    own: u64,
    total: u64,
}

impl TreeBuilder {
    /// A tree that is only a root.
    #[must_use]
    pub fn new(root: Label) -> Self {
        let root = GrowingNode {
            label: root,
            origin: Origin::default(),
            parent: 0,
            own: 0,
            total: 0,
        };
        Self {
            nodes: vec![root],
            children: FxHashMap::default(),
        }
    }

    /// Adds `weight` to every node of a path, which is given from below the root to the leaf.
    pub fn insert(&mut self, path: impl IntoIterator<Item = (Label, Origin)>, weight: u64) {
        let mut at = 0;
        self.nodes[at].total += weight;
        for (label, origin) in path {
            let next = self.nodes.len();
            let child = *self.children.entry((at, label)).or_insert(next);
            if child == next {
                self.nodes.push(GrowingNode {
                    label,
                    origin,
                    parent: at,
                    own: 0,
                    total: 0,
                });
            } else {
                self.nodes[child].origin.merge(origin);
            }
            at = child;
            self.nodes[at].total += weight;
        }
        self.nodes[at].own += weight;
    }

    /// Sorts the children of every node and lays the tree out. `strings` holds the names.
    #[must_use]
    pub fn finish(self, strings: &Strings) -> CallTree {
        // Sorted by parent, and below one parent in reverse: taken from a stack, the children of
        // a node then come out in order.
        let mut order: Vec<usize> = (1..self.nodes.len()).collect();
        order.sort_unstable_by(|&a, &b| {
            let (a, b) = (&self.nodes[a], &self.nodes[b]);
            let name = |node: &GrowingNode| strings.get(node.label.name);
            let rest =
                |node: &GrowingNode| (node.label.class, node.label.reliable, node.label.inlined);
            a.parent
                .cmp(&b.parent)
                .then_with(|| name(b).cmp(name(a)))
                .then_with(|| rest(b).cmp(&rest(a)))
        });
        let mut first_child = vec![order.len(); self.nodes.len()];
        for (position, &node) in order.iter().enumerate().rev() {
            first_child[self.nodes[node].parent] = position;
        }

        let mut laid_out: Vec<Node> = Vec::with_capacity(self.nodes.len());
        let mut pending = vec![(0, 0)];
        while let Some((index, depth)) = pending.pop() {
            let node = &self.nodes[index];
            laid_out.push(Node {
                label: node.label,
                origin: node.origin,
                depth,
                own: node.own,
                total: node.total,
                end: 0,
            });
            let children = order[first_child[index]..]
                .iter()
                .take_while(|&&child| self.nodes[child].parent == index);
            pending.extend(children.map(|&child| (child, depth + 1)));
        }

        // A node ends where the next node that is no deeper begins.
        let mut open: Vec<usize> = Vec::new();
        for index in 0..laid_out.len() {
            while let Some(&last) = open.last()
                && laid_out[last].depth >= laid_out[index].depth
            {
                laid_out[last].end = index;
                open.pop();
            }
            open.push(index);
        }
        for index in open {
            laid_out[index].end = laid_out.len();
        }
        CallTree { nodes: laid_out }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CallTree, TreeBuilder};
    use crate::profile::{FrameClass, Label, Origin, Profile, Strings, fixture};

    fn label(strings: &mut Strings, name: &str) -> Label {
        Label {
            name: strings.intern(name),
            class: FrameClass::User,
            reliable: true,
            inlined: false,
        }
    }

    /// The labels as a path of frames that are from nowhere.
    fn path(labels: impl IntoIterator<Item = Label>) -> impl Iterator<Item = (Label, Origin)> {
        let frames = labels.into_iter();
        frames.map(|label| (label, Origin::default()))
    }

    fn names<'a>(profile: &'a Profile, tree: &CallTree, parent: usize) -> Vec<&'a str> {
        let labels = tree.children(parent).map(|child| tree.nodes()[child].label);
        labels.map(|label| profile.text(label.name)).collect()
    }

    #[test]
    fn children_are_in_alphabetical_order_whatever_came_first() {
        let mut strings = Strings::default();
        let [root, a, b, c] = ["all", "a", "b", "c"].map(|name| label(&mut strings, name));
        let mut tree = TreeBuilder::new(root);
        for path in [vec![c], vec![a, c], vec![b], vec![a, b], vec![a]] {
            tree.insert(self::path(path), 1);
        }
        let tree = tree.finish(&strings);
        let shape: Vec<_> = tree
            .nodes()
            .iter()
            .map(|node| {
                (
                    strings.get(node.label.name),
                    node.depth,
                    node.own,
                    node.total,
                    node.end,
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                ("all", 0, 0, 5, 6),
                ("a", 1, 1, 3, 4),
                ("b", 2, 1, 1, 3),
                ("c", 2, 1, 1, 4),
                ("b", 1, 1, 1, 5),
                ("c", 1, 1, 1, 6),
            ]
        );
        assert_eq!(tree.children(0).collect::<Vec<_>>(), [1, 4, 5]);
        assert_eq!(tree.children(5).count(), 0);
    }

    #[test]
    fn the_same_name_in_doubt_is_another_node() {
        let mut strings = Strings::default();
        let [root, sure] = ["all", "a"].map(|name| label(&mut strings, name));
        let doubtful = Label {
            reliable: false,
            ..sure
        };
        let mut tree = TreeBuilder::new(root);
        tree.insert(path([sure]), 1);
        tree.insert(path([doubtful]), 1);
        let tree = tree.finish(&strings);
        let children: Vec<_> = tree
            .children(0)
            .map(|child| tree.nodes()[child].label)
            .collect();
        assert_eq!(children, [doubtful, sure]);
    }

    #[test]
    fn a_node_is_from_where_all_its_frames_are_from() {
        let mut strings = Strings::default();
        let [root, a] = ["all", "a"].map(|name| label(&mut strings, name));
        let [tool, libc, file, header] =
            ["tool", "libc", "a.c", "a.h"].map(|name| strings.intern(name));
        let origin = |module, file, line| Origin {
            module: Some(module),
            source: Some((file, line)),
        };
        let both = origin(tool, file, 3);
        for (other, module, source) in [
            (both, Some(tool), Some((file, 3))),
            (origin(tool, file, 4), Some(tool), Some((file, 0))),
            (origin(libc, header, 3), None, None),
            (Origin::default(), None, None),
        ] {
            let mut tree = TreeBuilder::new(root);
            tree.insert([(a, both)], 1);
            tree.insert([(a, other)], 1);
            // What was once in doubt stays so.
            tree.insert([(a, both)], 1);
            let node = tree.finish(&strings).nodes()[1];
            assert_eq!(node.total, 3);
            assert_eq!(node.origin, Origin { module, source });
        }
    }

    #[test]
    fn the_tree_of_the_fixture_has_markers_or_not() {
        let profile = fixture::profile();
        for (markers, depth) in [(true, 11), (false, 9)] {
            let tree = profile.tree(markers);
            assert_eq!(names(&profile, &tree, 0), ["cc1", "make"]);
            assert_eq!(
                tree.nodes().iter().map(|node| node.depth).max(),
                Some(depth)
            );
        }
    }

    #[test]
    fn a_stack_of_100_000_frames_does_not_overflow() {
        let mut strings = Strings::default();
        let [root, a, b] = ["all", "a", "b"].map(|name| label(&mut strings, name));
        let mut tree = TreeBuilder::new(root);
        tree.insert(
            path((0..100_000).map(|depth| if depth % 2 == 0 { a } else { b })),
            7,
        );
        let tree = tree.finish(&strings);
        let last = tree.nodes()[100_000];
        assert_eq!((last.depth, last.own, last.end), (100_000, 7, 100_001));
    }

    proptest! {
        #[test]
        fn sums_add_up(profile in fixture::any_profile(), markers in any::<bool>()) {
            let tree = profile.tree(markers);
            let nodes = tree.nodes();
            prop_assert_eq!(nodes[0].total, profile.samples());
            prop_assert_eq!(nodes.iter().map(|node| node.own).sum::<u64>(), profile.samples());
            for (index, node) in nodes.iter().enumerate() {
                let below: u64 = tree.children(index).map(|child| nodes[child].total).sum();
                prop_assert_eq!(node.total, node.own + below);
                prop_assert!(tree.children(index).all(|child| nodes[child].depth == node.depth + 1));
                let names = names(&profile, &tree, index);
                prop_assert!(names.is_sorted());
            }
        }
    }
}
