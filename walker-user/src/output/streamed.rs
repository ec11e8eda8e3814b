//! JSON written as it is made, so that a large profile is never there twice.

use serde::{Serialize, Serializer};

/// An array of what an iterator yields. The closure makes the iterator.
pub(super) struct Each<F>(pub(super) F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: IntoIterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

#[cfg(test)]
mod tests {
    use super::Each;

    #[test]
    fn an_iterator_is_an_array() {
        let text = serde_json::to_string(&Each(|| (0..3).map(|n| n * 2))).unwrap();
        assert_eq!(text, "[0,2,4]");
    }
}
