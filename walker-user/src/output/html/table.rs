//! Values stored once and named by their index.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// A set of values that only grows, in the order in which they were first seen.
#[derive(Debug)]
pub(crate) struct Table<T> {
    list: Vec<T>,
    ids: FxHashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            list: Vec::new(),
            ids: FxHashMap::default(),
        }
    }

    /// The index of `value`, which is stored if it is new.
    pub(crate) fn id(&mut self, value: T) -> u32 {
        if let Some(&id) = self.ids.get(&value) {
            return id;
        }
        let id = u32::try_from(self.list.len()).expect("a profile has fewer than 2^32 of anything");
        self.list.push(value.clone());
        self.ids.insert(value, id);
        id
    }

    /// The values by their indices.
    pub(crate) fn list(&self) -> &[T] {
        &self.list
    }
}
