//! The statistics of the gate: a rank test, confidence intervals by resampling, and the control of
//! false discoveries.
//!
//! Numbers in, numbers out: what they are of is not known here. What is random is seeded, so that the
//! same sets get the same verdict. The tests compare with statrs, with scipy's results, and with
//! simulations of which the truth is known.

mod bootstrap;
mod discoveries;
mod mann_whitney;
mod random;

pub use bootstrap::{Interval, bootstrap};
pub use discoveries::adjusted;
pub use mann_whitney::{RankTest, smallest_p};
pub use random::Random;

/// The mean; 0 of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    match values.len() {
        0 => 0.0,
        count => values.iter().sum::<f64>() / count as f64,
    }
}

/// The median; 0 of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        count if count.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests;
