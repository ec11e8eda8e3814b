//! When functions changed in a series of sets, such as one of each commit.
//!
//! A series is divided where its two parts differ most, if they differ significantly, and both parts
//! again. As in a comparison, the cost and the share both have to differ. The p value is multiplied by
//! the number of places and functions that were looked at (Bonferroni), which is strict: a place is
//! looked for, not given.

use super::{
    compare::{Options, Run},
    stats::{RankTest, mean},
    sums::{Function, Space, Sums},
};

/// A place where a series changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// The first set that is different, by index.
    pub set: usize,
    /// Mean cost between the change before and this one.
    pub before: f64,
    /// Mean cost from here to the next change.
    pub after: f64,
    /// The difference as a share of the whole before.
    pub of_whole: f64,
    /// How likely such a difference is if there is none.
    pub p: f64,
}

/// What a function, or the whole, costs in a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The function; `None` for the whole.
    pub function: Option<u32>,
    /// The costs of a unit of work, of the runs of each set.
    pub costs: Vec<Vec<f64>>,
    /// Where they changed, in order.
    pub changes: Vec<ChangePoint>,
}

/// The series of everything that is large enough.
#[derive(Debug, Clone)]
pub struct Trend {
    /// The functions that series are of.
    pub functions: Vec<Function>,
    /// The whole, then what changed, by how much it did at most, then the rest.
    pub series: Vec<Series>,
}

impl Series {
    /// The largest change, as a share of the whole.
    #[must_use]
    pub fn largest(&self) -> f64 {
        let changes = self.changes.iter().map(|change| change.of_whole.abs());
        changes.fold(0.0, f64::max)
    }
}

/// Costs and shares of the runs of each set.
struct Values {
    costs: Vec<Vec<f64>>,
    shares: Vec<Vec<f64>>,
}

impl Trend {
    /// Looks for changes in these sets, which are in order.
    #[must_use]
    pub fn new(space: &Space, sets: &[Vec<Run>], options: Options) -> Self {
        let whole = values(sets, |sums| sums.whole);
        let supported: Vec<(u32, Values)> = (0..space.functions().len() as u32)
            .filter_map(|function| {
                let values = values(sets, |sums| {
                    sums.functions
                        .get(&function)
                        .map_or(0.0, |weights| weights[1])
                });
                let most = values.shares.iter().map(|shares| mean(shares));
                (most.fold(0.0, f64::max) >= options.min_effect).then_some((function, values))
            })
            .collect();
        let finder = Finder {
            options,
            whole: &whole.costs,
            tests: (supported.len() + 1) as f64,
        };
        let mut series: Vec<Series> = supported
            .into_iter()
            .map(|(function, values)| Series {
                function: Some(function),
                changes: finder.changes(&values, true),
                costs: values.costs,
            })
            .collect();
        series.sort_by(|a, b| {
            let size = |series: &Series| {
                let costs = series.costs.iter().map(|costs| mean(costs));
                costs.fold(0.0, f64::max)
            };
            b.largest()
                .total_cmp(&a.largest())
                .then(size(b).total_cmp(&size(a)))
                .then(a.function.cmp(&b.function))
        });
        let first = Series {
            function: None,
            changes: finder.changes(&whole, false),
            costs: whole.costs.clone(),
        };
        series.insert(0, first);
        Self {
            functions: space.functions().to_vec(),
            series,
        }
    }
}

fn values(sets: &[Vec<Run>], weight: impl Fn(&Sums) -> f64) -> Values {
    let each = |value: &dyn Fn(&Run) -> f64| {
        let sets = sets.iter();
        sets.map(|runs| runs.iter().map(value).collect()).collect()
    };
    Values {
        costs: each(&|run| weight(&run.sums) / run.work),
        shares: each(&|run| weight(&run.sums) / run.sums.whole.max(f64::MIN_POSITIVE)),
    }
}

struct Finder<'a> {
    options: Options,
    whole: &'a [Vec<f64>],
    tests: f64,
}

