//! Reading values.

use contract::OrganizationId;
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{
    ConfigError, ConfigName, Configuration,
    tenant::{TenantTx, detached},
};

/// Most values of one page.
pub const PAGE_MAX: i64 = 200;

/// A value as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct Stored {
    /// The service.
    pub service: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Box<RawValue>,
    /// Its version.
    pub version: i64,
    /// The organization's revision that it came with.
    pub revision: i64,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Who wrote it.
    pub updated_by: String,
}

/// Which values to list: in the order of service and key.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// This service alone.
    pub service: Option<String>,
    /// After this service and key.
    pub after: Option<(String, String)>,
    /// Most values, at most [`PAGE_MAX`].
    pub limit: i64,
}

/// A row as PostgreSQL gives it; the value as text keeps every digit.
pub(super) struct Row {
    pub service: String,
    pub key: String,
    pub value: String,
    pub version: i64,
    pub revision: i64,
    pub updated_at: OffsetDateTime,
    pub updated_by: String,
}

impl Row {
    pub(super) fn stored(self) -> Result<Stored, ConfigError> {
        Ok(Stored {
            service: self.service,
            key: self.key,
            value: raw(self.value)?,
            version: self.version,
            revision: self.revision,
            updated_at: self.updated_at,
            updated_by: self.updated_by,
        })
    }
}

/// JSON text from PostgreSQL as a value.
pub(super) fn raw(text: String) -> Result<Box<RawValue>, ConfigError> {
    RawValue::from_string(text).map_err(|error| ConfigError::Database(sqlx::Error::Decode(error.into())))
}

impl Configuration {
    /// The value of one key.
    pub async fn get(&self, organization: OrganizationId, name: ConfigName) -> Result<Stored, ConfigError> {
        let pool = self.service.clone();
        let row = detached(async move {
            let mut tx = TenantTx::begin(&pool, organization).await?;
            sqlx::query_as!(
                Row,
                r#"SELECT service, key, value::text AS "value!", version, revision, updated_at, updated_by
                   FROM service_configs WHERE org_id = $1 AND service = $2 AND key = $3 AND NOT deleted"#,
                organization.0,
                name.service.as_str(),
                name.key.as_str(),
            )
            .fetch_optional(&mut *tx)
            .await
        })
        .await?;
        row.ok_or(ConfigError::NotFound)?.stored()
    }

    /// A page of values.
    pub async fn list(
        &self,
        organization: OrganizationId,
        listing: Listing,
    ) -> Result<Vec<Stored>, ConfigError> {
        let pool = self.service.clone();
        let rows = detached(async move {
            let (service, key) = listing.after.unwrap_or_default();
            let mut tx = TenantTx::begin(&pool, organization).await?;
            sqlx::query_as!(
                Row,
                r#"SELECT service, key, value::text AS "value!", version, revision, updated_at, updated_by
                   FROM service_configs
                   WHERE org_id = $1 AND NOT deleted AND (service, key) > ($2, $3)
                     AND ($4::text IS NULL OR service = $4)
                   ORDER BY service, key LIMIT $5"#,
                organization.0,
                service,
                key,
                listing.service,
                listing.limit.clamp(1, PAGE_MAX),
            )
            .fetch_all(&mut *tx)
            .await
        })
        .await?;
        rows.into_iter().map(Row::stored).collect()
    }
}
