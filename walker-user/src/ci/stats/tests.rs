//! The statistics beside other implementations, and where the truth is known.

use proptest::prelude::*;
use statrs::stats_tests::{
    Alternative,
    mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu},
};

use super::*;

fn p(before: &[f64], after: &[f64]) -> f64 {
    RankTest::new([before.len(), after.len()]).p(before, after)
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-9 + 1e-6 * expected
}

/// Values of which no two are the same, in any order.
fn distinct(count: usize) -> impl Strategy<Value = Vec<f64>> {
    Just(
        (0..count)
            .map(|value| value as f64 * 1.5)
            .collect::<Vec<_>>(),
    )
    .prop_shuffle()
}

proptest! {
    /// statrs (0.19) knows the exact distribution only where there are no ties, and gives 1 minus the p value
    /// unless the first group is the larger one, which scipy does not.
    #[test]
    fn exact_p_values_are_those_of_statrs(
        (values, size) in (3usize..20).prop_flat_map(|count| (distinct(count), count / 2 + 1..count))
    ) {
        let (before, after) = values.split_at(size);
        let (_, expected) =
            mannwhitneyu(before, after, MannWhitneyUMethod::Exact, Alternative::TwoSided).unwrap();
        let found = p(before, after);
        prop_assert!(near(found, expected), "{found} and {expected}");
        // Which group is first makes no difference.
        prop_assert!(near(p(after, before), found));
    }

    #[test]
    fn p_values_of_the_normal_distribution_are_those_of_statrs(
        before in prop::collection::vec(0u8..20, 5..40),
        after in prop::collection::vec(0u8..20, 5..40),
    ) {
        let [before, after] = [before, after].map(|group| {
            group.into_iter().map(f64::from).collect::<Vec<_>>()
        });
        let method = MannWhitneyUMethod::AsymptoticInclContinuityCorrection;
        let (u, expected) =
            mannwhitneyu(&before, &after, method, Alternative::TwoSided).unwrap();
        let found = RankTest::new([before.len(), after.len()]).p_normal(&before, &after);
        // Where all are the same statrs divides by 0.
        let same = u * 2.0 == (before.len() * after.len()) as f64;
        prop_assert!(same || (found - expected).abs() < 1e-6, "{found} and {expected}");
    }

    #[test]
    fn the_normal_distribution_is_near_the_exact_one(values in distinct(58)) {
        let (before, after) = values.split_at(29);
        let exact = p(before, after);
        let normal = RankTest::new([29, 29]).p_normal(before, after);
        prop_assert!((exact - normal).abs() < 0.01, "{exact} and {normal}");
    }

    #[test]
    fn q_values_are_no_smaller_and_keep_the_order(p_values in prop::collection::vec(0.0f64..1.0, 0..50)) {
        let q_values = adjusted(&p_values);
        for (p, q) in p_values.iter().zip(&q_values) {
            prop_assert!(*p <= q * (1.0 + 1e-12) && *q <= 1.0);
        }
        for (a, b) in p_values.iter().zip(&q_values).flat_map(|a| {
            p_values.iter().zip(&q_values).map(move |b| (a, b))
        }) {
            prop_assert!(a.0 > b.0 || a.1 <= b.1);
        }
    }
}

/// All ways to divide the values were counted with scipy's ranks (1.17).
#[test]
fn ties_are_exact() {
    for (before, after, expected) in [
        (
            &[0.0; 5][..],
            &[1.0, 2.0, 3.0, 4.0, 5.0][..],
            0.007_936_507_936,
        ),
        (
            &[1.0, 2.0, 2.0, 3.0],
            &[2.0, 3.0, 4.0, 4.0, 5.0],
            0.087_301_587_301,
        ),
        (
            &[0.0, 0.0, 0.0, 1.0],
            &[0.0, 0.0, 1.0, 1.0, 1.0, 2.0],
            0.380_952_380_952,
        ),
        (
            &[5.0, 3.0, 9.0],
            &[4.0, 4.0, 1.0, 1.0, 1.0, 1.0],
            0.095_238_095_238,
        ),
        (&[1.0; 3], &[1.0; 3], 1.0),
        (&[0.0, -0.0], &[0.0, 0.0], 1.0),
        (&[], &[1.0], 1.0),
    ] {
        let found = p(before, after);
        assert!(
            (found - expected).abs() < 1e-9,
            "{before:?} {after:?}: {found}"
        );
    }
}

