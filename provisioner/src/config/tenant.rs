//! Transactions within one organization.

use std::ops::{Deref, DerefMut};

use contract::OrganizationId;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

/// A transaction that sees the rows of one organization: `app.current_org` is set in it, and in it alone.
///
/// Use it inside [`detached`]. Dropped without [`commit`](Self::commit), it rolls back.
#[derive(Debug)]
pub struct TenantTx(Transaction<'static, Postgres>);

impl TenantTx {
    /// Begins and sets the organization, in one round trip.
    pub async fn begin(pool: &PgPool, organization: OrganizationId) -> Result<Self, sqlx::Error> {
        // The id prints as hexadecimal digits and hyphens: nothing to quote.
        let sql = format!(
            "BEGIN; SELECT set_config('{}', '{organization}', true)",
            contract::sql::CURRENT_ORGANIZATION
        );
        Ok(Self(pool.begin_with(AssertSqlSafe(sql)).await?))
    }

    /// As [`begin`](Self::begin), and takes the row lock that puts the organization's changes in one order, in the same
    /// round trip: what is read afterwards cannot change before the commit.
    pub async fn begin_locked(pool: &PgPool, organization: OrganizationId) -> Result<Self, sqlx::Error> {
        let sql = format!(
            "BEGIN; SELECT set_config('{}', '{organization}', true);
             SELECT 1 FROM organizations WHERE id = '{organization}' FOR NO KEY UPDATE",
            contract::sql::CURRENT_ORGANIZATION
        );
        Ok(Self(pool.begin_with(AssertSqlSafe(sql)).await?))
    }

    /// Commits.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.0.commit().await
    }
}

impl Deref for TenantTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for TenantTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// Runs database work to its end although the client may leave: sqlx 0.9's `begin()` is not cancel-safe, and a change
/// whose COMMIT is under way must still be announced.
pub async fn detached<T: Send + 'static, E: From<sqlx::Error> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    use tracing::Instrument as _;
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result,
        // It panicked, or the runtime is ending.
        Err(_) => Err(sqlx::Error::WorkerCrashed.into()),
    }
}
