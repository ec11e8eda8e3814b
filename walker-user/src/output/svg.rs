//! A flame graph as one self-contained SVG file: the root at the bottom, leaves on top, the width
//! of a frame its share of the samples.
//!
//! The file is a complete picture without scripts, at the width of [`Options::width`]. In a
//! browser, its own script (`svg.js`) fits it to the window and adds zoom and search; nothing is
//! loaded from anywhere. Which functions are drawn as one is decided by
//! [`Profile::tree`](crate::profile::Profile::tree), not here.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::svg_look::{ByStack, Look};
use super::{grouped, place, printable, stands_for, sum};
use crate::profile::Profile;
use crate::profile::tree::{CallTree, Node};

/// How to draw a flame graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Width in pixels where there are no scripts; at least 900.
    pub width: u32,
    /// Whether to draw a change of stack as a frame of its own, such as `[IRQ]`.
    pub markers: bool,
    /// Frames narrower than this many pixels are left out, and counted.
    pub min_frame_width: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            width: 1200,
            markers: true,
            min_frame_width: 0.1,
        }
    }
}

/// The heading is laid out for this width in pixels, below which `svg.js` does not go either.
const HEAD_WIDTH: u32 = 900;
/// Height of a line of the heading and of a frame with the gap above it, in pixels.
const ROW: usize = 18;
/// Space at the sides of the heading, in pixels.
const MARGIN: usize = 10;
/// Space between the edge of a frame and its text, in pixels.
const PADDING: f64 = 4.0;
/// Width of a character of the font in `svg.css`, in pixels; a little more than most fonts have.
const CHARACTER: f64 = 7.3;

/// The most frames that are drawn: browsers take seconds for more, and a deep recursion makes
/// hundreds of thousands that are a tenth of a pixel wide.
const MAX_FRAMES: usize = 20_000;

/// A frame to draw: a node of the tree, and how many samples are to the left of it.
struct Drawn<'a> {
    index: usize,
    node: &'a Node,
    start: u64,
}

/// Draws `profile`.
///
/// `out` is written to in many small pieces and should be buffered.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(profile: &Profile, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let tree = profile.tree(options.markers);
    draw(profile, &tree, &ByStack::new(profile, &tree), options, out)
}

/// Draws a tree of `profile` with the colours and figures of `look`.
pub(super) fn draw(
    profile: &Profile,
    tree: &CallTree,
    look: &impl Look,
    options: &Options,
    out: &mut impl Write,
) -> io::Result<()> {
    let width = options.width.max(HEAD_WIDTH);
    let (drawn, left_out) = select(tree, f64::from(width), options.min_frame_width);
    let (head, head_height) = head(profile, look, left_out);
    let depth = drawn.iter().map(|frame| frame.node.depth + 1).max();
    let height = head_height + depth.unwrap_or(0) * ROW + MARGIN;

    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">"
    )?;
    writeln!(out, "<title>{}</title>", escaped(&look.title()))?;
    writeln!(out, "<style><![CDATA[\n{}", include_str!("svg.css"))?;
    writeln!(
        out,
        "{}\n@media (prefers-color-scheme: dark) {{\n{}\n}}",
        look.fills(false),
        look.fills(true)
    )?;
    writeln!(out, "]]></style>")?;
    writeln!(
        out,
        "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>"
    )?;
    let per_sample = f64::from(width) / tree.nodes()[0].total as f64;
    for frame in &drawn {
        let y = height - MARGIN - (frame.node.depth + 1) * ROW;
        write_frame(profile, look, frame, per_sample, y, out)?;
    }
    // After the frames, so that they slide below it when a deep graph is scrolled.
    out.write_all(head.as_bytes())?;
    let script = include_str!("svg.js");
    writeln!(out, "<script><![CDATA[\n{script}]]></script>\n</svg>")
}

