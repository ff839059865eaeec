//! The loop: subscribe, load, be ready; hear, fetch what is newer, swap; reconcile; and get over every failure.

pub mod agenda;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::agenda::{Agenda, Intervals, Scope};
use crate::{
    feed::inbox::{Hearing, Inbox},
    metrics::Metrics,
    shared::Shared,
    source::Source,
    store::{Row, Snapshot},
};

/// What the loop needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the credentials are.
    pub credentials_dir: PathBuf,
    /// How often to read without being told to.
    pub intervals: Intervals,
    /// Fault point: a pause between a subscription and the read that follows it.
    pub pause_after_subscribe: Duration,
}

impl From<&crate::settings::Serve> for Options {
    fn from(settings: &crate::settings::Serve) -> Self {
        Self {
            credentials_dir: settings.credentials_dir.clone(),
            intervals: Intervals {
                reconcile_min: settings.reconcile_min,
                reconcile_max: settings.reconcile_max,
                deaf_poll: settings.deaf_poll,
            },
            pause_after_subscribe: Duration::from_millis(settings.fault_pause_after_subscribe.unwrap_or(0)),
        }
    }
}

/// Keeps the shared snapshot up to date until `stop`.
pub async fn run(
    options: Options,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let agenda = Agenda::new(options.intervals, Instant::now());
    let source = Source::new(options.credentials_dir, shared.organization);
    let pause_after_subscribe = options.pause_after_subscribe;
    let mut sync = Sync { agenda, source, inbox, shared, metrics, pause_after_subscribe };
    tokio::select! {
        () = sync.go() => {}
        () = stop.cancelled() => {}
    }
}

struct Sync {
    agenda: Agenda,
    source: Source,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    pause_after_subscribe: Duration,
}

impl Sync {
    async fn go(&mut self) {
        loop {
            self.hear().await;
            let (at, scope) = self.agenda.next(Instant::now());
            tokio::select! {
                biased;
                () = sleep_until(at.into()) => self.read(scope).await,
                () = self.inbox.filled() => {}
            }
        }
    }

    async fn hear(&mut self) {
        let heard = self.inbox.take();
        if heard.subscribed && !self.pause_after_subscribe.is_zero() {
            tracing::warn!("fault point: pause between subscription and read");
            sleep(self.pause_after_subscribe).await;
        }
        let now = Instant::now();
        let lost = heard.hearing == Some(Hearing::Deaf);
        let snapshot = self.shared.snapshot().unwrap_or_default();
        self.agenda.hear(heard, &snapshot, now, rand::random());
        if lost || self.agenda.is_behind() {
            self.shared.health().behind_since.get_or_insert(now);
        }
    }

    async fn read(&mut self, scope: Scope) {
        let current = self.shared.snapshot();
        let scope = if current.is_some() { scope } else { Scope::Full };
        let after = current.as_ref().filter(|_| scope == Scope::Newer).map(|snapshot| snapshot.position);
        let result = self.source.read(after).await;
        let now = Instant::now();
        match result {
            Ok(rows) => self.swap(scope, current, rows, now),
            Err(error) => {
                let wait = self.agenda.failed(scope, now, rand::random());
                tracing::warn!(%error, wait_ms = wait.as_millis(), "PostgreSQL cannot be read, the last good values stay");
                let mut health = self.shared.health();
                health.source.failed(error.to_string());
                health.behind_since.get_or_insert(now);
            }
        }
    }

    fn swap(&mut self, scope: Scope, current: Option<Arc<Snapshot>>, rows: Vec<Row>, now: Instant) {
        let first = current.is_none();
        let current = current.unwrap_or_default();
        if scope == Scope::Newer && current.is_restored(&rows) {
            tracing::warn!("the database was restored to an earlier time: reading everything again");
            self.agenda.restored();
            return;
        }
        if scope == Scope::Full && !first && current.is_ahead_of(&rows) {
            tracing::warn!(seen = ?current.position, "the database has less than was seen: restored without a new epoch?");
        }
        let next = if scope == Scope::Full { current.follow(rows) } else { current.merge(rows) };
        if first {
            tracing::info!(values = next.entries().len(), "loaded, ready");
        } else {
            let wall_clock = Timestamp::now();
            next.since(current.position)
                .into_iter()
                .for_each(|entry| self.metrics.reloaded(entry, wall_clock));
        }
        self.agenda.succeeded(scope, &next, now, rand::random());
        // Waiting requests wake only if there is something to see.
        if first || next != *current {
            self.shared.publish(next);
        }
        let mut health = self.shared.health();
        health.source.succeeded(now);
        health.source.reconnects = self.source.reconnects;
        health.behind_since = match (health.feed.up, self.agenda.is_behind()) {
            (true, false) => None,
            (true, true) => health.behind_since.or(Some(now)),
            // Deaf: as good as the last read, and no better.
            (false, _) => Some(now),
        };
    }
}
