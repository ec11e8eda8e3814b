//! What goes through each call path, of all runs: paths are the nodes of the tree of stacks.
//!
//! Most of a tree is small, and is left out before anything is computed for each run.

use super::{
    compare::Run,
    sums::{Space, Sums},
};

/// A call path that is large enough, with what goes through it.
#[derive(Debug, Clone)]
pub(super) struct PathTotals {
    /// The path, by its number.
    pub(super) path: u32,
    /// The weights, of each run of each side.
    pub(super) weights: [Vec<f64>; 2],
}

/// The paths of which runs have at least such a share on average.
pub(super) fn totals(space: &Space, sides: [&[Run]; 2], least: f64) -> Vec<PathTotals> {
    // Twice what goes through each path of a run, instead of all of it at once: that would be large.
    let mut of_run = vec![0.0; space.paths()];
    let mut shares = vec![0.0; space.paths()];
    for runs in sides {
        for run in runs {
            fill(space, &run.sums, &mut of_run);
            let scale = 0.5 / run.sums.whole / runs.len() as f64;
            for (share, weight) in shares.iter_mut().zip(&of_run) {
                *share += weight * scale;
            }
        }
    }
    let mut totals: Vec<PathTotals> = (0..)
        .zip(shares)
        .filter(|(_, share)| *share >= least)
        .map(|(path, _)| PathTotals {
            path,
            weights: sides.map(|runs| Vec::with_capacity(runs.len())),
        })
        .collect();
    for (side, runs) in sides.into_iter().enumerate() {
        for run in runs {
            fill(space, &run.sums, &mut of_run);
            for total in &mut totals {
                total.weights[side].push(of_run[total.path as usize]);
            }
        }
    }
    totals
}

/// What goes through each path in one run.
fn fill(space: &Space, sums: &Sums, totals: &mut [f64]) {
    totals.fill(0.0);
    for (path, weight) in &sums.paths {
        totals[*path as usize] += weight;
    }
    // A path comes after the one that it goes on.
    for path in (0..totals.len()).rev() {
        if let Some(parent) = space.parent(path as u32) {
            totals[parent as usize] += totals[path];
        }
    }
}
