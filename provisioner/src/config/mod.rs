//! Configuration of tenants' services: values with versions, their history, schemas, announcements.
//!
//! PostgreSQL is the truth; Redis carries `version=N` and never a value. Pure: [`chain`], [`csv`], `decide`, [`etag`],
//! [`number`], [`schema`], [`value`]. A change is a short transaction under the organization's row lock ([`write`]), within
//! the organization's limits ([`capacity`]); then comes its announcement ([`publish`]); what was not announced is left in the
//! outbox ([`outbox`]).

pub mod capacity;
pub mod chain;
pub mod csv;
mod decide;
pub mod etag;
pub mod history;
pub mod number;
pub mod outbox;
pub mod publish;
pub mod read;
pub mod schema;
pub mod schemas;
pub mod tenant;
mod turns;
pub mod value;
pub mod write;

use std::{path::Path, sync::Arc};

use contract::{ConfigKey, ServiceName};
use sqlx::{PgPool, postgres::PgDatabaseError};

use capacity::Capacity;
use publish::Publisher;
use schema::{SchemaError, Violation};
use tokio::sync::Semaphore;
use turns::Turns;
use value::InvalidValue;

/// Where one value lives within its organization.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigName {
    /// The service.
    pub service: ServiceName,
    /// The key.
    pub key: ConfigKey,
}

impl ConfigName {
    /// Whether the provisioner alone writes it.
    pub fn is_reserved(&self) -> bool {
        self.service.as_str() == contract::sql::PLATFORM_SERVICE
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No value there, or no longer.
    #[error("there is no such value")]
    NotFound,
    /// No such organization, or none whose configuration can be changed.
    #[error("there is no such organization")]
    NoOrganization,
    /// A version that the key never had.
    #[error("the key has no version {0}")]
    NoVersion(i64),
    /// A rollback to a deletion.
    #[error("version {0} is a deletion: delete the value instead")]
    VersionIsDeletion(i64),
    /// The service is the provisioner's own mirror.
    #[error("the service \"{}\" is written by the platform alone", contract::sql::PLATFORM_SERVICE)]
    Reserved,
    /// The value is not as the caller expected.
    #[error("the value was changed meanwhile, or its existence is not as expected")]
    PreconditionFailed {
        /// Its version; none if there is no value.
        current: Option<i64>,
    },
    /// The value does not fit the key's schema.
    #[error("the value does not fit the schema of its key")]
    Violations(Vec<Violation>),
    /// The schema is refused.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The value or the reason is refused.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// The organization would have more keys than it may.
    #[error("an organization has at most {most} keys: delete some first")]
    TooManyKeys {
        /// Most keys.
        most: i64,
    },
    /// The organization would have more configuration than it may.
    #[error(
        "an organization has at most {most} bytes of configuration, names and 256 bytes for each key that was ever used \
         included; with this change it would be {needed}"
    )]
    TooManyBytes {
        /// Most bytes.
        most: i64,
        /// Bytes with the change.
        needed: i64,
    },
    /// One change of a batch cannot be made, so none was.
    #[error("change {index}: {cause}")]
    Change {
        /// Its place in the batch, from 0.
        index: usize,
        /// Why not.
        cause: Box<ConfigError>,
    },
    /// PostgreSQL failed.
    #[error(transparent)]
    Database(sqlx::Error),
}

/// SQLSTATEs of the function that writes, see the migrations: there is nothing there; another version than expected; no room
/// in the organization; the value has a schema.
const NOT_THERE: &str = "AR404";
const OTHER_VERSION: &str = "AR412";
const NO_ROOM: &str = "AR413";
const HAS_SCHEMA: &str = "AR428";
/// JSON that `jsonb` cannot hold: untranslatable_character, numeric_value_out_of_range.
const UNSTORABLE: [&str; 2] = ["22P05", "22003"];

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|found| found == code)
}

/// What PostgreSQL says besides the message.
fn detail(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.detail()
}

impl From<sqlx::Error> for ConfigError {
    fn from(error: sqlx::Error) -> Self {
        if has_code(&error, NOT_THERE) {
            Self::NoOrganization
        } else if has_code(&error, OTHER_VERSION) {
            let current = detail(&error).and_then(|detail| detail.parse().ok());
            // 0 says that there is no value.
            Self::PreconditionFailed { current: current.filter(|version| *version > 0) }
        } else if UNSTORABLE.iter().any(|code| has_code(&error, code)) {
            Self::Value(InvalidValue::Unstorable("a number or a character out of range"))
        } else {
            Self::Database(error)
        }
    }
}

/// Configuration as the handlers see it.
#[derive(Debug, Clone)]
pub struct Configuration {
    service: PgPool,
    publisher: Arc<Publisher>,
    capacity: Capacity,
    turns: Arc<Turns>,
    /// Checks against schemas at the same time: one a core, and one core for everything else.
    validations: Arc<Semaphore>,
}

impl Configuration {
    /// `service` is the pool within one organization. `redis_url` is the publisher's; with `ca_file` the server is verified.
    pub fn new(
        service: PgPool,
        redis_url: &str,
        ca_file: Option<&Path>,
        capacity: Capacity,
    ) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            service,
            publisher: Arc::new(Publisher::new(redis_url, ca_file)?),
            capacity,
            turns: Arc::default(),
            validations: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
        })
    }

    /// The announcements of changes.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Runs a check against schemas, which can take milliseconds, where no other request waits for it; few at a time.
    async fn validate<T: Send + 'static>(
        &self,
        check: impl FnOnce() -> Result<T, ConfigError> + Send + 'static,
    ) -> Result<T, ConfigError> {
        let worker_gone = || ConfigError::Database(sqlx::Error::WorkerCrashed);
        let permit = Arc::clone(&self.validations).acquire_owned().await.map_err(|_| worker_gone())?;
        let checked = tokio::task::spawn_blocking(move || {
            // Here, and not outside: a request that ends does not end the work.
            let _permit = permit;
            check()
        });
        checked.await.map_err(|_| worker_gone())?
    }

    /// Publishes what was left in the outbox until `stop`. `platform` is the pool across organizations.
    pub async fn run_outbox(&self, platform: PgPool, stop: tokio_util::sync::CancellationToken) {
        outbox::run(platform, Arc::clone(&self.publisher), stop).await;
    }
}
