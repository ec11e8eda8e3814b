//! What explains changes. A function that got slower takes all its callers with it: of all that
//! changed, the one to name is the smallest that still holds the change. And a function that was
//! inlined, split or renamed did not get slower at all.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    compare::{Effect, Measure, Run},
    sums::Space,
};

/// Most causes that are named.
const MAX_CAUSES: usize = 5;
/// Of functions that explain the change about as well as the best, down to this share of its score,
/// the smallest is named.
const AS_GOOD: f64 = 0.8;
/// What is left of something that is said to be gone, or was there of something new.
const GONE: f64 = 0.05;

/// What changed, and by which way.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// The function.
    pub function: u32,
    /// By how much stacks with it changed that have none of the causes before it, as a share of the
    /// whole before.
    pub of_whole: f64,
    /// The call path to it that changed most, root first.
    pub path: Vec<u32>,
}

/// What goes through a function.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    /// On each side.
    weights: [f64; 2],
    /// How deep it is at most.
    depth: usize,
}

/// What goes through functions, on the average of each side, as shares of the whole before.
pub(super) struct Flows<'a> {
    space: &'a Space,
    /// Of each call path that is all of a stack.
    paths: Vec<(u32, [f64; 2])>,
    functions: FxHashMap<u32, [[f64; 2]; 2]>,
}

impl<'a> Flows<'a> {
    /// The flows of these runs.
    pub(super) fn new(
        space: &'a Space,
        sides: [&[Run]; 2],
        scales: &[Vec<f64>; 2],
        whole_before: f64,
    ) -> Self {
        let mut paths: FxHashMap<u32, [f64; 2]> = FxHashMap::default();
        let mut functions: FxHashMap<u32, [[f64; 2]; 2]> = FxHashMap::default();
        for side in [0, 1] {
            for (run, scale) in sides[side].iter().zip(&scales[side]) {
                let scale = scale / whole_before / sides[side].len() as f64;
                for (path, weight) in &run.sums.paths {
                    paths.entry(*path).or_default()[side] += weight * scale;
                }
                for (function, [own, total]) in &run.sums.functions {
                    let entry = functions.entry(*function).or_default();
                    entry[side][0] += own * scale;
                    entry[side][1] += total * scale;
                }
            }
        }
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort_unstable_by_key(|(path, _)| *path);
        Self {
            space,
            paths,
            functions,
        }
    }

    /// Of functions that changed, those that explain it. `sign` is 1 for what grew and -1 for what
    /// shrank. Changes of less than `least` of the whole are left.
    pub(super) fn causes(&self, changed: &[u32], least: f64, sign: f64) -> Vec<Cause> {
        let mut causes = Vec::new();
        let mut candidates: FxHashSet<u32> = changed.iter().copied().collect();
        let mut paths = self.paths.clone();
        while causes.len() < MAX_CAUSES {
            let totals = self.totals(&paths, &candidates);
            let Some(cause) = best(&totals, least, sign) else {
                break;
            };
            let [before, after] = totals[&cause].weights;
            let (with, without): (Vec<_>, Vec<_>) = paths
                .into_iter()
                .partition(|(path, _)| self.space.path(*path).any(|function| function == cause));
            causes.push(Cause {
                function: cause,
                of_whole: after - before,
                path: self.way(cause, &with, sign),
            });
            candidates.remove(&cause);
            paths = without;
        }
        causes
    }

    /// What goes through each of these functions.
    fn totals(
        &self,
        paths: &[(u32, [f64; 2])],
        functions: &FxHashSet<u32>,
    ) -> FxHashMap<u32, Flow> {
        let mut totals: FxHashMap<u32, Flow> = FxHashMap::default();
        let mut seen = FxHashSet::default();
        for (path, weights) in paths {
            seen.clear();
            let depth = self.space.path(*path).count();
            for (above, function) in self.space.path(*path).enumerate() {
                if functions.contains(&function) && seen.insert(function) {
                    let flow = totals.entry(function).or_default();
                    flow.weights[0] += weights[0];
                    flow.weights[1] += weights[1];
                    flow.depth = flow.depth.max(depth - above);
                }
            }
        }
        totals
    }

