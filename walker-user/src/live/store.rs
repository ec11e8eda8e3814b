//! What is known of the samples so far: distinct named stacks, those of the last minutes by slots of
//! time, and the sums since the start.
//!
//! Stacks and what they refer to only get more within a generation. When they get too many the store
//! begins anew with those that matter. How they are sent is `wire`'s business.

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;

use crate::{
    numbered::Numbered,
    output::html::tables::Tables,
    profile::{FrameId, Meta, Profile, SymbolId, WeightedStack, timeline::Point},
};

/// Length of a slot of time, in nanoseconds.
pub const SLOT_NS: u64 = 50_000_000;
/// How many slots are kept: five minutes.
pub(super) const KEPT_SLOTS: u32 = 6_000;
/// Most rows that are kept, 32 bytes each. Where many CPUs are busy with many stacks, they are of a
/// shorter time.
const MAX_ROWS: usize = 1_500_000;
/// Most nodes of all stacks, and most stacks, until the store begins anew.
const MAX_NODES: usize = 600_000;
const MAX_STACKS: usize = 200_000;
/// How many nodes are kept then.
const KEPT_NODES: usize = 200_000;
/// What stands for the frames of a stack that were not kept.
const FORGOTTEN: &str = "[frames of few samples, not kept]";
/// What stands for processes that were not kept.
const OTHERS: &str = "[others]";

/// Most samples that are told one by one.
const MAX_SINGLE: u64 = 4_000_000;

/// Why samples cannot be told one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSingle {
    /// The times of the first ones are not kept any more.
    TooOld,
    /// There are so many.
    TooMany(u64),
}

/// Which samples are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The latest ones.
    Last(Duration),
    /// Those of these slots, the second not included.
    Slots(u32, u32),
    /// All since the start.
    Start,
}

/// The samples of one stack on one CPU in one slot of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) slot: u32,
    pub(super) cpu: u32,
    pub(super) stack: u32,
    pub(super) samples: u32,
    pub(super) weight: u64,
}

/// A sum of samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) samples: u64,
    pub(super) weight: u64,
}

impl Sum {
    fn add(&mut self, samples: u64, weight: u64) {
        self.samples += samples;
        self.weight = self.weight.saturating_add(weight);
    }
}

/// What is new since the flush before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flushed {
    /// What was counted for the first of two stacks belongs to the second.
    pub(super) moved: Vec<(u32, u32)>,
    /// Rows in the order of their slots, with their stacks as of now.
    pub(super) rows: Vec<Row>,
}

/// A stack that is to be kept: with its named frames, root first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedStack {
    pub(super) process: SymbolId,
    pub(super) comm: SymbolId,
    /// If it is of this process alone.
    pub(super) pid: Option<u32>,
    pub(super) event: usize,
    pub(super) frames: Vec<FrameId>,
    pub(super) stop: &'static str,
    pub(super) complete: bool,
}

/// Keeps samples.
#[derive(Debug)]
pub struct Store {
    /// Frames and stacks; the weights are in `sums` and `rows`.
    pub(super) profile: Profile,
    pub(super) tables: Tables,
    /// Frames below what they stand on: the parent + 1 or 0, and the head or the frame.
    pub(super) nodes: Numbered<(u32, u32)>,
    /// The innermost node of each stack, and why its walk stopped. Of those that are sent as the
    /// same, the profile has the first.
    pub(super) stacks: Numbered<(u32, u32)>,
    pub(super) sums: Vec<Sum>,
    pub(super) rows: VecDeque<Row>,
    /// Rows since the last flush, which are not in `rows` yet.
    fresh: FxHashMap<(u32, u32, u32), Sum>,
    /// Moves since the last flush.
    moved: Vec<(u32, u32)>,
    /// How many stacks there were when the generation began.
    kept_stacks: usize,
    pub(super) generation: u64,
    /// The slot that the time has reached.
    pub(super) slot: u32,
    /// The first slot whose rows are whole.
    pub(super) first_slot: u32,
    /// The first slot that samples can still be added to.
    first_open: u32,
    addresses: bool,
}

