//! The samples of a timeline by thread.

use rustc_hash::FxHashMap;

use crate::profile::{
    Profile, SymbolId,
    timeline::{Point, Timeline},
};

/// A thread that has samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thread {
    /// Its process; `None` if stacks were merged over processes.
    pub(super) pid: Option<u32>,
    pub(super) tid: u32,
    /// What its process was called last.
    pub(super) process: SymbolId,
    /// What it was called last.
    pub(super) comm: SymbolId,
    /// Its samples, as indices into [`Timeline::points`].
    points: Vec<u32>,
}

impl Thread {
    /// Its samples, in the order of time.
    pub(super) fn points<'a>(
        &'a self,
        timeline: &'a Timeline,
    ) -> impl ExactSizeIterator<Item = &'a Point> + Clone {
        let points = self.points.iter();
        points.map(|&index| &timeline.points[index as usize])
    }

    /// Its name and number, such as `make 42/43`.
    pub(super) fn title(&self, profile: &Profile) -> String {
        let comm = super::printable(profile.text(self.comm));
        match self.pid {
            Some(pid) => format!("{comm} {pid}/{}", self.tid),
            None => format!("{comm} {}", self.tid),
        }
    }
}

/// The threads by process, the main thread of each first.
pub(super) fn threads(timeline: &Timeline) -> Vec<Thread> {
    let stacks = timeline.profile.stacks();
    let mut known: FxHashMap<(Option<u32>, u32), usize> = FxHashMap::default();
    let mut threads: Vec<Thread> = Vec::new();
    for (index, point) in (0..).zip(&timeline.points) {
        let stack = &stacks[point.stack as usize];
        let at = *known.entry((stack.pid, point.tid)).or_insert_with(|| {
            threads.push(Thread {
                pid: stack.pid,
                tid: point.tid,
                process: stack.process,
                comm: stack.comm,
                points: Vec::new(),
            });
            threads.len() - 1
        });
        threads[at].process = stack.process;
        threads[at].comm = stack.comm;
        threads[at].points.push(index);
    }
    threads.sort_by_key(|thread| (thread.pid, thread.pid != Some(thread.tid), thread.tid));
    threads
}

#[cfg(test)]
mod tests {
    use super::threads;
    use crate::profile::fixture;

    #[test]
    fn every_sample_is_of_one_thread() {
        let timeline = fixture::timeline();
        let threads = threads(&timeline);
        let shown: Vec<_> = threads
            .iter()
            .map(|thread| (thread.title(&timeline.profile), thread.points.len()))
            .collect();
        assert_eq!(
            shown,
            [("cc1 42/42".to_owned(), 64), ("cc1 42/43".to_owned(), 36)]
        );
        let mut times = threads[0].points(&timeline).map(|point| point.time_ns);
        assert!({ &mut times }.is_sorted());
    }
}
