//! Judges two groups of runs: which functions, stack kinds and the whole got slower, and how sure that
//! is.
//!
//! Runs are the replicates: samples within a run are not independent. What is compared is cost, the
//! weight per unit of work. A function counts as changed if its cost changed, and its share of the whole
//! too: where the machine was slower everything costs more, and no function is to blame. Both have to
//! be significant ([`RankTest`]), after the control of false discoveries over all functions that are
//! large enough to matter ([`adjusted`]).
//!
//! What is large enough is decided by the mean of all runs of both sides, which says nothing of the
//! difference, so that the choice does not spoil the test.

use std::cmp::Reverse;

use serde::Serialize;

use super::{
    causes::{self, Cause},
    paths::{self, PathTotals},
    stats::{Interval, RankTest, adjusted, bootstrap, mean, smallest_p},
    sums::{Function, Space, Sums},
};
use crate::profile::FrameClass;

/// Mean samples a run that something has to have for a test to make sense.
const MIN_SAMPLES: f64 = 5.0;
/// Any figure: the intervals are the same every time.
const SEED: u64 = 0x5741_4c4b;

/// How to judge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// By how much of itself something has to change, 0.05 for 5 %.
    pub threshold: f64,
    /// ... and by how much of the whole.
    pub min_effect: f64,
    /// The share of wrong discoveries.
    pub alpha: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threshold: 0.05,
            min_effect: 0.01,
            alpha: 0.01,
        }
    }
}

/// A run of one side.
#[derive(Debug, Clone)]
pub struct Run {
    /// What it weighs.
    pub sums: Sums,
    /// Units of work it did.
    pub work: f64,
    /// How long it ran, in nanoseconds.
    pub wall_ns: f64,
}

/// Why nothing can be said.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// There are too few runs for any difference to be significant.
    #[error(
        "{before} and {after} runs are too few: the clearest difference there can be has a p value \
         of {least:.3}, above {alpha}; record at least {needed} runs of each"
    )]
    TooFewRuns {
        /// Runs before.
        before: usize,
        /// Runs after.
        after: usize,
        /// The smallest p value.
        least: f64,
        /// The level.
        alpha: f64,
        /// How many it takes.
        needed: usize,
    },
    /// A run has no samples.
    #[error("run {1} of the {0} set has no samples of what is compared")]
    Empty(&'static str, usize),
    /// Runs are too short.
    #[error(
        "runs have {samples:.0} samples: too few to see a change of {percent} % of them; let the command \
         do more, or raise -F"
    )]
    TooFewSamples {
        /// Mean samples of a run.
        samples: f64,
        /// The least change that is asked for, in percent.
        percent: f64,
    },
}

/// What something costs on both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Effect {
    /// Mean cost of a unit of work before, in the unit of the profiles.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// The difference as a share of the whole before.
    pub of_whole: f64,
    /// Where `of_whole` is with a confidence of 95 %.
    pub interval: Interval,
    /// How likely such a difference is if there is none, for the whole of all tests (q value).
    pub q: f64,
    /// The same for this test alone.
    pub p: f64,
}

impl Effect {
    /// The difference as a share of what it was; `None` if it was nothing.
    #[must_use]
    pub fn relative(&self) -> Option<f64> {
        (self.before > 0.0).then(|| self.after / self.before - 1.0)
    }
}

/// What became of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// No change that counts.
    #[default]
    Unchanged,
    /// It costs more.
    Regression,
    /// It costs less.
    Improvement,
    /// It is now a part of another function, or was one: the sum is the same.
    Moved,
}

/// Which cost of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// By itself.
    #[serde(rename = "self")]
    Own,
    /// With all that it calls.
    Total,
}

/// A function and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its number among the functions of the comparison.
    pub function: u32,
    /// Which cost.
    pub measure: Measure,
    /// By how much.
    pub effect: Effect,
    /// What became of it.
    pub status: Status,
    /// Where the cost came from or went to, if it moved.
    pub moved: Option<u32>,
}

/// A stack kind, user space or the whole, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its code; `None` for the whole.
    pub class: Option<FrameClass>,
    /// By how much.
    pub effect: Effect,
    /// What became of it.
    pub status: Status,
}

