//! Tables for terminals: aligned columns, of which long ones give way to the width.
//!
//! What is in the cells, and that it is printable, is the business of those who fill them.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What a shortened text has where something was left out.
const GAP: &str = "…";
/// Columns between two columns.
const SPACE: usize = 2;
/// The least that is left of the last column, however narrow the terminal is.
const LEAST: usize = 16;

/// At which side the cells of a column are aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

/// A table of cells.
#[derive(Debug, Clone)]
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
    /// Of each row, the lines below it.
    below: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(super) const fn new(columns: Vec<(&'static str, Side)>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            below: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn push(&mut self, row: Vec<String>) {
        self.push_with(row, Vec::new());
    }

    /// Adds a row with a cell for each column, and the lines that stand below it.
    pub(super) fn push_with(&mut self, row: Vec<String>, below: Vec<String>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
        self.below.push(below);
    }

    /// Writes it, in lines of at most `width` columns if that is possible. Texts before the last
    /// column take a fifth of the width at most.
    pub(super) fn write(&self, width: Option<usize>, out: &mut impl Write) -> io::Result<()> {
        let most = width.map_or(usize::MAX, |width| (width / 5).max(LEAST));
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].width());
                let heading = self.columns[column].0.width();
                let widest = cells.max().unwrap_or(0).max(heading);
                match self.columns[column].1 {
                    Side::Left => widest.min(most),
                    Side::Right => widest,
                }
            })
            .collect();
        let before_last: usize = widths.iter().rev().skip(1).map(|width| width + SPACE).sum();
        let last = width.map(|width| width.saturating_sub(before_last).max(LEAST));
        let headings = self.columns.iter().map(|(heading, _)| *heading);
        self.write_row(headings, &widths, last, out)?;
        for (row, below) in self.rows.iter().zip(&self.below) {
            self.write_row(row.iter().map(String::as_str), &widths, last, out)?;
            for line in below {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }

    fn write_row<'a>(
        &self,
        cells: impl Iterator<Item = &'a str>,
        widths: &[usize],
        last: Option<usize>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut line = String::new();
        for (column, cell) in cells.enumerate() {
            let is_last = column + 1 == widths.len();
            let side = self.columns[column].1;
            let cell = match (is_last, side) {
                (true, Side::Left) => shortened(cell, last.unwrap_or(usize::MAX)),
                (false, Side::Left) => shortened(cell, widths[column]),
                (_, Side::Right) => cell.to_owned(),
            };
            let padding = widths[column].saturating_sub(cell.width());
            if column > 0 {
                line.push_str(&" ".repeat(SPACE));
            }
            if side == Side::Right {
                line.push_str(&" ".repeat(padding));
            }
            line.push_str(&cell);
            if side == Side::Left && !is_last {
                line.push_str(&" ".repeat(padding));
            }
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// `text` in at most `width` columns: what is too much is left out of its middle, as names differ
/// at their ends.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(GAP.width());
    let fitting = |room: usize, chars: &mut dyn Iterator<Item = char>| {
        let mut used = 0;
        chars
            .take_while(|c| {
                used += c.width().unwrap_or(0);
                used <= room
            })
            .collect::<String>()
    };
    let head = fitting(room.div_ceil(2), &mut text.chars());
    let tail = fitting(room - head.width(), &mut text.chars().rev());
    let tail: String = tail.chars().rev().collect();
    format!("{head}{GAP}{tail}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr as _;

    use super::{Side, Table, shortened};

    fn table(width: Option<usize>) -> String {
        let mut table = Table::new(vec![
            ("Self", Side::Right),
            ("Module", Side::Left),
            ("Function", Side::Left),
        ]);
        for (weight, module, function) in [
            ("1,000", "libc.so.6", "malloc"),
            ("5", "a_very_long_module_name", "a_very_long_function_name"),
            ("1", "日本", "日本語日本語日本語日本語"),
        ] {
            table.push(vec![
                weight.to_owned(),
                module.to_owned(),
                function.to_owned(),
            ]);
        }
        let mut out = Vec::new();
        table.write(width, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_nothing_is_cut() {
        assert_eq!(
            table(None).lines().collect::<Vec<_>>(),
            [
                " Self  Module                   Function",
                "1,000  libc.so.6                malloc",
                "    5  a_very_long_module_name  a_very_long_function_name",
                "    1  日本                     日本語日本語日本語日本語",
            ]
        );
    }

    #[test]
    fn long_names_give_way_to_the_width() {
        assert_eq!(
            table(Some(44)).lines().collect::<Vec<_>>(),
            [
                " Self  Module            Function",
                "1,000  libc.so.6         malloc",
                "    5  a_very_l…le_name  a_very_lo…tion_name",
                "    1  日本              日本語日…本語日本語",
            ]
        );
    }

    proptest! {
        #[test]
        fn shortened_text_fits(text in "\\PC{0,30}", width in 1..30_usize) {
            let short = shortened(&text, width);
            prop_assert!(short.width() <= width, "{short:?}");
            prop_assert!(text.width() > width || short == text);
        }
    }
}
