//! The Mann–Whitney U test: whether values of one group tend to be larger than those of another. It
//! takes nothing for granted of how they are distributed, so an outlier counts as one value.
//!
//! The distribution is exact, given the ties there are, for groups of up to [`MAX_EXACT`] values
//! together, and the normal one with a correction for ties beyond (Hollander, Wolfe: "Nonparametric
//! Statistical Methods", 4.1).

use rustc_hash::FxHashMap;

/// Up to so many values the distribution is exact.
const MAX_EXACT: usize = 60;

/// Tests of groups of the same sizes. It remembers distributions, which only depend on the ties.
#[derive(Debug, Clone)]
pub struct RankTest {
    sizes: [usize; 2],
    /// By the sizes of ties, in order: of each doubled rank sum of the first group, the probability
    /// of at most that much.
    distributions: FxHashMap<Vec<usize>, Vec<f64>>,
}

impl RankTest {
    /// Tests of groups of so many values.
    #[must_use]
    pub fn new(sizes: [usize; 2]) -> Self {
        Self {
            sizes,
            distributions: FxHashMap::default(),
        }
    }

    /// The two-sided p value: how likely a difference at least as clear is if there is none. 1 if a
    /// group is empty.
    ///
    /// # Panics
    ///
    /// If the groups have other sizes.
    pub fn p(&mut self, before: &[f64], after: &[f64]) -> f64 {
        assert_eq!([before.len(), after.len()], self.sizes);
        if before.is_empty() || after.is_empty() {
            return 1.0;
        }
        let (ties, sum) = ranked(before, after);
        match before.len() + after.len() <= MAX_EXACT {
            true => self.exact(ties, sum),
            false => self.normal(&ties, sum),
        }
    }

    /// The same by the normal distribution, however few the values are.
    #[cfg(test)]
    pub(super) fn p_normal(&self, before: &[f64], after: &[f64]) -> f64 {
        let (ties, sum) = ranked(before, after);
        self.normal(&ties, sum)
    }

    fn exact(&mut self, ties: Vec<usize>, sum: usize) -> f64 {
        let [first, second] = self.sizes;
        let all = first + second;
        let at_most = self
            .distributions
            .entry(ties)
            .or_insert_with_key(|ties| distribution(ties, first));
        // The mean of the doubled sum; what is as far from it on the other side is as clear.
        let mean = first * (all + 1);
        let far = sum.abs_diff(mean);
        let low = mean.checked_sub(far).map_or(0.0, |sum| at_most[sum]);
        let high = match (mean + far).checked_sub(1) {
            Some(sum) => 1.0 - at_most.get(sum).copied().unwrap_or(1.0),
            None => 1.0,
        };
        // Ties can make the distribution lopsided. High is a difference of numbers near 1, which
        // cannot tell tiny ones; without ties it is the same as low.
        let both = match at_most.len() {
            0 => 1.0,
            _ if (high - low).abs() < 1e-9 => 2.0 * low,
            _ => low + high,
        };
        both.min(1.0)
    }

    fn normal(&self, ties: &[usize], sum: usize) -> f64 {
        let [first, second] = self.sizes.map(|size| size as f64);
        let all = first + second;
        let tied: f64 = ties
            .iter()
            .map(|tie| (*tie as f64).powi(3) - *tie as f64)
            .sum();
        let variance = first * second / 12.0 * (all + 1.0 - tied / (all * (all - 1.0)));
        if variance <= 0.0 {
            return 1.0;
        }
        let far = (sum as f64 / 2.0 - first * (all + 1.0) / 2.0).abs();
        // Half a step nearer, as sums are whole numbers.
        let z = (far - 0.5).max(0.0) / variance.sqrt();
        (2.0 * upper_tail(z)).min(1.0)
    }
}

/// The sizes of ties, in the order of their values, and the doubled rank sum of the first group.
fn ranked(before: &[f64], after: &[f64]) -> (Vec<usize>, usize) {
    let first = before.iter().map(|value| (*value, true));
    let second = after.iter().map(|value| (*value, false));
    let mut values: Vec<(f64, bool)> = first.chain(second).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Ranks are doubled, so that those of ties are whole numbers.
    let mut ties = Vec::new();
    let (mut sum, mut below) = (0, 0);
    // -0 and 0 are the same.
    for tie in values.chunk_by(|a, b| a.0 == b.0) {
        let rank = 2 * below + tie.len() + 1;
        sum += rank * tie.iter().filter(|(_, is_first)| *is_first).count();
        below += tie.len();
        ties.push(tie.len());
    }
    (ties, sum)
}

/// Of each doubled rank sum of a group of `size`, how likely at most that much is.
fn distribution(ties: &[usize], size: usize) -> Vec<f64> {
    let all: usize = ties.iter().sum();
    let most = size * (2 * all - size + 1) + 1;
    // How many ways there are to choose so many values with that sum. Counts stay below 2^60, and the
    // sums of rounded ones are good to 15 digits.
    let mut ways = vec![vec![0.0; most + 1]; size + 1];
    ways[0][0] = 1.0;
    let mut below = 0;
    for tie in ties {
        let rank = 2 * below + tie + 1;
        for chosen in 0..*tie {
            let seen = below + chosen;
            for count in (0..size.min(seen + 1)).rev() {
                let (fewer, more) = ways.split_at_mut(count + 1);
                for (to, from) in more[0][rank..].iter_mut().zip(&fewer[count]) {
                    *to += from;
                }
            }
        }
        below += tie;
    }
    let ways = &ways[size];
    let total: f64 = ways.iter().sum();
    let mut sum = 0.0;
    ways.iter()
        .map(|count| {
            sum += count;
            sum / total
        })
        .collect()
}

/// How likely more than `z` is in the normal distribution. The relative error is below 1.2e-7 (Press
/// and others: "Numerical Recipes", 6.2, `erfcc`).
fn upper_tail(z: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let sum = COEFFICIENTS
        .iter()
        .fold(0.0, |sum, factor| sum * t + factor);
    0.5 * t * (sum - x * x).exp()
}

/// The smallest p value that groups of these sizes can have: if all values of one are above all of the
/// other.
#[must_use]
pub fn smallest_p([first, second]: [usize; 2]) -> f64 {
    let choices = (1..=first).fold(1.0, |choices, one| {
        choices * (second + one) as f64 / one as f64
    });
    (2.0 / choices).min(1.0)
}
