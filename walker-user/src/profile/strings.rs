//! Strings stored once and passed around as small numbers.
//!
//! A profile names the same few thousand functions in millions of frames.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// A string stored in [`Strings`].
///
/// Equal strings have equal ids. The order of ids is the order in which the strings were first
/// seen, not the alphabetical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolId(u32);

/// A set of strings that only grows.
#[derive(Debug, Clone, Default)]
pub struct Strings {
    list: Vec<Arc<str>>,
    ids: FxHashMap<Arc<str>, SymbolId>,
}

impl Strings {
    /// The id of `text`, which is stored if it is new.
    ///
    /// # Panics
    ///
    /// If there would be more than 2^32 strings.
    pub fn intern(&mut self, text: &str) -> SymbolId {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = SymbolId(u32::try_from(self.list.len()).expect("fewer than 2^32 strings"));
        let shared: Arc<str> = text.into();
        self.list.push(Arc::clone(&shared));
        self.ids.insert(shared, id);
        id
    }

    /// The string with this id.
    ///
    /// # Panics
    ///
    /// If the id comes from another set that had more strings.
    #[must_use]
    pub fn get(&self, id: SymbolId) -> &str {
        &self.list[id.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::Strings;

    #[test]
    fn equal_strings_share_an_id() {
        let mut strings = Strings::default();
        let read = strings.intern("read");
        let write = strings.intern("write");
        assert_ne!(read, write);
        assert_eq!(strings.intern("read"), read);
        assert_eq!(strings.get(write), "write");
    }
}