/// The fewest samples of a frame that is drawn.
fn fewest_samples(tree: &CallTree, width: f64, min_width: f64) -> u64 {
    let nodes = tree.nodes();
    let wide_enough = (min_width * nodes[0].total as f64 / width).ceil() as u64;
    let mut totals: Vec<u64> = nodes.iter().map(|node| node.total).collect();
    let few_enough = match totals.len() > MAX_FRAMES {
        true => {
            let (_, first_left_out, _) =
                totals.select_nth_unstable_by_key(MAX_FRAMES, |total| Reverse(*total));
            *first_left_out + 1
        }
        false => 1,
    };
    // A frame without samples is nothing that could be seen.
    wide_enough.max(few_enough).max(1)
}

/// The frames that are wide enough to be seen, and the number of the others.
fn select(tree: &CallTree, width: f64, min_width: f64) -> (Vec<Drawn<'_>>, usize) {
    let nodes = tree.nodes();
    let fewest = fewest_samples(tree, width, min_width);
    let mut drawn = Vec::new();
    let mut left_out = 0;
    // Where the next node of each depth starts.
    let mut next_start = vec![0];
    let mut index = 0;
    while let Some(node) = nodes.get(index) {
        let start = next_start[node.depth];
        next_start[node.depth] += node.total;
        if node.total < fewest {
            left_out += match node.total {
                0 => 0,
                _ => node.end - index,
            };
            index = node.end;
            continue;
        }
        next_start.truncate(node.depth + 1);
        next_start.push(start);
        drawn.push(Drawn { index, node, start });
        index += 1;
    }
    (drawn, left_out)
}

fn write_frame(
    profile: &Profile,
    look: &impl Look,
    frame: &Drawn<'_>,
    per_sample: f64,
    y: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let Node {
        label,
        origin,
        total,
        ..
    } = *frame.node;
    let name = printable(profile.text(label.name));
    let class = look.class(frame.index, frame.node, &name);
    let (doubt, doubtful) = if label.reliable {
        ("", "")
    } else {
        ("? ", " r")
    };
    let inlined = if label.inlined { " l" } else { "" };
    let x = frame.start as f64 * per_sample;
    let width = total as f64 * per_sample;
    // A gap between neighbours, where there is room for one.
    let filled = if width > 3.0 { width - 1.0 } else { width };
    let text_y = y + 13;

    let (figures, start) = (look.figures(frame.index, frame.node), frame.start);
    let stands_for = stands_for(label.class, label.inlined);
    let name = format!("{doubt}{name}");
    let module = origin.module.map(|module| printable(profile.text(module)));
    let source = origin.source.map(|source| place(profile, source));
    let origin: Vec<String> = module.into_iter().chain(source).collect();
    let origin = match origin.is_empty() {
        true => String::new(),
        false => format!("\n{}", escaped(&origin.join(", "))),
    };
    write!(
        out,
        "<g class=\"f {class}{doubtful}{inlined}\" data-s=\"{start}\" data-n=\"{total}\">\
         <title>{}\n{figures}, {stands_for}{}{origin}</title>\
         <rect x=\"{x:.2}\" y=\"{y}\" width=\"{filled:.2}\" height=\"17\"/>",
        escaped(&name),
        if label.reliable {
            ""
        } else {
            ", the rest of the stack could not be unwound"
        },
    )?;
    let columns = (width - 2.0 * PADDING) / CHARACTER;
    if let Some(text) = clipped(&name, columns) {
        let text_x = x + PADDING;
        write!(
            out,
            "<text x=\"{text_x:.2}\" y=\"{text_y}\">{}</text>",
            escaped(&text)
        )?;
    }
    writeln!(out, "</g>")
}