impl Store {
    /// Nothing is known. Without `addresses`, no address of the kernel is kept. No other run may have
    /// the same generation.
    #[must_use]
    pub fn new(meta: Meta, addresses: bool, generation: u64) -> Self {
        Self {
            profile: Profile::new(meta),
            tables: Tables::new(addresses),
            nodes: Numbered::default(),
            stacks: Numbered::default(),
            sums: Vec::new(),
            rows: VecDeque::new(),
            fresh: FxHashMap::default(),
            moved: Vec::new(),
            kept_stacks: 0,
            generation,
            slot: 0,
            first_slot: 0,
            first_open: 0,
            addresses,
        }
    }

    /// The number of a stack, whose frames are those of [`Store::profile`].
    pub(super) fn stack(&mut self, mut stack: NamedStack) -> u32 {
        if !self.addresses {
            for id in &mut stack.frames {
                *id = self.profile.without_kernel_address(*id);
            }
        }
        let stack = WeightedStack {
            process: stack.process,
            comm: stack.comm,
            pid: stack.pid,
            frames: stack.frames,
            event: stack.event,
            samples: 0,
            weight: 0,
            stop: stack.stop,
            complete: stack.complete,
        };
        self.intern(stack)
    }

    fn intern(&mut self, stack: WeightedStack) -> u32 {
        let head = self.tables.head(&self.profile, &stack);
        let mut node = self.nodes.number((0, head));
        for id in &stack.frames {
            let frame = self.tables.frame(&self.profile, *id);
            node = self.nodes.number((node + 1, frame));
        }
        let stop = self.tables.stops.number((stack.stop, stack.complete));
        let id = self.stacks.number((node, stop));
        if id as usize == self.sums.len() {
            self.sums.push(Sum::default());
            self.profile.push(stack);
        }
        id
    }

    /// Adds a sample. One that comes later than samples of a later slot counts for that slot, and one
    /// of a slot that is closed for the first that is open.
    pub(super) fn add(&mut self, slot: u32, cpu: u32, stack: u32, weight: u64) {
        let last = self.rows.back().map_or(0, |row| row.slot);
        let key = (slot.max(last).max(self.first_open), cpu, stack);
        self.fresh.entry(key).or_default().add(1, weight);
    }

    /// No sample will be in a slot before this one that is not in a row by now.
    pub(super) fn close(&mut self, slot: u32) {
        self.first_open = self.first_open.max(slot);
        for ((slot, cpu, stack), sum) in std::mem::take(&mut self.fresh) {
            let key = (slot.max(self.first_open), cpu, stack);
            let entry = self.fresh.entry(key).or_default();
            entry.add(sum.samples, sum.weight);
        }
    }

    /// What was counted for one stack belongs to another.
    pub(super) fn move_stack(&mut self, from: u32, to: u32) {
        if from != to {
            self.moved.push((from, to));
        }
    }

    /// The time has reached a slot: what was added since the last flush is put in order, and old rows
    /// are forgotten. Returns what is new.
    pub(super) fn flush(&mut self, slot: u32) -> Flushed {
        self.slot = self.slot.max(slot);
        let moved = std::mem::take(&mut self.moved);
        self.apply(&moved);
        let mut fresh: Vec<Row> = self
            .fresh
            .drain()
            .map(|((slot, cpu, stack), sum)| Row {
                slot,
                cpu,
                stack,
                samples: u32::try_from(sum.samples).unwrap_or(u32::MAX),
                weight: sum.weight,
            })
            .collect();
        fresh.sort_unstable_by_key(|row| (row.slot, row.cpu, row.stack));
        for row in &fresh {
            self.sums[row.stack as usize].add(row.samples.into(), row.weight);
        }
        self.rows.extend(&fresh);
        self.first_slot = self.first_slot.max(self.slot.saturating_sub(KEPT_SLOTS));
        if self.rows.len() > MAX_ROWS {
            self.first_slot = self.rows[self.rows.len() - MAX_ROWS].slot + 1;
        }
        while let Some(row) = self.rows.front()
            && row.slot < self.first_slot
        {
            self.rows.pop_front();
        }
        Flushed { moved, rows: fresh }
    }

    fn apply(&mut self, moved: &[(u32, u32)]) {
        if moved.is_empty() {
            return;
        }
        // From the last on, so that a stack that moved twice goes to where it went at last.
        let mut ends: FxHashMap<u32, u32> = FxHashMap::default();
        for (from, to) in moved.iter().rev() {
            let end = ends.get(to).copied().unwrap_or(*to);
            ends.insert(*from, end);
        }
        for (from, to) in moved {
            let sum = std::mem::take(&mut self.sums[*from as usize]);
            self.sums[*to as usize].add(sum.samples, sum.weight);
        }
        for row in &mut self.rows {
            if let Some(end) = ends.get(&row.stack) {
                row.stack = *end;
            }
        }
        for ((slot, cpu, stack), sum) in std::mem::take(&mut self.fresh) {
            let end = ends.get(&stack).copied().unwrap_or(stack);
            let entry = self.fresh.entry((slot, cpu, end)).or_default();
            entry.add(sum.samples, sum.weight);
        }
    }

