//! The outbox's worker: publishes what the request path did not, on any replica.
//!
//! One replica at a time drains, under an advisory lock that ends with its transaction, so that announcements go out in
//! the order of their rows. A row is deleted in the transaction that published it: after a crash it is published again, which
//! readers ignore (they compare versions).

use std::{sync::Arc, time::Duration};

use runtime::backoff::Backoff;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{
    publish::{Announcement, Publisher},
    tenant::detached,
};
use crate::identity::throttle;

/// How often the worker looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How old a row is before it is not the request path's any more, in seconds. Longer than an announcement may take.
const LEFT_AFTER_SECONDS: f64 = 1.0;
/// Most rows of one round.
const ROUND_MAX: i64 = 200;
/// How often old counters of failed logins are removed.
const SWEEP_EVERY: Duration = Duration::from_mins(10);
/// The advisory lock of the one replica that drains: "outbox" in ASCII.
const DRAIN_LOCK: i64 = 0x6f75_7462_6f78;

/// Works until `stop`.
pub async fn run(platform: PgPool, publisher: Arc<Publisher>, stop: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut swept = tokio::time::Instant::now();
    loop {
        let wait = match round(&platform, &publisher).await {
            Ok(busy) => {
                backoff.reset();
                if busy { Duration::ZERO } else { LOOK_EVERY }
            }
            Err(failure) => {
                let wait = backoff.next(rand::random());
                tracing::warn!(failure, ?wait, "the outbox waits");
                wait
            }
        };
        if swept.elapsed() > SWEEP_EVERY {
            swept = tokio::time::Instant::now();
            let _ = throttle::sweep(&platform, OffsetDateTime::now_utc()).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            // A failed announcement need not wait for the next look; a failed round keeps to its back-off.
            () = publisher.wake.notified(), if wait == LOOK_EVERY => {}
        }
    }
}

/// One round; whether there may be more to do at once.
async fn round(platform: &PgPool, publisher: &Arc<Publisher>) -> Result<bool, String> {
    let cleaned = clean(platform, publisher).await;
    publisher.connect().await.map_err(|failure| format!("Redis: {failure}"))?;
    cleaned.map_err(|error| format!("PostgreSQL: {error}"))?;
    let left = drain(platform, publisher).await.map_err(|error| format!("PostgreSQL: {error}"))?;
    match left {
        Drained::Published(rows) => Ok(rows >= ROUND_MAX),
        Drained::Unpublished => Err("Redis: not published".into()),
    }
}

/// Deletes the rows of what the request path announced.
async fn clean(platform: &PgPool, publisher: &Publisher) -> Result<(), sqlx::Error> {
    let sent = publisher.take_sent();
    if sent.is_empty() {
        return Ok(());
    }
    let organizations: Vec<_> = sent.iter().map(|announcement| announcement.organization).collect();
    let services: Vec<_> = sent.iter().map(|announcement| announcement.service.clone()).collect();
    let keys: Vec<_> = sent.iter().map(|announcement| announcement.key.clone()).collect();
    let versions: Vec<_> = sent.iter().map(|announcement| announcement.version).collect();
    let platform = platform.clone();
    detached(async move {
        let mut tx = platform.begin().await?;
        // A deletion that is lost in a crash is made again: nobody need wait for the disk.
        sqlx::query!("SELECT set_config('synchronous_commit', 'off', true)").fetch_one(&mut *tx).await?;
        sqlx::query!(
            "DELETE FROM config_outbox AS o
             USING unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) AS s (org_id, service, key, version)
             WHERE o.org_id = s.org_id AND o.service = s.service AND o.key = s.key AND o.version = s.version",
            &organizations,
            &services,
            &keys,
            &versions,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    })
    .await
}

enum Drained {
    Published(i64),
    Unpublished,
}

/// Publishes the oldest rows that were left.
async fn drain(platform: &PgPool, publisher: &Arc<Publisher>) -> Result<Drained, sqlx::Error> {
    let (platform, publisher) = (platform.clone(), Arc::clone(publisher));
    detached(async move {
        let mut tx = platform.begin().await?;
        let mine = sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "mine!""#, DRAIN_LOCK)
            .fetch_one(&mut *tx)
            .await?;
        if !mine {
            return Ok(Drained::Published(0));
        }
        let mut rows = sqlx::query!(
            "DELETE FROM config_outbox WHERE id IN (
                 SELECT id FROM config_outbox WHERE created_at < now() - make_interval(secs => $1)
                 ORDER BY id LIMIT $2)
             RETURNING id, org_id, service, key, version",
            LEFT_AFTER_SECONDS,
            ROUND_MAX,
        )
        .fetch_all(&mut *tx)
        .await?;
        if rows.is_empty() {
            return Ok(Drained::Published(0));
        }
        rows.sort_by_key(|row| row.id);
        let announcements: Vec<_> = rows
            .iter()
            .filter_map(|row| Announcement::new(row.org_id, &row.service, &row.key, row.version))
            .collect();
        if !publisher.publish(&announcements).await {
            tx.rollback().await?;
            return Ok(Drained::Unpublished);
        }
        tx.commit().await?;
        tracing::info!(rows = rows.len(), "changes announced from the outbox");
        Ok(Drained::Published(i64::try_from(rows.len()).unwrap_or(i64::MAX)))
    })
    .await
}
