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

/// Most bytes of values of one page; the first value is always there.
pub(super) const PAGE_BYTES_MAX: i64 = 1 << 20;

/// What was found, and whether there is more.
#[derive(Debug)]
pub struct Page<T> {
    /// At most the page's limit, by number and by bytes.
    pub items: Vec<T>,
    /// Whether the page ended before the list did.
    pub more: bool,
}

impl<T> Page<T> {
    /// `found` are the rows within the limit by number, of which `items` fit into a page.
    pub(super) fn new(items: Vec<T>, found: Option<i64>, limit: i64) -> Self {
        let (kept, found) = (i64::try_from(items.len()).unwrap_or(i64::MAX), found.unwrap_or(0));
        Self { items, more: kept < found || found >= limit }
    }
}

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

/// JSON text from PostgreSQL as a value.
pub(super) fn raw(text: String) -> Result<Box<RawValue>, ConfigError> {
    RawValue::from_string(text).map_err(|error| ConfigError::Database(sqlx::Error::Decode(error.into())))
}

/// Each checked query has a row type of its own; their columns are the same.
macro_rules! stored {
    ($row:expr) => {
        raw($row.value).map(|value| Stored {
            service: $row.service,
            key: $row.key,
            value,
            version: $row.version,
            revision: $row.revision,
            updated_at: $row.updated_at,
            updated_by: $row.updated_by,
        })
    };
}

impl Configuration {
    /// The value of one key.
    pub async fn get(&self, organization: OrganizationId, name: ConfigName) -> Result<Stored, ConfigError> {
        let pool = self.service.clone();
        let row = detached(async move {
            let mut tx = TenantTx::begin(&pool, organization).await?;
            sqlx::query!(
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
        let row = row.ok_or(ConfigError::NotFound)?;
        stored!(row)
    }

    /// A page of values.
    pub async fn list(
        &self,
        organization: OrganizationId,
        listing: Listing,
    ) -> Result<Page<Stored>, ConfigError> {
        let pool = self.service.clone();
        let limit = listing.limit.clamp(1, PAGE_MAX);
        let rows = detached(async move {
            let (service, key) = listing.after.unwrap_or_default();
            let mut tx = TenantTx::begin(&pool, organization).await?;
            sqlx::query!(
                r#"SELECT service AS "service!", key AS "key!", value AS "value!", version AS "version!",
                          revision AS "revision!", updated_at AS "updated_at!", updated_by AS "updated_by!",
                          found AS "found!"
                   FROM (
                       SELECT *, count(*) OVER () AS found,
                              sum(octet_length(value)) OVER (ORDER BY service, key) - octet_length(value) AS bytes_before
                       FROM (
                           SELECT service, key, value::text AS value, version, revision, updated_at, updated_by
                           FROM service_configs
                           WHERE org_id = $1 AND NOT deleted AND (service, key) > ($2, $3)
                             AND ($4::text IS NULL OR service = $4)
                           ORDER BY service, key LIMIT $5
                       ) AS counted
                   ) AS measured
                   WHERE bytes_before < $6 ORDER BY service, key"#,
                organization.0,
                service,
                key,
                listing.service,
                limit,
                PAGE_BYTES_MAX,
            )
            .fetch_all(&mut *tx)
            .await
        })
        .await?;
        let found = rows.first().map(|row| row.found);
        let stored = rows.into_iter().map(|row| stored!(row));
        Ok(Page::new(stored.collect::<Result<_, ConfigError>>()?, found, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_whether_there_is_more() {
        assert!(!Page::<()>::new(Vec::new(), None, 3).more);
        assert!(!Page::new(vec![1, 2], Some(2), 3).more);
        assert!(Page::new(vec![1, 2, 3], Some(3), 3).more, "as many as asked for");
        assert!(Page::new(vec![1], Some(2), 3).more, "cut by bytes");
    }
}