/// The heading, and its height in pixels.
fn head(profile: &Profile, look: &impl Look, left_out: usize) -> (String, usize) {
    let columns = (HEAD_WIDTH as usize - 2 * MARGIN) * 10 / 73;
    let mut lines = look.lines();
    if let Some(first) = lines.first_mut().filter(|_| left_out > 0) {
        let count = grouped(left_out as u64);
        let text = format_args!(", frames with the fewest samples left out: {count}");
        push(first, text);
    }
    // The last line says what was lost.
    let last = lines.len().saturating_sub(1);
    let lost = if sum(&profile.meta.totals.lost) > 0 {
        " class=\"lost\""
    } else {
        ""
    };

    let mut body = String::new();
    let mut y = 26;
    let heading = clipped(&printable(&look.title()), 56.0).unwrap_or_default();
    push(
        &mut body,
        format_args!(
            "<text class=\"title\" x=\"{MARGIN}\" y=\"{y}\">{}</text>\n",
            escaped(&heading)
        ),
    );
    y += 4;
    for (index, text) in lines.iter().enumerate() {
        let class = if index == last { lost } else { "" };
        for line in wrapped(text, columns) {
            y += ROW;
            push(
                &mut body,
                format_args!(
                    "<text{class} x=\"{MARGIN}\" y=\"{y}\">{}</text>\n",
                    escaped(&line)
                ),
            );
        }
    }
    y += ROW + 4;
    y = push_legend(&mut body, look, y);
    y += ROW + 4;
    push(
        &mut body,
        format_args!("<text class=\"details\" x=\"{MARGIN}\" y=\"{y}\"></text>\n"),
    );
    let height = y + 8;
    let head = format!(
        "<g class=\"head\"><rect class=\"paper\" width=\"100%\" height=\"{height}\"/>\n{body}\
         <line class=\"rule\" x2=\"100%\" y1=\"{height}\" y2=\"{height}\"/></g>\n"
    );
    (head, height + ROW / 2)
}

/// Adds a line of what the colours mean and how many samples were taken there; returns the base
/// line of its last row.
fn push_legend(body: &mut String, look: &impl Look, mut y: usize) -> usize {
    let text_width = |text: &str| (text.chars().count() as f64 * CHARACTER) as usize;
    let lead = look.lead();
    push(
        body,
        format_args!("<text x=\"{MARGIN}\" y=\"{y}\">{lead}</text>\n"),
    );
    let mut x = MARGIN + text_width(lead) + 12;
    for key in look.keys() {
        let (look, group, text) = (key.look, key.group, key.text);
        let width = 16 + text_width(&text) + 12;
        if x + width > HEAD_WIDTH as usize {
            (x, y) = (MARGIN, y + ROW);
        }
        let (top, text_x) = (y - 10, x + 16);
        push(
            body,
            format_args!(
                "<g class=\"key {look}\" data-group=\"{group}\">\
                 <rect x=\"{x}\" y=\"{top}\" width=\"11\" height=\"11\"/>\
                 <text x=\"{text_x}\" y=\"{y}\">{text}</text></g>\n"
            ),
        );
        x += width;
    }
    y
}

/// As much of `text` as fits into so many columns, with `…` if that is not all; `None` if it is
/// not worth it. `svg.js` does the same.
fn clipped(text: &str, columns: f64) -> Option<String> {
    // Most characters beyond ASCII that names have are twice as wide.
    let width = |c: char| if c.is_ascii() { 1.0 } else { 2.0 };
    let mut used = 0.0;
    let mut kept = 0;
    for (count, (index, c)) in text.char_indices().enumerate() {
        used += width(c);
        if used > columns {
            return (count > 2).then(|| format!("{}…", &text[..kept]));
        }
        if used + 1.0 <= columns {
            kept = index + c.len_utf8();
        }
    }
    Some(text.to_owned())
}

/// `text` broken between words into lines of at most `columns` characters, if its words allow it.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `text` as it may stand in XML, between tags or quotes.
fn escaped(text: &str) -> String {
    super::escaped(text.chars().map(|c| match c {
        // No XML document may hold these, escaped or not.
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => '_',
        c => c,
    }))
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes everything");
}

#[cfg(test)]
#[path = "svg_tests.rs"]
mod tests;
