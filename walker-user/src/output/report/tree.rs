//! The tree of calls as text: who called what, and the share of each.
//!
//! Functions that do nothing but call one other are on one line with it, or are not moved to the
//! right for it. Nothing here recurses: a
//! stack may be thousands of frames deep.

use std::cmp::Reverse;
use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use super::super::{grouped, heading, percent, printable, table::shortened};
use crate::profile::{
    Profile,
    tree::{CallTree, Node},
};

/// Between the functions of a line.
const ARROW: &str = " > ";
/// The least that is left of a line for names, however deep it is.
const LEAST: usize = 24;

/// Where lines stop to move to the right, in columns: trees can be deep.
const MAX_INDENT: usize = 180;

/// How to draw a tree of calls.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many calls deep to go; `None` to the end.
    pub depth: Option<usize>,
    /// The least share that is shown, in percent of all.
    pub min_share: f64,
    /// Whether functions that call one other only are on one line with it.
    pub fold: bool,
    /// Whether to draw lines with ASCII characters only.
    pub ascii: bool,
    /// Whether a change of stack is a line of its own, such as `[IRQ]`.
    pub markers: bool,
    /// Columns of the terminal; `None` to shorten nothing.
    pub width: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            depth: None,
            min_share: 0.5,
            fold: true,
            ascii: false,
            markers: true,
            width: None,
        }
    }
}

/// What branches are drawn with.
struct Lines {
    branch: &'static str,
    last: &'static str,
    through: &'static str,
    more: &'static str,
}

const UNICODE: Lines = Lines {
    branch: "├─ ",
    last: "└─ ",
    through: "│  ",
    more: "… ",
};
const ASCII: Lines = Lines {
    branch: "|- ",
    last: "`- ",
    through: "|  ",
    more: "... ",
};
const SPACE: &str = "   ";

/// A line that is still to be written.
enum Pending {
    /// A node, and what is drawn before it and before what is below it.
    Node(usize, String, String),
    /// So many nodes that are not shown, and what they weigh.
    LeftOut(usize, u64, String),
}

/// Writes the tree of `profile`.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(profile: &Profile, options: &Options, out: &mut impl Write) -> io::Result<()> {
    heading::write(profile, options.width, out)?;
    let drawing = Drawing {
        profile,
        tree: &profile.tree(options.markers),
        options,
        lines: if options.ascii { &ASCII } else { &UNICODE },
    };
    drawing.write(out)
}

struct Drawing<'a> {
    profile: &'a Profile,
    tree: &'a CallTree,
    options: &'a Options,
    lines: &'static Lines,
}

impl Drawing<'_> {
    fn node(&self, index: usize) -> &Node {
        &self.tree.nodes()[index]
    }

    fn share(&self, weight: u64) -> f64 {
        percent(weight, self.node(0).total)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "Total %   Self %  Calls")?;
        let mut pending = vec![Pending::Node(0, String::new(), String::new())];
        while let Some(next) = pending.pop() {
            match next {
                Pending::LeftOut(count, weight, before) => {
                    let (share, more) = (self.share(weight), self.lines.more);
                    let count = grouped(count as u64);
                    writeln!(out, "{share:>7.2} {:>8}  {before}{more}{count} more", "")?;
                }
                Pending::Node(index, before, below) => {
                    let last = self.write_line(index, &before, out)?;
                    match self.only_child(last) {
                        Some(only) => {
                            pending.push(Pending::Node(only, below.clone(), below));
                        }
                        None => self.push_children(last, &below, &mut pending),
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the line of a node; returns the last node on it.
    fn write_line(&self, index: usize, before: &str, out: &mut impl Write) -> io::Result<usize> {
        let mut names = vec![self.name(index)];
        let mut last = index;
        while self.options.fold
            && let Some(only) = self.only_child(last)
        {
            names.push(self.name(only));
            last = only;
        }
        let columns = match self.options.width {
            Some(width) => width.saturating_sub(18 + before.width()).max(LEAST),
            None => usize::MAX,
        };
        let (total, own) = (self.share(self.node(index).total), self.node(last).own);
        let own = match own {
            0 => String::new(),
            own => format!("{:.2}", self.share(own)),
        };
        let names = self.joined(&names, columns);
        let line = format!("{total:>7.2} {own:>8}  {before}{names}");
        writeln!(out, "{}", line.trim_end())?;
        Ok(last)
    }

    /// As many of the names as fit: the first, and the last ones.
    fn joined(&self, names: &[String], columns: usize) -> String {
        let all = names.join(ARROW);
        if all.width() <= columns || names.len() == 1 {
            return shortened(&all, columns);
        }
        let (first, rest) = (&names[0], &names[1..]);
        for left_out in 1..rest.len() {
            let gap = format!("{}{left_out}", self.lines.more);
            let text = [&[first.clone(), gap], &rest[left_out..]]
                .concat()
                .join(ARROW);
            if text.width() <= columns {
                return text;
            }
        }
        let gap = match rest.len() {
            1 => String::new(),
            more => format!("{}{}{ARROW}", self.lines.more, more - 1),
        };
        let room = columns.saturating_sub(gap.width() + ARROW.width());
        let (first, last) = (
            shortened(first, room / 2),
            shortened(&rest[rest.len() - 1], room - room / 2),
        );
        format!("{first}{ARROW}{gap}{last}")
    }

    fn name(&self, index: usize) -> String {
        let label = self.node(index).label;
        let doubt = if label.reliable { "" } else { "? " };
        format!("{doubt}{}", printable(self.profile.text(label.name)))
    }

    /// The child of a node that does nothing else, if that is to be shown.
    fn only_child(&self, index: usize) -> Option<usize> {
        let mut children = self.tree.children(index);
        let only = children.next().filter(|_| children.next().is_none())?;
        let (node, child) = (self.node(index), self.node(only));
        (child.total == node.total && self.is_shown(child)).then_some(only)
    }

    fn is_shown(&self, node: &Node) -> bool {
        // The process is one call below the root.
        self.options
            .depth
            .is_none_or(|depth| node.depth <= depth.saturating_add(1))
            && self.share(node.total) >= self.options.min_share
    }

    fn push_children(&self, parent: usize, below: &str, pending: &mut Vec<Pending>) {
        let children = self.tree.children(parent);
        let (mut shown, left_out): (Vec<usize>, Vec<usize>) =
            children.partition(|&child| self.is_shown(self.node(child)));
        // Children are in the order of their names, and stay so where they weigh the same.
        shown.sort_by_key(|&child| Reverse(self.node(child).total));
        let weight = left_out.iter().map(|&child| self.node(child).total).sum();
        if weight > 0 {
            let before = format!("{below}{}", self.lines.last);
            pending.push(Pending::LeftOut(left_out.len(), weight, before));
        }
        for (place, &child) in shown.iter().enumerate().rev() {
            let is_last = place + 1 == shown.len() && weight == 0;
            let (branch, indent) = match is_last {
                true => (self.lines.last, SPACE),
                false => (self.lines.branch, self.lines.through),
            };
            let before = format!("{below}{branch}");
            let below = match below.width() < MAX_INDENT {
                true => format!("{below}{indent}"),
                false => below.to_owned(),
            };
            pending.push(Pending::Node(child, before, below));
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
