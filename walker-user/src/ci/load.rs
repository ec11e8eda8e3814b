//! Reads the runs of a set, several at a time, and makes numbers of them in their order.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

use super::{
    compare::Run,
    set::{Set, SetError},
    sums::{Space, Sums},
};
use crate::profile::{Profile, Unit};

/// The runs of a set.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What each run weighs.
    pub runs: Vec<Run>,
    /// The events that were sampled.
    pub events: Vec<String>,
    /// What weights are in.
    pub unit: Unit,
    /// Nanoseconds of a weight of 1, if it is time.
    pub unit_ns: Option<f64>,
    /// Samples that arrived, of all runs.
    pub delivered: u64,
    /// Samples that were lost, of all runs.
    pub lost: u64,
}

impl Loaded {
    /// The share of what is compared that is in code of the kernel without a name.
    #[must_use]
    pub fn nameless_share(&self) -> f64 {
        let sum = |part: fn(&Sums) -> f64| self.runs.iter().map(|run| part(&run.sums)).sum::<f64>();
        sum(|sums| sums.nameless) / sum(|sums| sums.whole).max(f64::MIN_POSITIVE)
    }

    /// The share of samples that were lost.
    #[must_use]
    pub fn lost_share(&self) -> f64 {
        let all = self.delivered + self.lost;
        self.lost as f64 / all.max(1) as f64
    }
}

/// Reads all runs of a set. Each profile is handed to `each` as well.
///
/// # Errors
/// If a run cannot be read.
pub fn load(
    space: &mut Space,
    set: &Set,
    mut each: impl FnMut(&Profile),
) -> Result<Loaded, SetError> {
    let count = set.head.runs.len();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let (sender, profiles) = sync_channel(workers);
    let mut loaded = Loaded {
        runs: Vec::with_capacity(count),
        events: Vec::new(),
        unit: Unit::default(),
        unit_ns: None,
        delivered: 0,
        lost: 0,
    };
    thread::scope(|scope| {
        for _ in 0..workers.min(count) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let profile = set.run(index).map(|recording| recording.timeline().profile);
                    let failed = profile.is_err();
                    // Nobody listens any more where another run could not be read.
                    if sender.send((index, profile)).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Numbers are given in the order of the runs, so that the same sets have the same.
        let mut early = BTreeMap::new();
        for (index, profile) in profiles {
            early.insert(index, profile?);
            while let Some(profile) = early.remove(&loaded.runs.len()) {
                loaded.add(space, set, &profile);
                each(&profile);
            }
        }
        Ok(loaded)
    })
}

impl Loaded {
    fn add(&mut self, space: &mut Space, set: &Set, profile: &Profile) {
        let number = self.runs.len();
        let meta = &profile.meta;
        self.events.clone_from(&meta.events);
        self.unit = meta.unit;
        self.unit_ns = match (meta.unit, meta.frequency) {
            (Unit::Nanoseconds, _) => Some(1.0),
            // So many samples are taken of a second on a CPU.
            (Unit::Samples, Some(frequency)) => Some(1e9 / frequency as f64),
            _ => None,
        };
        let totals = &meta.totals;
        self.delivered += totals.delivered;
        self.lost += totals.lost.iter().map(|lost| lost.samples).sum::<u64>();
        self.runs.push(Run {
            sums: space.add(profile),
            work: set.head.work(number),
            wall_ns: set.head.runs[number].wall_ns as f64,
        });
    }
}