impl Finder<'_> {
    /// The changes of a series. `by_share`: its share has to differ, too.
    fn changes(&self, values: &Values, by_share: bool) -> Vec<ChangePoint> {
        let mut places = Vec::new();
        let mut waiting = vec![(0, values.costs.len())];
        while let Some((from, to)) = waiting.pop() {
            if let Some((place, p)) = self.place(values, from, to, by_share) {
                places.push((place, p));
                waiting.extend([(from, place), (place, to)]);
            }
        }
        places.sort_by_key(|(place, _)| *place);
        let ends: Vec<usize> = { places.iter().map(|(place, _)| *place) }
            .chain([values.costs.len()])
            .collect();
        let mut from = 0;
        let changes = (0..places.len()).map(|number| {
            let (set, p) = places[number];
            let before = mean(&values.costs[from..set].concat());
            let after = mean(&values.costs[set..ends[number + 1]].concat());
            let whole = mean(&self.whole[from..set].concat());
            from = set;
            ChangePoint {
                set,
                before,
                after,
                of_whole: (after - before) / whole,
                p,
            }
        });
        changes.collect()
    }

    /// Where a part of a series differs most, if that is significant, and its p value.
    fn place(
        &self,
        values: &Values,
        from: usize,
        to: usize,
        by_share: bool,
    ) -> Option<(usize, f64)> {
        // Between the sums of squares, in the manner of a CUSUM.
        let contrast = |place: usize| {
            let parts = [&values.costs[from..place], &values.costs[place..to]].map(<[_]>::concat);
            let [first, second] = [parts[0].len() as f64, parts[1].len() as f64];
            let far = mean(&parts[0]) - mean(&parts[1]);
            first * second / (first + second) * far * far
        };
        let places = from + 1..to;
        let count = places.len() as f64;
        let place = places.max_by(|a, b| contrast(*a).total_cmp(&contrast(*b)))?;
        let p = |values: &[Vec<f64>]| {
            let [before, after] = [&values[from..place], &values[place..to]].map(<[_]>::concat);
            RankTest::new([before.len(), after.len()]).p(&before, &after)
        };
        let mut least = p(&values.costs);
        if by_share {
            least = least.max(p(&values.shares));
        }
        let p = (least * count * self.tests).min(1.0);
        let [before, after] =
            [&values.costs[from..place], &values.costs[place..to]].map(|part| mean(&part.concat()));
        let whole = mean(&self.whole[from..place].concat());
        let counts = (after - before).abs() >= self.options.min_effect * whole
            && (after - before).abs() >= self.options.threshold * before;
        (p <= self.options.alpha && counts).then_some((place, p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ci::{fixture::run, stats::Random, sums::Scope};

    /// Sets of runs in which two functions cost so much.
    fn trend(costs: &[[f64; 2]]) -> Trend {
        let mut space = Space::new(Scope::default());
        let mut random = Random::new(5);
        let sets = costs.iter().map(|[first, second]| {
            let stacks = [
                ("app;first", first * 1000.0),
                ("app;second", second * 1000.0),
            ];
            let runs = (0..6).map(|_| run(&mut space, &mut random, &stacks, 1.0));
            runs.collect()
        });
        let sets: Vec<Vec<Run>> = sets.collect();
        Trend::new(&space, &sets, Options::default())
    }

    fn changes(trend: &Trend, name: &str) -> Vec<usize> {
        let series = trend.series.iter().find(|series| {
            let function = series
                .function
                .map(|number| &trend.functions[number as usize].name);
            function.is_some_and(|function| function == name)
        });
        series
            .unwrap()
            .changes
            .iter()
            .map(|change| change.set)
            .collect()
    }

    #[test]
    fn changes_are_found_where_they_are() {
        let trend = trend(&[
            [5.0, 5.0],
            [5.0, 5.0],
            [5.0, 5.0],
            [5.0, 6.0],
            [5.0, 6.0],
            [5.0, 6.0],
            [5.0, 6.0],
            [5.0, 4.0],
            [5.0, 4.0],
            [5.0, 4.0],
        ]);
        assert_eq!(changes(&trend, "second"), [3, 7]);
        assert_eq!(changes(&trend, "first"), [0usize; 0]);
        assert_eq!(trend.series[0].function, None);
        let change = trend.series[1].changes[0];
        assert!((change.of_whole - 0.1).abs() < 0.01, "{change:?}");
    }

    #[test]
    fn a_series_that_stays_the_same_or_is_short_has_no_change() {
        assert!(
            trend(&[[5.0, 5.0]; 12])
                .series
                .iter()
                .all(|series| series.changes.is_empty())
        );
        assert!(trend(&[[5.0, 5.0]]).series[0].changes.is_empty());
    }
}
