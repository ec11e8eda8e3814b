//! Folded stacks with two counts, before and after, as FlameGraph's `difffolded.pl` writes them:
//! `flamegraph.pl` and inferno draw them in two colours.
//!
//! The counts of one of them are multiplied, so that both have the same sum or are of the same
//! time.

use std::io::{self, Write};

use super::Diff;
use crate::output::folded::{Options, lines};

/// Writes the stacks of both recordings in alphabetical order, each line once.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn write(diff: &Diff, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let lines = |side: usize| lines(&diff.profiles[side], options);
    let (before, after) = (lines(0)?, lines(1)?);
    // Small counts that are multiplied stay what they are; divided, they would be nothing.
    let scale = diff.scales[0] / diff.scales[1];
    let scales = [scale.max(1.0), scale.recip().max(1.0)];
    let scaled = |count: u64, side: usize| (count as f64 * scales[side]).round() as u64;
    let mut before = before.into_iter().peekable();
    let mut after = after.into_iter().peekable();
    loop {
        let is_before = match (before.peek(), after.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((stack, _)), Some((other, _))) => stack < other,
        };
        let is_both = before.peek().map(|line| &line.0) == after.peek().map(|line| &line.0);
        let old = before.next_if(|_| is_before || is_both);
        let new = after.next_if(|_| !is_before || is_both);
        let stack = [&old, &new].into_iter().flatten().next();
        let stack = stack.map_or("", |(stack, _)| stack);
        let count = |line: &Option<(String, u64)>| line.as_ref().map_or(0, |(_, count)| *count);
        writeln!(
            out,
            "{stack} {} {}",
            scaled(count(&old), 0),
            scaled(count(&new), 1)
        )?;
    }
}
