//! Stacks that share what they have in common from the root.
//!
//! Nothing here recurses: a stack may be thousands of frames deep.

use rustc_hash::FxHashMap;

/// Stacks as a tree, of which a node is a step from its parent.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    children: FxHashMap<(u32, u32), u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    step: u32,
    parent: u32,
    first_child: u32,
    last_child: u32,
    next_sibling: u32,
}

/// No node: the root is nobody's child or sibling.
const NONE: u32 = 0;

/// The nodes of a [`Trie`] below its root, depth first.
#[derive(Debug, Default)]
pub(super) struct DepthFirst {
    /// How far each node is below the root, from 1.
    pub(super) depths: Vec<u32>,
    /// The step that leads to each node.
    pub(super) steps: Vec<u32>,
    /// Where the node with this number in the trie is.
    pub(super) places: Vec<u32>,
}

impl Trie {
    pub(super) fn new() -> Self {
        let root = Node {
            step: 0,
            parent: NONE,
            first_child: NONE,
            last_child: NONE,
            next_sibling: NONE,
        };
        Self {
            nodes: vec![root],
            children: FxHashMap::default(),
        }
    }

    /// The node that these steps lead to, from the root.
    pub(super) fn insert(&mut self, steps: impl IntoIterator<Item = u32>) -> u32 {
        let mut at = 0;
        for step in steps {
            let next = u32::try_from(self.nodes.len()).expect("fewer than 2^32 frames in stacks");
            let child = *self.children.entry((at, step)).or_insert(next);
            if child == next {
                self.nodes.push(Node {
                    step,
                    parent: at,
                    first_child: NONE,
                    last_child: NONE,
                    next_sibling: NONE,
                });
                let parent = &mut self.nodes[at as usize];
                let last = std::mem::replace(&mut parent.last_child, child);
                match last {
                    NONE => parent.first_child = child,
                    last => self.nodes[last as usize].next_sibling = child,
                }
            }
            at = child;
        }
        at
    }

    /// All nodes but the root, each before those below it, siblings in the order they came.
    pub(super) fn depth_first(&self) -> DepthFirst {
        let mut order = DepthFirst {
            places: vec![0; self.nodes.len()],
            ..DepthFirst::default()
        };
        let mut depth = 1;
        let mut at = self.nodes[0].first_child;
        while at != NONE {
            let node = self.nodes[at as usize];
            order.places[at as usize] = order.steps.len() as u32;
            order.steps.push(node.step);
            order.depths.push(depth);
            if node.first_child != NONE {
                depth += 1;
                at = node.first_child;
                continue;
            }
            while at != NONE && self.nodes[at as usize].next_sibling == NONE {
                at = self.nodes[at as usize].parent;
                depth -= 1;
            }
            at = self.nodes[at as usize].next_sibling;
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::Trie;

    #[test]
    fn stacks_share_their_beginnings() {
        let mut trie = Trie::new();
        let leaves = [vec![1, 2, 3], vec![4], vec![1, 5], vec![1, 2], vec![]];
        let leaves = leaves.map(|steps| trie.insert(steps));
        let order = trie.depth_first();
        assert_eq!(order.steps, [1, 2, 3, 5, 4]);
        assert_eq!(order.depths, [1, 2, 3, 2, 1]);
        let places = leaves[..4].iter().map(|&leaf| order.places[leaf as usize]);
        assert_eq!(places.collect::<Vec<_>>(), [2, 4, 3, 1]);
        assert_eq!(leaves[4], 0);
    }

    #[test]
    fn an_empty_trie_has_no_nodes() {
        assert!(Trie::new().depth_first().steps.is_empty());
    }

    #[test]
    fn a_stack_of_100_000_frames_does_not_overflow() {
        let mut trie = Trie::new();
        trie.insert((0..100_000).map(|step| step % 2));
        assert_eq!(trie.depth_first().depths.last(), Some(&100_000));
    }
}
