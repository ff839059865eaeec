//! Changing values: one transaction, all or nothing.
//!
//! The organization's row lock comes first, so that schemas, versions, preconditions and the room that is left hold until the
//! commit: begin and lock, read, write, commit are four round trips, for one change as for a hundred. A single change whose key
//! has no schema needs no reading: it is one statement, a transaction of its own.

use contract::OrganizationId;
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    ConfigError, ConfigName, Configuration, HAS_SCHEMA, NOT_THERE,
    capacity::Capacity,
    decide::{Decided, Restored, State, allowed, at, decide_all},
    etag::{Current, Precondition},
    has_code,
    publish::Announcement,
    tenant::{TenantTx, detached},
    value::ConfigValue,
};

/// Most changes of one transaction.
pub const CHANGES_MAX: usize = 100;

/// What a change does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sets the value.
    Set(ConfigValue),
    /// Deletes it: a tombstone with the next version.
    Delete,
    /// Sets it to what it was at a version.
    Restore(i64),
}

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Of what.
    pub name: ConfigName,
    /// What it becomes.
    pub action: Action,
    /// What must hold before.
    pub precondition: Precondition,
}

/// Who changes, and why.
#[derive(Debug, Clone)]
pub struct Author {
    /// Who.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
}

/// A change that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// The service.
    pub service: String,
    /// The key.
    pub key: String,
    /// The key's new version.
    pub version: i64,
    /// The organization's new revision.
    pub revision: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Whether it was deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Whether there was no value before.
    #[serde(skip)]
    pub created: bool,
    /// The value's JSON text; none for a deletion.
    #[serde(skip)]
    pub value: Option<String>,
}

impl Configuration {
    /// Makes the changes in one transaction, and announces them.
    pub async fn apply(
        &self,
        organization: OrganizationId,
        changes: Vec<Change>,
        author: Author,
    ) -> Result<Vec<Applied>, ConfigError> {
        let this = self.clone();
        // Detached up to the announcement: a client that leaves does not delay it.
        detached(async move {
            let turn = this.turns.take(organization).await;
            let applied = this.commit(organization, changes, author).await?;
            drop(turn);
            let announcements: Vec<_> = applied
                .iter()
                .filter_map(|change| {
                    Announcement::new(organization.0, &change.service, &change.key, change.version)
                })
                .collect();
            this.publisher.announce(announcements).await;
            Ok(applied)
        })
        .await
    }

    async fn commit(
        &self,
        organization: OrganizationId,
        changes: Vec<Change>,
        author: Author,
    ) -> Result<Vec<Applied>, ConfigError> {
        allowed(&changes)?;
        if let [change] = changes.as_slice()
            && let Some(applied) = self.commit_at_once(organization, change, &author).await?
        {
            return Ok(vec![applied]);
        }
        let mut tx = TenantTx::begin_locked(&self.service, organization).await?;
        let states = read_states(&mut tx, organization, &changes).await?;
        let decided = if states.iter().any(|state| state.schema.is_some()) {
            self.validate(move || decide_all(changes, states)).await?
        } else {
            decide_all(changes, states)?
        };
        let applied = write(&mut tx, organization, decided, author, self.capacity).await;
        let applied = applied.map_err(|error| self.capacity.refusal(error))?;
        tx.commit().await?;
        Ok(applied)
    }
}

impl Configuration {
    /// Makes a change that nothing but its version and the room for it decide. None: it has to be made the longer way.
    async fn commit_at_once(
        &self,
        organization: OrganizationId,
        change: &Change,
        author: &Author,
    ) -> Result<Option<Applied>, ConfigError> {
        let Some(expected) = change.precondition.expected_version() else { return Ok(None) };
        let value = match &change.action {
            Action::Set(value) => Some(value.text()),
            Action::Delete => None,
            Action::Restore(_) => return Ok(None),
        };
        let ConfigName { service, key } = &change.name;
        // A deletion needs no room.
        let room = value.map(|_| self.capacity);
        let made = sqlx::query!(
            r#"SELECT version AS "version!", revision AS "revision!", updated_at AS "updated_at!", created AS "created!"
               FROM config_write($1, $2, $3, $4::text::jsonb, $5, $6, $7, false, $8, $9)"#,
            organization.0,
            service.as_str(),
            key.as_str(),
            value,
            expected,
            author.actor,
            author.reason,
            room.map(|room| room.keys),
            room.map(|room| room.bytes),
        )
        .fetch_one(&self.service)
        .await;
        match made {
            Ok(row) => Ok(Some(Applied {
                service: service.to_string(),
                key: key.to_string(),
                version: row.version,
                revision: row.revision,
                updated_at: row.updated_at,
                deleted: value.is_none(),
                created: row.created,
                value: value.map(str::to_owned),
            })),
            Err(error) if has_code(&error, HAS_SCHEMA) => Ok(None),
            Err(error) if value.is_none() && has_code(&error, NOT_THERE) => Err(at(0)(ConfigError::NotFound)),
            Err(error) => Err(at(0)(self.capacity.refusal(error))),
        }
    }
}