    /// Whether clients are told addresses of the kernel.
    pub(super) const fn tells_addresses(&self) -> bool {
        self.addresses
    }

    /// Whether the store should begin anew.
    pub(super) fn is_full(&self) -> bool {
        let stacks = self.sums.len();
        self.nodes.rows().len() > MAX_NODES || stacks > MAX_STACKS.max(2 * self.kept_stacks)
    }

    /// The store with the frames that matter, of the samples since the start and of the last minutes;
    /// of the others it is said that they were not kept. All sums stay what they are.
    #[must_use]
    pub(super) fn next_generation(&self) -> Self {
        let meta = self.profile.meta.clone();
        let mut next = Self::new(meta, self.addresses, self.generation + 1);
        (next.slot, next.first_slot) = (self.slot, self.first_slot);
        next.first_open = self.first_open;
        let kept = self.kept(KEPT_NODES);
        let mut moved = vec![0; self.sums.len()];
        for (stack, sum) in self.sums.iter().enumerate() {
            if sum.samples > 0 {
                let shortened = self.shortened(stack, &kept, &mut next.profile);
                moved[stack] = next.intern(shortened);
                next.sums[moved[stack] as usize].add(sum.samples, sum.weight);
            }
        }
        let mut rows: Vec<Row> = self.rows.iter().copied().collect();
        for row in &mut rows {
            row.stack = moved[row.stack as usize];
        }
        rows.sort_unstable_by_key(|row| (row.slot, row.cpu, row.stack));
        rows.dedup_by(|more, row| {
            let same = (more.slot, more.cpu, more.stack) == (row.slot, row.cpu, row.stack);
            if same {
                row.samples = row.samples.saturating_add(more.samples);
                row.weight = row.weight.saturating_add(more.weight);
            }
            same
        });
        next.rows = rows.into();
        next.kept_stacks = next.sums.len();
        next
    }

    /// Which nodes are kept, at most so many: those of the largest share of all samples since the
    /// start and of those that are kept one by one. What a node that is kept stands on is kept.
    fn kept(&self, most: usize) -> Vec<bool> {
        let mut recent = vec![0u64; self.sums.len()];
        for row in &self.rows {
            recent[row.stack as usize] += u64::from(row.samples);
        }
        let all: u64 = self.sums.iter().map(|sum| sum.samples).sum();
        let all_recent: u64 = recent.iter().sum();
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        let mut shares = vec![0.0; self.nodes.rows().len()];
        for (stack, (sum, recent)) in self.sums.iter().zip(recent).enumerate() {
            let (node, _) = self.stacks.rows()[stack];
            shares[node as usize] += share(sum.samples, all) + share(recent, all_recent);
        }
        for (node, (parent, _)) in self.nodes.rows().iter().enumerate().rev() {
            if *parent > 0 {
                shares[*parent as usize - 1] += shares[node];
            }
        }
        // Parents come first where shares are equal.
        let mut order: Vec<u32> = (0..shares.len() as u32).collect();
        order.sort_by(|a, b| shares[*b as usize].total_cmp(&shares[*a as usize]));
        let mut kept = vec![false; shares.len()];
        for node in order.into_iter().take(most) {
            kept[node as usize] = true;
        }
        kept
    }

    /// A stack in `profile`, without the frames that are not kept.
    fn shortened(&self, stack: usize, kept: &[bool], profile: &mut Profile) -> WeightedStack {
        let old = &self.profile.stacks()[stack];
        let (mut node, _) = self.stacks.rows()[stack];
        let mut cut = 0;
        let has_process = loop {
            if kept[node as usize] {
                break true;
            }
            let (parent, _) = self.nodes.rows()[node as usize];
            match parent.checked_sub(1) {
                Some(parent) => node = parent,
                None => break false,
            }
            cut += 1;
        };
        let rest = &old.frames[..old.frames.len().saturating_sub(cut)];
        let rest = rest.iter().map(|id| self.profile.frame(*id));
        let mut frames: Vec<FrameId> = rest
            .map(|frame| profile.take_over(&self.profile, frame))
            .collect();
        if cut > 0 || !has_process {
            frames.push(profile.note(FORGOTTEN));
        }
        let mut name = |name| {
            profile.intern(match has_process {
                true => self.profile.text(name),
                false => OTHERS,
            })
        };
        WeightedStack {
            process: name(old.process),
            comm: name(old.comm),
            pid: old.pid.filter(|_| has_process),
            frames,
            ..*old
        }
    }

