//! When to connect again.

use std::time::Duration;

use runtime::backoff::Backoff;

/// A link that lasted this long was good: its loss is news, not one more failure.
const STABLE: Duration = Duration::from_secs(5);
/// Longest wait before the first attempt after the loss of a good link: enough to spread a thousand sidecars.
const FIRST_MAX: Duration = Duration::from_millis(200);

/// Waits between attempts: almost none after a good link, then 1, 2, 4, ... 60 s with jitter.
#[derive(Debug, Default)]
pub struct Retry(Backoff);

impl Retry {
    /// The wait after a link that lasted for `lasted` (zero if it was never made). `random` is uniform in [0, 1].
    pub fn after(&mut self, lasted: Duration, random: f64) -> Duration {
        if lasted < STABLE {
            return self.0.next(random);
        }
        self.0.reset();
        FIRST_MAX.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_link_is_tried_again_almost_at_once_and_a_bad_one_is_not() {
        let mut retry = Retry::default();
        let hour = Duration::from_hours(1);
        assert_eq!(retry.after(hour, 1.0), FIRST_MAX);
        let seconds: Vec<u64> = (0..8).map(|_| retry.after(Duration::ZERO, 1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry.after(hour, 0.0), Duration::ZERO);
        // Accepted and dropped over and over is a failing server too.
        assert_eq!(retry.after(Duration::from_millis(10), 1.0), Duration::from_secs(1));
        assert_eq!(retry.after(Duration::from_millis(10), 1.0), Duration::from_secs(2));
    }
}