/// As `scipy.stats.mannwhitneyu(…, method="asymptotic")` of scipy 1.17.
#[test]
fn large_groups_with_ties_are_as_scipy_has_them() {
    let before = [
        9, 10, 15, 19, 0, 2, 16, 18, 4, 6, 17, 8, 5, 16, 5, 8, 12, 10, 1, 0, 17, 15, 16, 10, 16, 6,
        9, 15, 2, 6, 2, 9, 19, 2, 7, 8, 18, 4, 10, 5,
    ];
    let after = [
        2, 18, 3, 8, 12, 12, 4, 23, 18, 23, 4, 17, 8, 13, 22, 8, 17, 5, 9, 23, 11, 13, 8, 4, 11,
        15, 12, 19, 9, 15, 19, 22, 11, 2, 17, 13, 21, 12, 10, 3, 12, 16, 18, 20, 6,
    ];
    let found = p(&before.map(f64::from), &after.map(f64::from));
    assert!(near(found, 0.021_364_712_589_7), "{found}");
}

/// As `scipy.stats.false_discovery_control` of scipy 1.17.
#[test]
fn q_values_are_those_of_scipy() {
    let q_values = adjusted(&[0.01, 0.04, 0.03, 0.005, 0.5, 0.2]);
    let expected = [0.03, 0.06, 0.06, 0.03, 0.5, 0.24];
    for (found, expected) in q_values.iter().zip(expected) {
        assert!(near(*found, expected), "{q_values:?}");
    }
    assert!(adjusted(&[]).is_empty());
}

#[test]
fn the_smallest_p_value_is_that_of_groups_apart() {
    for sizes in [[3, 3], [5, 5], [10, 10], [4, 9]] {
        let values: Vec<f64> = (0..sizes[0] + sizes[1]).map(|value| value as f64).collect();
        let (before, after) = values.split_at(sizes[0]);
        assert!(near(p(before, after), smallest_p(sizes)));
    }
    assert!(near(smallest_p([10, 10]), 2.0 / 184_756.0));
}

/// About normal values.
fn values(random: &mut Random, count: usize, mean: f64) -> Vec<f64> {
    let uniform = |random: &mut Random| random.next() as f64 / u64::MAX as f64;
    (0..count)
        .map(|_| mean + (0..12).map(|_| uniform(random)).sum::<f64>() - 6.0)
        .collect()
}

#[test]
fn few_of_equal_groups_are_called_different() {
    let mut random = Random::new(7);
    let mut test = RankTest::new([10, 10]);
    let mut seen = 0;
    for _ in 0..4000 {
        let [before, after] = [0, 0].map(|_| values(&mut random, 10, 5.0));
        seen += u32::from(test.p(&before, &after) <= 0.05);
    }
    // 200 at most are expected, with a standard deviation of 14.
    assert!((120..=250).contains(&seen), "{seen}");
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    let mut random = Random::new(11);
    let mut held = 0;
    for seed in 0..300 {
        let before = values(&mut random, 20, 10.0);
        let after = values(&mut random, 20, 12.0);
        let chosen = |values: &[f64], indices: &[usize]| {
            mean(
                &indices
                    .iter()
                    .map(|index| values[*index])
                    .collect::<Vec<_>>(),
            )
        };
        let interval = bootstrap([20, 20], seed, |a, b| {
            chosen(&after, b) - chosen(&before, a)
        });
        held += u32::from(interval.low <= 2.0 && 2.0 <= interval.high);
    }
    // The percentile interval of 20 values is a little narrow: 93 % are expected.
    assert!((265..=294).contains(&held), "{held}");
}

/// 1000 functions of which 50 changed: of those that are found, at most about a tenth did not.
#[test]
fn false_discoveries_are_as_rare_as_asked_for() {
    let mut random = Random::new(13);
    let mut test = RankTest::new([12, 12]);
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..10 {
        let p_values: Vec<f64> = (0..1000)
            .map(|number| {
                let before = values(&mut random, 12, 5.0);
                let after = values(&mut random, 12, if number < 50 { 8.0 } else { 5.0 });
                test.p(&before, &after)
            })
            .collect();
        for (number, q) in adjusted(&p_values).into_iter().enumerate() {
            if q <= 0.1 {
                *(if number < 50 { &mut right } else { &mut wrong }) += 1;
            }
        }
    }
    assert!(right >= 480, "{right} of 500 were found");
    assert!(
        wrong * 100 <= (right + wrong) * 15,
        "{wrong} of {}",
        right + wrong
    );
}

#[test]
fn middles_are_told() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    assert_eq!((median(&[]), mean(&[])), (0.0, 0.0));
    assert_eq!(mean(&[1.0, 2.0]), 1.5);
}