    /// The samples of a window, with their stacks, and the slot in which it begins.
    #[must_use]
    pub fn window(&self, window: Window) -> (Profile, u32) {
        let (from, to) = self.slots(window);
        let sums = match window {
            Window::Start => self.sums.clone(),
            _ => self.sums_of(from, to),
        };
        (self.weighed(&sums, from, to), from)
    }

    /// The slots of a window, the second not included.
    fn slots(&self, window: Window) -> (u32, u32) {
        match window {
            Window::Start => (0, self.slot.saturating_add(1)),
            Window::Slots(from, to) => (from.max(self.first_slot), to),
            Window::Last(time) => {
                let slots = time.as_nanos() as u64 / SLOT_NS;
                let slots = u32::try_from(slots).unwrap_or(u32::MAX);
                let from = self.slot.saturating_sub(slots);
                (from.max(self.first_slot), self.slot.saturating_add(1))
            }
        }
    }

    /// The rows of some slots.
    fn rows_of(&self, from: u32, to: u32) -> impl Iterator<Item = &Row> {
        let first = self.rows.partition_point(|row| row.slot < from);
        let rows = self.rows.iter().skip(first);
        rows.take_while(move |row| row.slot < to)
    }

    fn sums_of(&self, from: u32, to: u32) -> Vec<Sum> {
        let mut sums = vec![Sum::default(); self.sums.len()];
        for row in self.rows_of(from, to) {
            sums[row.stack as usize].add(row.samples.into(), row.weight);
        }
        sums
    }

    fn weighed(&self, sums: &[Sum], from: u32, to: u32) -> Profile {
        let weights = sums.iter().map(|sum| (sum.samples, sum.weight));
        let mut profile = self.profile.weighed(weights);
        let slots = u64::from(to.saturating_sub(from).min(self.slot.saturating_add(1)));
        profile.meta.duration = Duration::from_nanos(slots * SLOT_NS);
        let samples = sums.iter().map(|sum| sum.samples).sum();
        profile.meta.totals.taken = samples;
        profile.meta.totals.delivered = samples;
        profile
    }

    /// The samples of a window one by one, and the slot in which it begins. When in its slot a sample
    /// was taken is not known: those of a row are spread over it. Nor is the thread.
    ///
    /// # Errors
    /// If the times of samples since the start are not all kept any more, or there are too many.
    pub fn samples(&self, window: Window) -> Result<(Profile, Vec<Point>, u32), NotSingle> {
        if window == Window::Start && self.first_slot > 0 {
            return Err(NotSingle::TooOld);
        }
        let (from, to) = self.slots(window);
        let sums = self.sums_of(from, to);
        let all: u64 = sums.iter().map(|sum| sum.samples).sum();
        if all > MAX_SINGLE {
            return Err(NotSingle::TooMany(all));
        }
        // Stacks without samples are not in the profile.
        let mut next = 0;
        let numbers: Vec<u32> = sums
            .iter()
            .map(|sum| {
                let number = next;
                next += u32::from(sum.samples > 0);
                number
            })
            .collect();
        let mut points = Vec::with_capacity(all as usize);
        for row in self.rows_of(from, to) {
            let samples = u64::from(row.samples);
            let begin = u64::from(row.slot - from) * SLOT_NS;
            points.extend((0..samples).map(|index| Point {
                time_ns: begin + SLOT_NS * index / samples,
                stack: numbers[row.stack as usize],
                tid: 0,
                cpu: row.cpu,
                number: 0,
                weight: row.weight / samples + u64::from(index < row.weight % samples),
                first_use: 0,
                use_count: 0,
            }));
        }
        points.sort_by_key(|point| point.time_ns);
        for (number, point) in (1..).zip(&mut points) {
            point.number = number;
        }
        Ok((self.weighed(&sums, from, to), points, from))
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
