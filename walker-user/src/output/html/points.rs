//! The samples of a page: one by one or, where there are too many, merged in slots of time.

use rustc_hash::FxHashMap;

/// A sample, or several that are shown as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// In nanoseconds since the recording began; of several, where their slot begins.
    pub(super) time_ns: u64,
    /// Indices into the page's stacks, threads and CPUs.
    pub(super) stack: u32,
    pub(super) thread: u32,
    pub(super) cpu: u32,
    /// How many samples.
    pub(super) samples: u64,
    /// What they weigh.
    pub(super) weight: u64,
}

/// How samples were merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merged {
    /// The length of a slot in nanoseconds.
    pub(super) slot_ns: u64,
    /// Whether threads and CPUs are still told apart.
    pub(super) threads: bool,
}

/// How many slots of time there may be, from what is tried first. Threads are told apart in the
/// finer half only: whoever looks for threads looks for when.
const SLOTS: [(u64, bool); 9] = [
    (4096, true),
    (1024, true),
    (256, true),
    (4096, false),
    (1024, false),
    (256, false),
    (64, false),
    (8, false),
    (1, false),
];

/// Merges `rows`, which are in the order of time, if there are more than `most` of them.
///
/// What comes back has at most `most` rows, or one of each stack.
pub(super) fn merge(rows: Vec<Row>, most: usize) -> (Vec<Row>, Option<Merged>) {
    if rows.len() <= most {
        return (rows, None);
    }
    let end_ns = rows.last().map_or(0, |row| row.time_ns);
    let length_ns = end_ns.saturating_add(1);
    for (slots, threads) in SLOTS {
        let slot_ns = length_ns.div_ceil(slots);
        // One slot is the last resort, and takes what it takes.
        let most = if slots == 1 { usize::MAX } else { most };
        if let Some(rows) = in_slots(&rows, slot_ns, threads, most) {
            return (rows, Some(Merged { slot_ns, threads }));
        }
    }
    unreachable!("there is always one slot")
}

/// The rows merged, or `None` if that makes more than `most`.
fn in_slots(rows: &[Row], slot_ns: u64, threads: bool, most: usize) -> Option<Vec<Row>> {
    let mut merged: Vec<Row> = Vec::new();
    let mut found: FxHashMap<(u32, u32, u32), usize> = FxHashMap::default();
    let mut slot = 0;
    for row in rows {
        let in_slot = row.time_ns / slot_ns;
        if in_slot != slot {
            slot = in_slot;
            found.clear();
        }
        let (thread, cpu) = if threads {
            (row.thread, row.cpu)
        } else {
            (0, 0)
        };
        let place = *found
            .entry((row.stack, thread, cpu))
            .or_insert(merged.len());
        if let Some(same) = merged.get_mut(place) {
            same.samples += row.samples;
            same.weight = same.weight.saturating_add(row.weight);
        } else if merged.len() == most {
            return None;
        } else {
            merged.push(Row {
                time_ns: slot * slot_ns,
                thread,
                cpu,
                ..*row
            });
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::{Merged, Row, merge};

    /// So many samples, a microsecond apart, of so many stacks and threads in turn.
    fn rows(count: u64, stacks: u64, threads: u64) -> Vec<Row> {
        let row = |number: u64| Row {
            time_ns: number * 1000,
            stack: (number % stacks) as u32,
            thread: (number / stacks % threads) as u32,
            cpu: 0,
            samples: 1,
            weight: 2,
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn few_samples_stay_as_they_are() {
        let few = rows(10, 3, 2);
        assert_eq!(merge(few.clone(), 10), (few, None));
    }

    #[test]
    fn nothing_gets_lost_and_the_limit_holds() {
        for (stacks, threads, most, told_apart) in [
            (3, 2, 30_000, true),
            (3, 50, 1_000, false),
            (70, 1, 100, false),
        ] {
            let (merged, how) = merge(rows(100_000, stacks, threads), most);
            let how = how.unwrap();
            assert!(merged.len() <= most, "{} of {most}", merged.len());
            assert_eq!(how.threads, told_apart, "{stacks} {threads} {most}");
            assert_eq!(merged.iter().map(|row| row.samples).sum::<u64>(), 100_000);
            assert_eq!(merged.iter().map(|row| row.weight).sum::<u64>(), 200_000);
            assert!(merged.is_sorted_by_key(|row| row.time_ns));
            assert!(merged.iter().all(|row| row.time_ns % how.slot_ns == 0));
        }
    }

    #[test]
    fn each_stack_is_kept_whatever_the_limit() {
        let (merged, how) = merge(rows(1000, 100, 1), 10);
        assert_eq!(merged.len(), 100);
        let slot_ns = 999_001;
        assert_eq!(
            how,
            Some(Merged {
                slot_ns,
                threads: false
            })
        );
    }
}
