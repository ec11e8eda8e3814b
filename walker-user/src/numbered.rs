//! Rows of a table, each stored once and known by its number.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// A table that only grows.
#[derive(Debug, Clone)]
pub(crate) struct Numbered<T> {
    rows: Vec<T>,
    numbers: FxHashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            numbers: FxHashMap::default(),
        }
    }
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    /// The number of `row`, from 0.
    ///
    /// # Panics
    ///
    /// If there would be more than 2^32 rows.
    pub(crate) fn number(&mut self, row: T) -> u32 {
        if let Some(&number) = self.numbers.get(&row) {
            return number;
        }
        let number = u32::try_from(self.rows.len()).expect("fewer than 2^32 rows");
        self.rows.push(row.clone());
        self.numbers.insert(row, number);
        number
    }
}

impl<T: Eq + Hash> Numbered<T> {
    /// The number of `row`, if it has one.
    pub(crate) fn known(&self, row: &T) -> Option<u32> {
        self.numbers.get(row).copied()
    }
}

impl<T> Numbered<T> {
    /// All rows, in the order of their numbers.
    pub(crate) fn rows(&self) -> &[T] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::Numbered;

    #[test]
    fn equal_rows_are_one() {
        let mut table = Numbered::default();
        let numbers = ["a", "b", "a"].map(|row| table.number(row));
        assert_eq!(numbers, [0, 1, 0]);
        assert_eq!(table.rows(), ["a", "b"]);
        assert_eq!((table.known(&"b"), table.known(&"c")), (Some(1), None));
    }
}