    /// The path to a function that changed most, root first.
    fn way(&self, function: u32, paths: &[(u32, [f64; 2])], sign: f64) -> Vec<u32> {
        // The part of each path down to where the function is first.
        let mut ways: FxHashMap<Vec<u32>, f64> = FxHashMap::default();
        for (path, [before, after]) in paths {
            let mut way = self.space.way(*path);
            let first = way.iter().position(|at| *at == function);
            way.truncate(first.map_or(way.len(), |first| first + 1));
            *ways.entry(way).or_default() += sign * (after - before);
        }
        let most = ways
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        most.map_or_else(Vec::new, |(way, _)| way)
    }

    fn of(&self, function: u32, measure: Measure) -> [f64; 2] {
        let index = usize::from(measure == Measure::Total);
        let weights = self.functions.get(&function).copied().unwrap_or_default();
        [weights[0][index], weights[1][index]]
    }

    /// Where the cost of a function came from or went to, if the sum did not change: a function that
    /// is inlined in it now or was before, or that has another name.
    pub(super) fn moved(&self, function: u32, measure: Measure, effect: Effect) -> Option<u32> {
        let growth = effect.of_whole;
        // Seen from the side on which there is more of it.
        let sides = match growth > 0.0 {
            true => [0, 1],
            false => [1, 0],
        };
        let seen = |function, measure| {
            let weights = self.of(function, measure);
            [weights[sides[0]], weights[sides[1]]]
        };
        let size = growth.abs();
        let grew = |[before, after]: [f64; 2]| after - before;
        let is_gone = |[before, after]: [f64; 2]| after < GONE * before && before >= size / 2.0;
        if measure == Measure::Own && grew(seen(function, Measure::Total)) < size / 2.0 {
            // It took over what it called.
            let mut called = self.related(function, |way, at| way.get(at + 1).copied());
            called.retain(|other| is_gone(seen(*other, Measure::Total)));
            return called.into_iter().next();
        }
        // It is new: its caller did that before, or called it by another name.
        let [before, after] = seen(function, Measure::Total);
        if before >= GONE * after {
            return None;
        }
        let caller = { self.related(function, |way, at| way.get(at.checked_sub(1)?).copied()) }
            .into_iter()
            .next()?;
        if grew(seen(caller, Measure::Total)) >= size / 2.0 {
            return None;
        }
        if -grew(seen(caller, Measure::Own)) >= size / 2.0 {
            return Some(caller);
        }
        let mut siblings = self.related(caller, |way, at| way.get(at + 1).copied());
        siblings.retain(|other| *other != function && is_gone(seen(*other, Measure::Total)));
        siblings.into_iter().next()
    }

    /// Functions that stand in a place relative to another in paths, those with most weight on both
    /// sides first. `place` is given a path, root first, and where in it the function is.
    fn related(&self, function: u32, place: impl Fn(&[u32], usize) -> Option<u32>) -> Vec<u32> {
        let mut weights: FxHashMap<u32, f64> = FxHashMap::default();
        for (path, [before, after]) in &self.paths {
            let way = self.space.way(*path);
            for at in 0..way.len() {
                if way[at] == function
                    && let Some(other) = place(&way, at)
                    && other != function
                {
                    *weights.entry(other).or_default() += before + after;
                }
            }
        }
        let mut related: Vec<_> = weights.into_iter().collect();
        related.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        related.into_iter().map(|(function, _)| function).collect()
    }
}

/// The function that explains most of the change: that of which much changed, and little else is in it.
fn best(totals: &FxHashMap<u32, Flow>, least: f64, sign: f64) -> Option<u32> {
    struct Scored {
        function: u32,
        score: f64,
        size: f64,
        depth: usize,
    }
    let scored = totals.iter().filter_map(|(&function, flow)| {
        let [before, after] = flow.weights;
        let growth = sign * (after - before);
        let size = before.max(after);
        (growth >= least).then(|| Scored {
            function,
            score: growth * growth / size,
            size,
            depth: flow.depth,
        })
    });
    let scored: Vec<Scored> = scored.collect();
    let scores = scored.iter().map(|scored| scored.score);
    let highest = scores.fold(0.0, f64::max);
    let good = scored
        .into_iter()
        .filter(|scored| scored.score >= AS_GOOD * highest);
    // Of what is the same size, the innermost.
    let smallest = good.min_by(|a, b| {
        a.size
            .total_cmp(&b.size)
            .then(b.depth.cmp(&a.depth))
            .then(a.function.cmp(&b.function))
    });
    smallest.map(|scored| scored.function)
}
