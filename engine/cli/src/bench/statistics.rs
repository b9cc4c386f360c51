//! Medians, and how much what was measured varied.

/// Measurements of one thing.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Samples(values)
    }
}

impl Samples {
    /// The value below which this share of the samples lies, 0 to 1, between neighbours in proportion. Not a number without samples.
    pub fn quantile(&self, share: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else {
            return f64::NAN;
        };
        let place = share.clamp(0.0, 1.0) * last as f64;
        let (below, above) = (
            self.0[place.floor() as usize],
            self.0[place.ceil() as usize],
        );
        below + (above - below) * place.fract()
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The quarters: half of the samples lie between.
    pub fn quarters(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }
}

/// Ours over theirs, round by round, so that what disturbs the machine for seconds disturbs both sides of a ratio.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Samples {
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let four: Samples = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
        assert_eq!((four.median(), four.quarters()), (2.5, (1.75, 3.25)));
        assert_eq!((four.quantile(0.0), four.quantile(1.0)), (1.0, 4.0));
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let ratios = ratios(&[1.0, 20.0, 3.0], &[2.0, 40.0, 3.0]);
        assert_eq!(ratios.median(), 0.5);
    }
}
