//! The latest deltas, which every client reads at its own pace, and a snapshot for those that have
//! just come or fell too far behind.
//!
//! Nothing is kept for a client but its place: a slow one costs no memory and nobody waits for it.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

/// Most bytes of deltas that are kept.
const MAX_BYTES: usize = 16 << 20;
/// Most deltas that are kept: about a minute.
const MAX_DELTAS: usize = 300;

/// A place in the stream: the delta that was read last, or that a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The generation; 0 for nothing read.
    pub generation: u64,
    /// The sequence number.
    pub seq: u64,
}

/// The latest deltas of one generation.
#[derive(Debug)]
pub(super) struct Stream {
    last: Place,
    deltas: VecDeque<Arc<str>>,
    bytes: usize,
    /// The last snapshot, for those that can still go on from it.
    snapshot: Option<(Place, Arc<str>)>,
    changed: watch::Sender<Place>,
}

/// What comes after a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// A delta.
    Delta(Place, Arc<str>),
    /// A snapshot that was made before.
    Snapshot(Place, Arc<str>),
    /// A snapshot is to be made.
    MakeSnapshot,
    /// Nothing yet.
    Nothing,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            last: Place::default(),
            deltas: VecDeque::new(),
            bytes: 0,
            snapshot: None,
            changed: watch::Sender::new(Place::default()),
        }
    }

    /// Tells of each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<Place> {
        self.changed.subscribe()
    }

    /// How many are told of changes.
    pub(super) fn listeners(&self) -> usize {
        self.changed.receiver_count()
    }

    /// Adds the next delta.
    pub(super) fn push(&mut self, place: Place, delta: String) {
        if place.generation != self.last.generation {
            self.deltas.clear();
            self.bytes = 0;
            self.snapshot = None;
        }
        self.last = place;
        self.bytes += delta.len();
        self.deltas.push_back(delta.into());
        while self.deltas.len() > MAX_DELTAS || self.bytes > MAX_BYTES && self.deltas.len() > 1 {
            let old = self.deltas.pop_front();
            self.bytes -= old.map_or(0, |old| old.len());
        }
        // One that cannot be followed is of no use.
        if let Some((place, _)) = &self.snapshot
            && self.index_after(*place).is_none()
        {
            self.snapshot = None;
        }
        self.changed.send_replace(place);
    }

    /// Keeps a snapshot as of the last delta.
    pub(super) fn keep(&mut self, snapshot: String) -> (Place, Arc<str>) {
        let kept = (self.last, Arc::from(snapshot));
        self.snapshot = Some(kept.clone());
        kept
    }

    /// The index of the delta after a place; `None` if it is not kept any more.
    fn index_after(&self, place: Place) -> Option<usize> {
        let first = self.last.seq + 1 - self.deltas.len() as u64;
        let same = place.generation == self.last.generation && place.seq <= self.last.seq;
        let index = (place.seq + 1).checked_sub(first).filter(|_| same)?;
        usize::try_from(index).ok()
    }

    /// What comes after a place.
    pub(super) fn after(&self, place: Place) -> Next {
        match self.index_after(place) {
            Some(index) => match self.deltas.get(index) {
                Some(delta) => {
                    let seq = place.seq + 1;
                    Next::Delta(Place { seq, ..place }, Arc::clone(delta))
                }
                None => Next::Nothing,
            },
            None => match &self.snapshot {
                Some((place, text)) => Next::Snapshot(*place, Arc::clone(text)),
                None => Next::MakeSnapshot,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(generation: u64, seq: u64) -> Place {
        Place { generation, seq }
    }

    fn with(count: u64) -> Stream {
        let mut stream = Stream::new();
        for seq in 1..=count {
            stream.push(place(1, seq), seq.to_string());
        }
        stream
    }

    #[test]
    fn clients_go_on_from_their_place() {
        let stream = with(3);
        assert_eq!(
            stream.after(place(1, 1)),
            Next::Delta(place(1, 2), "2".into())
        );
        assert_eq!(stream.after(place(1, 3)), Next::Nothing);
        assert_eq!(stream.after(Place::default()), Next::MakeSnapshot);
        // Of another run, or of none.
        assert_eq!(stream.after(place(2, 2)), Next::MakeSnapshot);
        assert_eq!(stream.after(place(1, 4)), Next::MakeSnapshot);
    }

    #[test]
    fn who_falls_behind_gets_a_snapshot_that_others_share() {
        let mut stream = with(MAX_DELTAS as u64 + 5);
        assert_eq!(stream.after(place(1, 2)), Next::MakeSnapshot);
        assert_eq!(
            stream.after(place(1, 5)),
            Next::Delta(place(1, 6), "6".into())
        );
        let (at, text) = stream.keep("all".to_owned());
        assert_eq!(at, place(1, MAX_DELTAS as u64 + 5));
        assert_eq!(stream.after(place(1, 2)), Next::Snapshot(at, text));
        // Until it cannot be followed itself.
        for seq in at.seq + 1..=at.seq + MAX_DELTAS as u64 {
            stream.push(place(1, seq), String::new());
        }
        assert!(matches!(stream.after(place(1, 2)), Next::Snapshot(..)));
        stream.push(place(1, at.seq + MAX_DELTAS as u64 + 1), String::new());
        assert_eq!(stream.after(place(1, 2)), Next::MakeSnapshot);
    }

    #[test]
    fn a_new_generation_is_a_new_beginning() {
        let mut stream = with(3);
        stream.keep("old".to_owned());
        stream.push(place(2, 1), "new".to_owned());
        assert_eq!(stream.after(place(1, 2)), Next::MakeSnapshot);
        assert_eq!(
            stream.after(place(2, 0)),
            Next::Delta(place(2, 1), "new".into())
        );
    }

    #[test]
    fn the_deltas_that_are_kept_are_bounded_in_bytes() {
        let mut stream = Stream::new();
        for seq in 1..=5 {
            stream.push(place(1, seq), "x".repeat(MAX_BYTES / 2));
        }
        assert_eq!(stream.deltas.len(), 2);
        assert_eq!(stream.bytes, MAX_BYTES);
    }
}
