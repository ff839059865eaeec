//! Ends tenants' transactions that are too old (S6).
//!
//! The pooler limits each statement and each pause, but a transaction of many short statements passes both, and what
//! PostgreSQL itself would limit a tenant may set away.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often it looks. Every replica does: the second finds nothing left.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks until told to stop.
pub async fn run(platform: PgPool, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = period.tick() => {}
        }
        match end_old(&platform).await {
            Ok(0) => {}
            Ok(ended) => tracing::warn!(ended, "tenants' sessions with a transaction over 5 s ended"),
            Err(error) => tracing::warn!(%error, "tenants' transactions were not looked at"),
        }
    }
}

async fn end_old(platform: &PgPool) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT tenant_transactions_end('5 s') AS "ended!""#).fetch_one(platform).await
}
