//! The bytes of objects: which files are open, whether they still hold what they held, and how they
//! are opened again.

use std::sync::Arc;

use super::{
    super::{
        Unavailable,
        object::{Contents, Key, Object, ObjectId},
        open::Opened,
    },
    Objects,
};

impl Objects {
    /// An object's bytes. Its file is opened again if it was closed since, and stays open at least
    /// as long as the answer is kept.
    ///
    /// # Errors
    /// If it cannot be opened any more, or is another file now, or other contents were written to
    /// it. That is then final unless another process maps the same file.
    pub fn contents(&mut self, id: ObjectId) -> Result<Arc<Contents>, Unavailable> {
        if let Some(contents) = self.current(id) {
            return Ok(contents);
        }
        if let Some(reason) = self.get(id).lost {
            return Err(reason);
        }
        let mut failure = Unavailable::Gone;
        let object = self.get(id);
        for place in [object.place.clone(), object.path.clone()] {
            match Opened::at(place) {
                Ok(opened) if Key::of(&opened) == self.get(id).key => {
                    self.get_mut(id).state = Some(opened.state);
                    return Ok(self.keep(id, Contents::File(opened.file)));
                }
                Ok(_) => failure = Unavailable::Replaced,
                Err(Unavailable::Gone) => {}
                Err(reason) => failure = reason,
            }
        }
        self.get_mut(id).lost = Some(failure);
        Err(failure)
    }

    /// The bytes that are at hand. A file to which something else was written is closed.
    pub(super) fn current(&mut self, id: ObjectId) -> Option<Arc<Contents>> {
        self.clock += 1;
        let clock = self.clock;
        let object = self.get_mut(id);
        object.used = clock;
        let contents = Arc::clone(object.contents.as_ref()?);
        if let Contents::File(file) = &*contents
            && object.is_still(file).is_err()
        {
            object.contents = None;
            self.open -= 1;
            return None;
        }
        Some(contents)
    }

    /// Keeps an object's bytes at hand, and closes files that were not used for long if there are
    /// too many.
    pub(super) fn keep(&mut self, id: ObjectId, contents: Contents) -> Arc<Contents> {
        if matches!(contents, Contents::File(_)) {
            if self.open >= self.max_open {
                self.close_older_half();
            }
            self.open += 1;
        }
        self.clock += 1;
        let clock = self.clock;
        let object = self.get_mut(id);
        object.used = clock;
        object.lost = None;
        Arc::clone(object.contents.insert(Arc::new(contents)))
    }

    fn close_older_half(&mut self) {
        let is_open =
            |object: &&mut Object| matches!(object.contents.as_deref(), Some(Contents::File(_)));
        let mut open: Vec<&mut Object> = self.objects.iter_mut().filter(is_open).collect();
        let half = open.len() / 2;
        if half < open.len() {
            open.select_nth_unstable_by_key(half, |object| object.used);
        }
        let closed = half.max(1).min(open.len());
        for object in &mut open[..closed] {
            object.contents = None;
        }
        self.open -= closed;
    }
}
