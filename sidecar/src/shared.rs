//! What the parts share: the current snapshot, and how the two connections are doing.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contract::OrganizationId;
use tokio::sync::watch;

use crate::store::Snapshot;

/// One connection's health.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Whether the last thing tried worked.
    pub up: bool,
    /// When something last worked.
    pub last_success: Option<Instant>,
    /// How often a connection was made again.
    pub reconnects: u64,
    /// Why it does not work, without secrets.
    pub error: Option<String>,
}

impl Link {
    /// Something worked.
    pub fn succeeded(&mut self, now: Instant) {
        self.up = true;
        self.last_success = Some(now);
        self.error = None;
    }

    /// A connection was made, for the first time or again.
    pub fn connected(&mut self, now: Instant) {
        self.reconnects += u64::from(self.last_success.is_some());
        self.succeeded(now);
    }

    /// Something did not work.
    pub fn failed(&mut self, error: String) {
        self.up = false;
        self.error = Some(error);
    }
}

/// Health as told by `/status` and the metrics.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// PostgreSQL.
    pub source: Link,
    /// Redis.
    pub feed: Link,
    /// Since when the values may be out of date: changes cannot be heard, or one was announced and not read.
    pub behind_since: Option<Instant>,
}

impl Health {
    /// Age: time since the values were last read from PostgreSQL.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.source.last_success.map(|read| now.saturating_duration_since(read))
    }

    /// Staleness: how long the values may have been out of date. Zero while changes are heard and read.
    pub fn staleness(&self, now: Instant) -> Duration {
        self.behind_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// The meeting point of feed, sync and serve.
#[derive(Debug)]
pub struct Shared {
    /// Whose configuration it is.
    pub organization: OrganizationId,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    health: Mutex<Health>,
}

impl Shared {
    /// Nothing loaded, nothing connected.
    pub fn new(organization: OrganizationId) -> Self {
        Self { organization, snapshot: watch::Sender::new(None), health: Mutex::default() }
    }

    /// The current values; `None` before the first load.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.borrow().clone()
    }

    /// Wakes at every change. What was swapped in between is seen as one.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshot.subscribe()
    }

    /// Swaps in the next snapshot.
    pub fn publish(&self, next: Snapshot) {
        self.snapshot.send_replace(Some(Arc::new(next)));
    }

    /// The health, to be read or changed. Never held across an await.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_counts_from_the_last_read_and_staleness_from_the_loss() {
        let start = Instant::now();
        let later = start + Duration::from_secs(7);
        let mut health = Health::default();
        assert_eq!((health.age(later), health.staleness(later)), (None, Duration::ZERO));
        health.source.succeeded(start);
        health.source.failed("gone".into());
        health.behind_since = Some(start + Duration::from_secs(2));
        assert_eq!(health.age(later), Some(Duration::from_secs(7)));
        assert_eq!(health.staleness(later), Duration::from_secs(5));
        assert!(!health.source.up);
    }
}