/// A call path that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct PathFinding {
    /// Its functions, root first.
    pub path: Vec<u32>,
    /// By how much all that goes through it changed.
    pub effect: Effect,
    /// What became of it.
    pub status: Status,
}

/// The result.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// How it was judged.
    pub options: Options,
    /// The functions that findings refer to.
    pub functions: Vec<Function>,
    /// The whole, then the classes of code.
    pub parts: Vec<Part>,
    /// Wall time of a unit of work, which is not judged: it has no stacks.
    pub wall: Effect,
    /// All functions that were tested, those that changed most first.
    pub findings: Vec<Finding>,
    /// Call paths that changed, those that changed most first. They do not decide: a change of all
    /// paths to a function is one of the function.
    pub paths: Vec<PathFinding>,
    /// What explains the regressions, the largest first.
    pub causes: Vec<Cause>,
    /// What explains the improvements.
    pub gains: Vec<Cause>,
    /// Whether one function alone could pass: with few runs only several that change at once can.
    pub lone_function_passes: bool,
}

impl Comparison {
    /// Compares the runs of two sides, whose numbers are those of `space`.
    ///
    /// # Errors
    /// If they cannot be judged.
    pub fn new(space: &Space, sides: [&[Run]; 2], options: Options) -> Result<Self, Refusal> {
        check(sides, options)?;
        let judge = Judge::new(sides, options);
        let wall = {
            let costs = sides.map(|runs| -> Vec<f64> {
                runs.iter().map(|run| run.wall_ns / run.work).collect()
            });
            let whole = mean(&costs[0]);
            judge.effect([&costs[0], &costs[1]], whole, None)
        };
        let findings = judge.functions(space);
        let tests = findings.len();
        let parts = judge.parts();
        let mut comparison = Self {
            options,
            functions: space.functions().to_vec(),
            parts,
            wall,
            findings,
            paths: judge.paths(space),
            causes: Vec::new(),
            gains: Vec::new(),
            lone_function_passes: smallest_p(judge.sizes) * tests as f64 <= options.alpha,
        };
        let flows = causes::Flows::new(space, sides, &judge.scales, judge.whole_before);
        for finding in &mut comparison.findings {
            if finding.status != Status::Unchanged
                && let Some(other) = flows.moved(finding.function, finding.measure, finding.effect)
            {
                (finding.status, finding.moved) = (Status::Moved, Some(other));
            }
        }
        let of = |status: Status| {
            let findings = comparison.findings.iter();
            let these = findings.filter(|finding| finding.status == status);
            let mut functions: Vec<u32> = these.map(|finding| finding.function).collect();
            functions.sort_unstable();
            functions.dedup();
            functions
        };
        let least = options.min_effect;
        comparison.causes = flows.causes(&of(Status::Regression), least, 1.0);
        comparison.gains = flows.causes(&of(Status::Improvement), least, -1.0);
        Ok(comparison)
    }

    /// The whole.
    #[must_use]
    pub fn whole(&self) -> &Part {
        &self.parts[0]
    }

    /// Whether anything got slower.
    #[must_use]
    pub fn has(&self, status: Status) -> bool {
        let findings = self.findings.iter().map(|finding| finding.status);
        let parts = self.parts.iter().map(|part| part.status);
        findings.chain(parts).any(|found| found == status)
    }

    /// The function with this number.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn function(&self, number: u32) -> &Function {
        &self.functions[number as usize]
    }

    /// A finding of a function, if it was tested.
    #[must_use]
    pub fn finding(&self, function: u32, measure: Measure) -> Option<&Finding> {
        let mut findings = self.findings.iter();
        findings.find(|finding| (finding.function, finding.measure) == (function, measure))
    }
}

