//! Confidence intervals by resampling (Efron, Tibshirani: "An Introduction to the Bootstrap", 13.3,
//! the percentile interval).

use super::Random;

/// How often is resampled.
const RESAMPLES: usize = 2000;
/// How likely the truth is outside on each side.
const TAIL: f64 = 0.025;

/// Where a figure is with a confidence of 95 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The interval of a figure of two groups. `figure` gets the indices of values to take, as many as
/// there are in each group, some more than once.
#[must_use]
pub fn bootstrap(
    sizes: [usize; 2],
    seed: u64,
    mut figure: impl FnMut(&[usize], &[usize]) -> f64,
) -> Interval {
    let mut random = Random::new(seed);
    let mut chosen = sizes.map(|size| vec![0; size]);
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for group in &mut chosen {
                let size = group.len();
                group.fill_with(|| random.below(size));
            }
            figure(&chosen[0], &chosen[1])
        })
        .filter(|figure| figure.is_finite())
        .collect();
    if figures.is_empty() {
        return Interval {
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        };
    }
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (figures.len() - 1) as f64;
        figures[place.round() as usize]
    };
    Interval {
        low: at(TAIL),
        high: at(1.0 - TAIL),
    }
}
