//! Figures from samples.

use std::time::Duration;

/// Samples of one measurement, sorted.
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Takes samples in any order; at least one.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "a figure needs samples");
        samples.sort_unstable();
        Self(samples)
    }

    /// The sample below which `share` (0 to 1) of all lie (nearest rank).
    pub fn quantile(&self, share: f64) -> Duration {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small counts"
        )]
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    /// How many samples there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Display for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milli = |duration: Duration| duration.as_secs_f64() * 1000.0;
        write!(
            f,
            "p50 {:.2} ms, p99 {:.2} ms ({} samples)",
            milli(self.p50()),
            milli(self.quantile(0.99)),
            self.count()
        )
    }
}