fn check(sides: [&[Run]; 2], options: Options) -> Result<(), Refusal> {
    let sizes = sides.map(<[Run]>::len);
    let least = smallest_p(sizes);
    if sizes.contains(&0) || least > options.alpha {
        let needed = (1..).find(|size| smallest_p([*size; 2]) <= options.alpha);
        return Err(Refusal::TooFewRuns {
            before: sizes[0],
            after: sizes[1],
            least,
            alpha: options.alpha,
            needed: needed.unwrap_or(usize::MAX),
        });
    }
    for (runs, name) in sides.into_iter().zip(["first", "second"]) {
        for (number, run) in (1..).zip(runs) {
            if run.sums.whole <= 0.0 {
                return Err(Refusal::Empty(name, number));
            }
        }
        let samples: Vec<f64> = runs.iter().map(|run| run.sums.samples as f64).collect();
        let samples = mean(&samples);
        if samples * options.min_effect < MIN_SAMPLES {
            return Err(Refusal::TooFewSamples {
                samples,
                percent: options.min_effect * 100.0,
            });
        }
    }
    Ok(())
}

/// Weights as costs and as shares, of all runs of both sides.
struct Judge<'a> {
    sides: [&'a [Run]; 2],
    sizes: [usize; 2],
    options: Options,
    /// What a weight is to be multiplied by for the cost of a unit of work, of each run.
    scales: [Vec<f64>; 2],
    whole_before: f64,
}

/// One thing that is tested.
struct Tested<K> {
    key: K,
    costs: [Vec<f64>; 2],
    p: f64,
}

