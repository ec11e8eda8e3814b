//! The control of false discoveries: of thousands of functions, a few look as if they had changed. Of
//! those that are called changed, no more than a share shall be wrong.
//!
//! Benjamini, Hochberg: "Controlling the false discovery rate", J. R. Statist. Soc. B 57 (1995). It
//! holds where tests are independent or rise together, as those of a function and its callers do.

/// The q value of each p value: the smallest share at which it still counts as a discovery.
#[must_use]
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut q_values = vec![1.0; p_values.len()];
    let mut least: f64 = 1.0;
    for (below, index) in order.into_iter().enumerate().rev() {
        let rank = (below + 1) as f64;
        least = least.min(p_values[index] * p_values.len() as f64 / rank);
        q_values[index] = least;
    }
    q_values
}
