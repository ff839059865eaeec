//! Bare pods that stay held: when each is looked at again, so that nobody asks the API server in vain all the time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// First and longest wait before a pod that stays held is admitted once more again.
const WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// The pods that stay held, by UID.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<HashMap<String, (Instant, Duration)>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this pod's time has not come again.
    pub(super) fn waits(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|(next, _)| *next > Instant::now())
    }

    /// Looks at this pod again later, each time after twice the wait.
    pub(super) fn keep(&self, uid: &str) {
        let mut pods = self.lock();
        let wait = pods.get(uid).map_or(WAIT.0, |(_, wait)| (*wait * 2).min(WAIT.1));
        pods.insert(uid.to_owned(), (Instant::now() + wait, wait));
    }

    /// Forgets the pods that `held` does not know.
    pub(super) fn retain(&self, held: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| held(uid));
    }

    /// How many stay held.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_pod_waits_longer_each_time_and_is_forgotten_when_gone() {
        let kept = Kept::default();
        assert!(!kept.waits("a"));
        kept.keep("a");
        assert!(kept.waits("a") && !kept.waits("b"));
        for _ in 0..10 {
            kept.keep("a");
        }
        assert_eq!(kept.lock()["a"].1, WAIT.1);
        kept.retain(|uid| uid != "a");
        assert_eq!(kept.len(), 0);
    }
}