impl<'a> Judge<'a> {
    fn new(sides: [&'a [Run]; 2], options: Options) -> Self {
        let scales = sides.map(|runs| runs.iter().map(|run| run.work.recip()).collect::<Vec<_>>());
        let wholes: Vec<f64> = sides[0]
            .iter()
            .map(|run| run.sums.whole / run.work)
            .collect();
        Self {
            sides,
            sizes: sides.map(<[Run]>::len),
            options,
            scales,
            whole_before: mean(&wholes),
        }
    }

    /// What something weighs in all runs, as costs and as shares.
    fn both(&self, weight: impl Fn(&Sums) -> f64) -> [[Vec<f64>; 2]; 2] {
        self.both_of(|side, run| weight(&self.sides[side][run].sums))
    }

    /// The same, by the side and the index of the run.
    fn both_of(&self, weight: impl Fn(usize, usize) -> f64) -> [[Vec<f64>; 2]; 2] {
        let of_all = |value: &dyn Fn(usize, usize) -> f64| {
            [0, 1].map(|side| (0..self.sizes[side]).map(|run| value(side, run)).collect())
        };
        let costs = of_all(&|side, run| weight(side, run) * self.scales[side][run]);
        let shares = of_all(&|side, run| weight(side, run) / self.sides[side][run].sums.whole);
        [costs, shares]
    }

    /// Something of which costs and shares are compared, if it is large enough: if it has half of the
    /// least effect on average, as what has that effect does.
    fn tested<K>(
        &self,
        test: &mut RankTest,
        key: K,
        [costs, shares]: [[Vec<f64>; 2]; 2],
    ) -> Option<Tested<K>> {
        let average = f64::midpoint(mean(&shares[0]), mean(&shares[1]));
        (average >= self.options.min_effect / 2.0).then(|| Tested {
            key,
            p: { test.p(&costs[0], &costs[1]) }.max(test.p(&shares[0], &shares[1])),
            costs,
        })
    }

    fn effect(&self, [before, after]: [&[f64]; 2], whole: f64, q: Option<(f64, f64)>) -> Effect {
        let means = [mean(before), mean(after)];
        let chosen = |values: &[f64], indices: &[usize]| {
            let sum: f64 = indices.iter().map(|index| values[*index]).sum();
            sum / indices.len() as f64
        };
        let sizes = [before.len(), after.len()];
        let (p, q) = q.unwrap_or_else(|| {
            let p = RankTest::new(sizes).p(before, after);
            (p, p)
        });
        Effect {
            before: means[0],
            after: means[1],
            of_whole: (means[1] - means[0]) / whole,
            interval: bootstrap(sizes, SEED, |a, b| {
                (chosen(after, b) - chosen(before, a)) / whole
            }),
            p,
            q,
        }
    }

    /// Whether an effect counts.
    fn status(&self, effect: &Effect) -> Status {
        let Options {
            threshold,
            min_effect,
            alpha,
        } = self.options;
        let is_relative = effect
            .relative()
            .is_none_or(|change| change.abs() >= threshold);
        if effect.q > alpha || effect.of_whole.abs() < min_effect || !is_relative {
            return Status::Unchanged;
        }
        match effect.of_whole > 0.0 {
            true => Status::Regression,
            false => Status::Improvement,
        }
    }

    /// Tests functions that are large enough.
    fn functions(&self, space: &Space) -> Vec<Finding> {
        let mut test = RankTest::new(self.sizes);
        let mut tested = Vec::new();
        for function in 0..space.functions().len() as u32 {
            for (index, measure) in [Measure::Own, Measure::Total].into_iter().enumerate() {
                let weight = |sums: &Sums| {
                    let weights = sums.functions.get(&function);
                    weights.map_or(0.0, |weights| weights[index])
                };
                let key = (function, measure);
                tested.extend(self.tested(&mut test, key, self.both(weight)));
            }
        }
        let judged = self.judged(tested);
        let mut findings: Vec<Finding> = judged
            .into_iter()
            .map(|((function, measure), effect, status)| Finding {
                function,
                measure,
                effect,
                status,
                moved: None,
            })
            .collect();
        findings.sort_by(|a, b| {
            let size = |finding: &Finding| finding.effect.of_whole.abs();
            let counts = |finding: &Finding| finding.status != Status::Unchanged;
            Reverse(counts(a))
                .cmp(&Reverse(counts(b)))
                .then(size(b).total_cmp(&size(a)))
                .then(a.function.cmp(&b.function))
        });
        findings
    }

    /// Tests call paths that are large enough; only those that changed are of interest.
    fn paths(&self, space: &Space) -> Vec<PathFinding> {
        let mut test = RankTest::new(self.sizes);
        let totals = paths::totals(space, self.sides, self.options.min_effect / 2.0);
        let tested = totals
            .into_iter()
            .filter_map(|PathTotals { path, weights }| {
                let both = self.both_of(|side, run| weights[side][run]);
                self.tested(&mut test, path, both)
            });
        let judged = self.judged(tested.collect()).into_iter();
        let changed = judged.filter(|(.., status)| *status != Status::Unchanged);
        let mut paths: Vec<PathFinding> = changed
            .map(|(path, effect, status)| PathFinding {
                path: space.way(path),
                effect,
                status,
            })
            .collect();
        paths.sort_by(|a, b| {
            let size = |finding: &PathFinding| finding.effect.of_whole.abs();
            size(b)
                .total_cmp(&size(a))
                .then_with(|| a.path.cmp(&b.path))
        });
        paths
    }

    /// Tests the whole and the classes of code.
    fn parts(&self) -> Vec<Part> {
        let mut test = RankTest::new(self.sizes);
        let mut classes: Vec<FrameClass> = self
            .sides
            .iter()
            .flat_map(|runs| runs.iter())
            .flat_map(|run| run.sums.classes.keys().copied())
            .collect();
        classes.sort_unstable();
        classes.dedup();
        let [costs, _] = self.both(|sums| sums.whole);
        let mut tested = vec![Tested {
            key: None,
            p: test.p(&costs[0], &costs[1]),
            costs,
        }];
        for class in classes {
            let both = self.both(|sums| sums.classes.get(&class).copied().unwrap_or_default());
            tested.extend(self.tested(&mut test, Some(class), both));
        }
        let judged = self.judged(tested).into_iter();
        let parts = judged.map(|(class, effect, status)| Part {
            class,
            effect,
            status,
        });
        parts.collect()
    }

    fn judged<K>(&self, tested: Vec<Tested<K>>) -> Vec<(K, Effect, Status)> {
        let p_values: Vec<f64> = tested.iter().map(|tested| tested.p).collect();
        let q_values = adjusted(&p_values);
        let judged = tested.into_iter().zip(q_values).map(|(tested, q)| {
            let costs = [&tested.costs[0][..], &tested.costs[1][..]];
            let effect = self.effect(costs, self.whole_before, Some((tested.p, q)));
            let status = self.status(&effect);
            (tested.key, effect, status)
        });
        judged.collect()
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
