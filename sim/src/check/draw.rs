//! Fair: items are hit by weight. The model recomputes each step from the entry's bytes, and the digests say that replicas
//! do the same; whether what they do is fair takes many draws, so tallies of many histories are merged before they are
//! judged.
//!
//! Each step counts towards the position that it hit, and every position's weight over the sum of weights towards what was
//! to be expected. Pearson's statistic over these is, where the odds change from step to step, at most as large as where
//! they do not, so that a fair draw is not suspected more often than it says.

use super::Violation;
use crate::model::Spin;

const NAME: &str = "draw";
/// Positions beyond these share the last one.
const CATEGORIES: usize = 32;
/// What is expected less often is put together: Pearson's statistic is no chi-square for a handful.
const EXPECTED_MIN: f64 = 20.0;
/// One in a million fair tallies is further out than so many standard deviations.
const DEVIATIONS_MAX: f64 = 4.753;

/// Hits by position.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    hits: [u64; CATEGORIES],
    expected: [f64; CATEGORIES],
}

impl Tally {
    /// A step of a draw.
    pub fn add(&mut self, spin: Spin<'_>) {
        let total: u64 = spin.odds.iter().map(|&weight| u64::from(weight)).sum();
        self.hits[spin.hit.min(CATEGORIES - 1)] += 1;
        for (position, &weight) in spin.odds.iter().enumerate() {
            self.expected[position.min(CATEGORIES - 1)] += f64::from(weight) / total as f64;
        }
    }

    /// What another history had.
    pub fn merge(&mut self, other: &Self) {
        for at in 0..CATEGORIES {
            self.hits[at] += other.hits[at];
            self.expected[at] += other.expected[at];
        }
    }

    /// How many steps there were.
    pub fn steps(&self) -> u64 {
        self.hits.iter().sum()
    }

    /// Are the hits such as fair draws have in all but one of a million histories?
    pub fn check(&self) -> Result<(), Violation> {
        let (mut rare_hits, mut rare_expected) = (0.0, 0.0);
        let mut categories = Vec::new();
        for (&hits, &expected) in self.hits.iter().zip(&self.expected) {
            if hits > 0 && expected == 0.0 {
                return Err(Violation::new(NAME, "fair", format!("{hits} hits of what has no weight")));
            }
            if expected < EXPECTED_MIN {
                rare_hits += hits as f64;
                rare_expected += expected;
            } else {
                categories.push((hits as f64, expected));
            }
        }
        if rare_expected >= EXPECTED_MIN {
            categories.push((rare_hits, rare_expected));
        }
        let Some(freedom) = categories.len().checked_sub(1).filter(|&freedom| freedom > 0) else { return Ok(()) };
        let statistic = categories.iter().map(|(hits, expected)| (hits - expected).powi(2) / expected).sum();
        let deviations = deviations(statistic, freedom as f64);
        if deviations <= DEVIATIONS_MAX {
            return Ok(());
        }
        let detail = format!("chi-square {statistic:.1} of {freedom} degrees is {deviations:.1} deviations out");
        Err(Violation::new(NAME, "fair", detail))
    }
}

/// How far out a chi-square is, as a standard normal deviation: E. B. Wilson and M. M. Hilferty, "The distribution of
/// chi-square", 1931.
fn deviations(chi_square: f64, freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::made_up::refused;

    /// So many hits of each, all drawn by these odds.
    fn tally(odds: &[u32], hits: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for (hit, &times) in hits.iter().enumerate() {
            (0..times).for_each(|_| tally.add(Spin { odds, hit }));
        }
        tally
    }

    /// Of the table of chi-square: one in a million.
    #[test]
    fn deviations_are_about_those_of_the_table() {
        for (freedom, one_in_a_million) in [(1.0, 23.93), (2.0, 27.63), (10.0, 46.86), (31.0, 81.6)] {
            let found = deviations(one_in_a_million, freedom);
            assert!((found - DEVIATIONS_MAX).abs() < 0.4, "{freedom}: {found}");
        }
    }

    #[test]
    fn hits_by_weight_are_well() {
        tally(&[10, 20, 70], &[1_000, 2_000, 7_000]).check().unwrap();
        tally(&[10, 20, 70], &[1_080, 1_950, 6_970]).check().unwrap();
        tally(&[1, 0, 1], &[50_200, 0, 49_800]).check().unwrap();
        tally(&[7], &[100]).check().unwrap();
        Tally::default().check().unwrap();
    }

    #[test]
    fn hits_beside_the_weights_are_found() {
        refused(tally(&[10, 20, 70], &[1_300, 2_000, 6_700]).check(), "draw", "chi-square 10");
        refused(tally(&[1, 1], &[51_000, 49_000]).check(), "draw", "deviations out");
    }

    #[test]
    fn what_has_no_weight_is_not_hit() {
        refused(tally(&[1, 0], &[1_000, 1]).check(), "draw", "no weight");
    }

    /// Too little in one history, found in many.
    #[test]
    fn tallies_are_judged_together() {
        let one = tally(&[1, 1], &[60, 40]);
        one.check().unwrap();
        let mut many = Tally::default();
        (0..50).for_each(|_| many.merge(&one));
        assert_eq!(many.steps(), 5_000);
        refused(many.check(), "draw", "chi-square 200.0 of 1 degrees");
    }

    /// Odds that change from step to step, hit as they say.
    #[test]
    fn odds_may_change() {
        let mut tally = tally(&[1, 3], &[2_500, 7_500]);
        tally.merge(&self::tally(&[3, 1], &[7_500, 2_500]));
        tally.check().unwrap();
        assert_eq!(tally.expected[..2], [10_000.0, 10_000.0]);
    }
}