async fn read_states(
    tx: &mut TenantTx,
    organization: OrganizationId,
    changes: &[Change],
) -> Result<Vec<State>, ConfigError> {
    let services: Vec<String> = changes.iter().map(|change| change.name.service.to_string()).collect();
    let keys: Vec<String> = changes.iter().map(|change| change.name.key.to_string()).collect();
    let versions: Vec<i64> = changes
        .iter()
        .map(|change| if let Action::Restore(version) = change.action { version } else { 0 })
        .collect();
    let rows = sqlx::query!(
        r#"SELECT c.version AS "version?", c.deleted AS "deleted?", s.schema AS "schema?",
                  h.deleted AS "then_deleted?", h.new_value::text AS "then_value?"
           FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS w (service, key, version, place)
           LEFT JOIN service_configs c ON c.org_id = $1 AND c.service = w.service AND c.key = w.key
           LEFT JOIN config_schemas s ON s.org_id = $1 AND s.service = w.service AND s.key = w.key
           LEFT JOIN config_history h
               ON h.org_id = $1 AND h.service = w.service AND h.key = w.key AND h.version = w.version AND w.version > 0
           ORDER BY w.place"#,
        organization.0,
        &services,
        &keys,
        &versions,
    )
    .fetch_all(&mut **tx)
    .await?;
    let state = rows.into_iter().map(|row| State {
        current: Current {
            version: row.version.unwrap_or(0),
            exists: row.version.is_some() && row.deleted == Some(false),
        },
        schema: row.schema,
        restored: row.then_deleted.map(|deleted| Restored { deleted, value: row.then_value }),
    });
    Ok(state.collect())
}

async fn write(
    tx: &mut TenantTx,
    organization: OrganizationId,
    decided: Vec<Decided>,
    author: Author,
    capacity: Capacity,
) -> Result<Vec<Applied>, sqlx::Error> {
    let services: Vec<String> = decided.iter().map(|change| change.name.service.to_string()).collect();
    let keys: Vec<String> = decided.iter().map(|change| change.name.key.to_string()).collect();
    let values: Vec<Option<String>> = decided.into_iter().map(|change| change.value).collect();
    // Deletions need no room.
    let room = values.iter().any(Option::is_some).then_some(capacity);
    let last = i64::try_from(values.len()).unwrap_or(i64::MAX);
    // Under the lock nothing can have changed since it was read: no expected version is needed. There must be room for all
    // changes together, so the last one asks; a function's rows come in their order.
    let rows = sqlx::query!(
        r#"SELECT w.version AS "version!", w.revision AS "revision!", w.updated_at AS "updated_at!", w.created AS "created!"
           FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS c (service, key, value, place),
                LATERAL config_write($1, c.service, c.key, c.value::jsonb, NULL, $5, $6, true,
                    CASE WHEN c.place = $9::bigint THEN $7::bigint END,
                    CASE WHEN c.place = $9::bigint THEN $8::bigint END) AS w
           ORDER BY c.place"#,
        organization.0,
        &services,
        &keys,
        &values as &[Option<String>],
        author.actor,
        author.reason,
        room.map(|room| room.keys),
        room.map(|room| room.bytes),
        last,
    )
    .fetch_all(&mut **tx)
    .await?;
    let applied =
        rows.into_iter().zip(services).zip(keys).zip(values).map(|(((row, service), key), value)| Applied {
            service,
            key,
            version: row.version,
            revision: row.revision,
            updated_at: row.updated_at,
            deleted: value.is_none(),
            created: row.created,
            value,
        });
    Ok(applied.collect())
}
