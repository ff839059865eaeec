//! PostgreSQL: the only place where values come from.
//!
//! One connection is kept. Reads are simple queries, because PgBouncer 1.18 in transaction mode has no prepared
//! statements, and each is one statement, so that it sees one moment of the database.

mod connect;
mod rows;

use std::{path::PathBuf, time::Duration};

use contract::OrganizationId;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};

use crate::store::{Position, Row};

/// Longest time for connecting, and for one read.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// PgBouncer refuses a client at once when its last attempt to reach PostgreSQL failed, and makes the next attempt
/// because of that client. So after an outage the refused have to ask again: for the login, and for the pool.
const POOLER_TRIES: u32 = 3;
/// Pause before asking the pooler again: enough for it to connect and log in.
const POOLER_PAUSE: Duration = Duration::from_millis(250);

/// Why a read failed. No text of it holds a secret or a value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The credentials cannot be read.
    #[error("credentials: {0}")]
    Credentials(#[from] crate::credentials::CredentialsError),
    /// The database URL cannot be understood. What is wrong is not said, as it might be the password.
    #[error("database-url is not a PostgreSQL URL")]
    Url,
    /// TLS is asked for and there is nothing to verify the server with.
    #[error("ca.crt is missing, and the database is only reached over verified TLS")]
    NoCa,
    /// The credentials were exchanged for those of another organization.
    #[error("the credentials are of another organization now: {0}")]
    Organization(OrganizationId),
    /// The server did not answer in time.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    /// Anything that sqlx reports.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A row that the contract does not allow.
    #[error("row {service}/{key}: {reason}")]
    Row {
        /// The service as stored.
        service: String,
        /// The key as stored.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl SourceError {
    /// Whether PgBouncer said no without having asked PostgreSQL. It has no code of its own for that.
    fn is_poolers(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.message().contains("server_login_retry"),
            _ => false,
        }
    }
}

/// The reader. Connects when it has to.
pub struct Source {
    directory: PathBuf,
    organization: OrganizationId,
    connection: Option<PgConnection>,
    connected_before: bool,
    /// How often a connection was made again.
    pub reconnects: u64,
}

impl Source {
    /// A reader with the credentials in `directory`; nothing is connected yet.
    pub fn new(directory: PathBuf, organization: OrganizationId) -> Self {
        Self { directory, organization, connection: None, connected_before: false, reconnects: 0 }
    }

    /// All rows written after `after`, or all rows.
    ///
    /// A kept connection may have died unnoticed, so a failure on it is tried once more on a new one at once.
    pub async fn read(&mut self, after: Option<Position>) -> Result<Vec<Row>, SourceError> {
        if let Some(connection) = self.connection.take() {
            match self.read_on(connection, after).await {
                Ok(rows) => return Ok(rows),
                Err(error) => tracing::info!(%error, "the kept database connection failed, connecting again"),
            }
        }
        let mut tries = 1;
        loop {
            match self.read_anew(after).await {
                Err(error) if error.is_poolers() && tries < POOLER_TRIES => tries += 1,
                result => return result,
            }
            tokio::time::sleep(POOLER_PAUSE).await;
        }
    }

    async fn read_anew(&mut self, after: Option<Position>) -> Result<Vec<Row>, SourceError> {
        let connection = self.connect().await?;
        self.read_on(connection, after).await
    }

    async fn connect(&mut self) -> Result<PgConnection, SourceError> {
        let connecting = connect::connect(&self.directory, self.organization);
        let connection =
            tokio::time::timeout(DEADLINE, connecting).await.map_err(|_| SourceError::Deadline)??;
        if std::mem::replace(&mut self.connected_before, true) {
            self.reconnects += 1;
        }
        Ok(connection)
    }

    /// The connection is kept only if the read was good: a failed or cancelled one may be in the middle of an answer.
    async fn read_on(
        &mut self,
        mut connection: PgConnection,
        after: Option<Position>,
    ) -> Result<Vec<Row>, SourceError> {
        let query = sqlx::raw_sql(AssertSqlSafe(statement(after)));
        let reading = query.fetch_all(&mut connection);
        let rows: Vec<PgRow> =
            tokio::time::timeout(DEADLINE, reading).await.map_err(|_| SourceError::Deadline)??;
        self.connection = Some(connection);
        rows.iter().map(rows::decode).collect()
    }
}

/// The one statement. Row-level security limits it to the tenant; what is put in are numbers.
fn statement(after: Option<Position>) -> String {
    let condition = after.map_or_else(String::new, |Position { epoch, revision }| {
        format!(" WHERE (epoch, revision) > ({epoch}, {revision})")
    });
    format!(
        "SELECT service, key, value::text, version, epoch, revision, deleted, \
         (extract(epoch FROM updated_at) * 1000000)::bigint AS updated_us \
         FROM service_configs{condition} ORDER BY epoch, revision"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_one_statement() {
        let newer = statement(Some(Position { epoch: 2, revision: 7 }));
        assert!(newer.contains("FROM service_configs WHERE (epoch, revision) > (2, 7) ORDER BY"));
        assert!(!statement(None).contains("WHERE"));
        assert!(!newer.contains(';'));
    }
}
