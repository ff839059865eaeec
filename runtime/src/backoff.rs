//! How long to wait before trying again: exponential with full jitter.

use std::time::Duration;

/// Longest wait of the default policy.
pub const CAP_DEFAULT: Duration = Duration::from_mins(1);
/// Ceiling of the first wait of the default policy.
pub const BASE_DEFAULT: Duration = Duration::from_secs(1);

/// Growing waits: the ceiling doubles from `base` to `cap`, the wait is a random part of it.
///
/// Full jitter keeps a thousand clients that lost the same server from coming back at the same moment. Randomness is an
/// argument, so that the policy itself can be tested.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    ceiling: Duration,
}

impl Default for Backoff {
    /// Ceilings of 1, 2, 4, ... 60 s.
    fn default() -> Self {
        Self::new(BASE_DEFAULT, CAP_DEFAULT)
    }
}

impl Backoff {
    /// A policy whose ceilings are `base`, twice `base`, and so on up to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.min(cap);
        Self { base, cap, ceiling: base }
    }

    /// The next wait. `random` is taken as uniform in [0, 1]; values outside are brought back to its ends.
    pub fn next(&mut self, random: f64) -> Duration {
        let random = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
        let wait = self.ceiling.mul_f64(random);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.cap);
        wait
    }

    /// The longest that the next wait can be.
    pub fn ceiling(&self) -> Duration {
        self.ceiling
    }

    /// Starts again at `base`, after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..9).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_success_starts_again() {
        let mut backoff = Backoff::default();
        backoff.next(1.0);
        backoff.next(1.0);
        backoff.reset();
        assert_eq!(backoff.next(1.0), BASE_DEFAULT);
    }

    #[test]
    fn the_wait_is_the_random_part_of_the_ceiling() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.5), Duration::from_millis(100));
        assert_eq!(backoff.next(7.0), Duration::from_millis(400));
        assert_eq!(backoff.next(f64::NAN), Duration::from_millis(800));
    }
}
