//! Reading the history: who, when, old, new, why. It is written by a trigger alone.

use contract::OrganizationId;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{
    ConfigError, ConfigName, Configuration,
    chain::Entry,
    csv,
    read::{PAGE_BYTES_MAX, Page, raw},
    tenant::{TenantTx, detached},
};

/// Most entries of one page.
pub const PAGE_MAX: i64 = 200;

/// Which entries, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one key.
    pub name: Option<ConfigName>,
    /// From this moment on.
    pub from: Option<OffsetDateTime>,
    /// Before this moment.
    pub to: Option<OffsetDateTime>,
    /// By this actor.
    pub actor: Option<String>,
    /// Older than the entry with this number.
    pub before: Option<i64>,
    /// Most entries, at most [`PAGE_MAX`].
    pub limit: i64,
}

/// One change, with what a verifier of the chain needs.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    /// Its place in the organization's history, from 1.
    pub seq: i64,
    /// The service.
    pub service: String,
    /// The key.
    pub key: String,
    /// The key's version after the change.
    pub version: i64,
    /// The organization's epoch.
    pub epoch: i64,
    /// The organization's revision.
    pub revision: i64,
    /// The value before; none if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_value: Option<Box<RawValue>>,
    /// The value after; none for a deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_value: Option<Box<RawValue>>,
    /// Whether it was a deletion.
    pub deleted: bool,
    /// Who.
    pub changed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
    /// Why.
    pub reason: Option<String>,
    /// The hash of the entry before.
    #[serde(serialize_with = "as_hex")]
    pub prev_hash: Vec<u8>,
    /// The hash of this entry.
    #[serde(serialize_with = "as_hex")]
    pub hash: Vec<u8>,
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl TryFrom<Entry> for Recorded {
    type Error = ConfigError;

    fn try_from(entry: Entry) -> Result<Self, ConfigError> {
        Ok(Self {
            seq: entry.seq,
            service: entry.service,
            key: entry.key,
            version: entry.version,
            epoch: entry.epoch,
            revision: entry.revision,
            old_value: entry.old_value.map(raw).transpose()?,
            new_value: entry.new_value.map(raw).transpose()?,
            deleted: entry.deleted,
            changed_by: entry.changed_by,
            changed_at: entry.changed_at,
            reason: entry.reason,
            prev_hash: entry.prev_hash,
            hash: entry.hash,
        })
    }
}

impl Configuration {
    /// A page of the history, newest first.
    pub async fn history(
        &self,
        organization: OrganizationId,
        filter: Filter,
    ) -> Result<Page<Entry>, ConfigError> {
        let pool = self.service.clone();
        let limit = filter.limit.clamp(1, PAGE_MAX);
        let (service, key) = match filter.name {
            Some(name) => (Some(name.service.to_string()), Some(name.key.to_string())),
            None => (None, None),
        };
        detached(async move {
            let mut tx = TenantTx::begin(&pool, organization).await?;
            let rows = sqlx::query!(
                r#"SELECT org_id AS "organization!", seq AS "seq!", service AS "service!", key AS "key!",
                          version AS "version!", epoch AS "epoch!", revision AS "revision!", old_value, new_value,
                          deleted AS "deleted!", changed_by AS "changed_by!", changed_at AS "changed_at!", reason,
                          prev_hash AS "prev_hash!", hash AS "hash!", found AS "found!"
                   FROM (
                       SELECT *, count(*) OVER () AS found, sum(bytes) OVER (ORDER BY seq DESC) - bytes AS bytes_before
                       FROM (
                           SELECT *, coalesce(octet_length(old_value), 0) + coalesce(octet_length(new_value), 0) AS bytes
                           FROM (
                               SELECT org_id, seq, service, key, version, epoch, revision, old_value::text AS old_value,
                                      new_value::text AS new_value, deleted, changed_by, changed_at, reason, prev_hash, hash
                               FROM config_history
                               WHERE org_id = $1 AND seq < $2
                                 AND ($3::text IS NULL OR (service = $3 AND key = $4))
                                 AND ($5::timestamptz IS NULL OR changed_at >= $5)
                                 AND ($6::timestamptz IS NULL OR changed_at < $6)
                                 AND ($7::text IS NULL OR changed_by = $7)
                               ORDER BY seq DESC LIMIT $8
                           ) AS counted
                       ) AS weighed
                   ) AS measured
                   WHERE bytes_before < $9 ORDER BY seq DESC"#,
                organization.0,
                filter.before.unwrap_or(i64::MAX),
                service,
                key,
                filter.from,
                filter.to,
                filter.actor,
                limit,
                PAGE_BYTES_MAX,
            )
            .fetch_all(&mut *tx)
            .await?;
            let found = rows.first().map(|row| row.found);
            let entries = rows.into_iter().map(|row| Entry {
                organization: row.organization,
                seq: row.seq,
                service: row.service,
                key: row.key,
                version: row.version,
                epoch: row.epoch,
                revision: row.revision,
                old_value: row.old_value,
                new_value: row.new_value,
                deleted: row.deleted,
                changed_by: row.changed_by,
                changed_at: row.changed_at,
                reason: row.reason,
                prev_hash: row.prev_hash,
                hash: row.hash,
            });
            Ok(Page::new(entries.collect(), found, limit))
        })
        .await
    }
}

/// The head of the CSV export.
pub fn csv_head() -> String {
    let mut out = String::new();
    csv::record(
        &mut out,
        [
            "seq",
            "changed_at",
            "changed_by",
            "service",
            "key",
            "version",
            "deleted",
            "old_value",
            "new_value",
            "reason",
            "epoch",
            "revision",
            "hash",
        ],
    );
    out
}

/// One line of the CSV export.
pub fn csv_line(out: &mut String, entry: &Entry) {
    let at = entry.changed_at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    let numbers = [entry.seq, entry.version, entry.epoch, entry.revision].map(|number| number.to_string());
    let [seq, version, epoch, revision] = numbers.each_ref().map(String::as_str);
    csv::record(
        out,
        [
            seq,
            &at,
            &entry.changed_by,
            &entry.service,
            &entry.key,
            version,
            if entry.deleted { "true" } else { "false" },
            entry.old_value.as_deref().unwrap_or_default(),
            entry.new_value.as_deref().unwrap_or_default(),
            entry.reason.as_deref().unwrap_or_default(),
            epoch,
            revision,
            &hex(&entry.hash),
        ],
    );
}
