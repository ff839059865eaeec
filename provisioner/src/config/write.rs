//! Changing values: one transaction, all or nothing.
//!
//! A single change of a value without a schema is one statement. Otherwise the organization's row lock comes first, so that
//! schemas, versions and preconditions that are read after it hold until the commit: begin and lock, read, write, commit are
//! four round trips, for one change as for a hundred.

use std::collections::BTreeSet;

use contract::OrganizationId;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    ConfigError, ConfigName, Configuration, HAS_SCHEMA, NOT_THERE,
    etag::{Current, Precondition},
    has_code,
    publish::Announcement,
    schema::{Schema, Violation},
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

/// What is there before a change.
struct State {
    current: Current,
    schema: Option<Value>,
    restored: Option<Restored>,
}

struct Restored {
    deleted: bool,
    value: Option<String>,
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
            let applied = this.commit(organization, changes, author).await?;
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
        let created: Vec<bool> = states.iter().map(|state| !state.current.exists).collect();
        let decided = off_thread_if_schemas(changes, states).await?;
        let mut applied = write(&mut tx, organization, decided, author).await?;
        tx.commit().await?;
        for (change, created) in applied.iter_mut().zip(created) {
            change.created = created;
        }
        Ok(applied)
    }
}

impl Configuration {
    /// Makes a change that nothing but its version decides in one statement. None: it has to be made the longer way.
    async fn commit_at_once(
        &self,
        organization: OrganizationId,
        change: &Change,
        author: &Author,
    ) -> Result<Option<Applied>, ConfigError> {
        let value = match &change.action {
            Action::Set(value) => Some(value.text()),
            Action::Delete => None,
            Action::Restore(_) => return Ok(None),
        };
        let Some(expected) = change.precondition.expected_version() else { return Ok(None) };
        let ConfigName { service, key } = &change.name;
        let made = sqlx::query!(
            r#"SELECT version AS "version!", revision AS "revision!", updated_at AS "updated_at!", created AS "created!"
               FROM config_write_at_once($1, $2, $3, $4::text::jsonb, $5, $6, $7)"#,
            organization.0,
            service.as_str(),
            key.as_str(),
            value,
            expected,
            author.actor,
            author.reason,
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
            Err(error) => Err(at(0)(error.into())),
        }
    }
}

fn at(index: usize) -> impl Fn(ConfigError) -> ConfigError {
    move |cause| ConfigError::Change { index, cause: Box::new(cause) }
}

/// What can be said without looking: reserved names, one change a key.
fn allowed(changes: &[Change]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for (index, change) in changes.iter().enumerate() {
        if change.name.is_reserved() {
            return Err(at(index)(ConfigError::Reserved));
        }
        if !names.insert(&change.name) {
            let told = Violation { path: String::new(), message: "the batch changes this key twice".into() };
            return Err(at(index)(ConfigError::Violations(vec![told])));
        }
    }
    Ok(())
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

/// A change with its value decided: the JSON text, or none for a deletion.
struct Decided {
    name: ConfigName,
    value: Option<String>,
}

/// Checks against schemas can take milliseconds, which other requests should not wait for.
async fn off_thread_if_schemas(
    changes: Vec<Change>,
    states: Vec<State>,
) -> Result<Vec<Decided>, ConfigError> {
    if states.iter().all(|state| state.schema.is_none()) {
        return decide_all(changes, states);
    }
    tokio::task::spawn_blocking(move || decide_all(changes, states))
        .await
        .map_err(|_| ConfigError::Database(sqlx::Error::WorkerCrashed))?
}

fn decide_all(changes: Vec<Change>, states: Vec<State>) -> Result<Vec<Decided>, ConfigError> {
    let pairs = changes.into_iter().zip(states).enumerate();
    pairs.map(|(index, (change, state))| decide(change, state).map_err(at(index))).collect()
}

/// What the change writes, if what is there allows it.
fn decide(change: Change, state: State) -> Result<Decided, ConfigError> {
    let Current { version, exists } = state.current;
    if !change.precondition.holds(state.current) {
        return Err(ConfigError::PreconditionFailed { current: exists.then_some(version) });
    }
    let value = match change.action {
        Action::Set(value) => {
            check(state.schema.as_ref(), value.parsed())?;
            Some(value.text().to_owned())
        }
        Action::Delete if exists => None,
        Action::Delete => return Err(ConfigError::NotFound),
        Action::Restore(version) => {
            let then = state.restored.ok_or(ConfigError::NoVersion(version))?;
            let value =
                then.value.filter(|_| !then.deleted).ok_or(ConfigError::VersionIsDeletion(version))?;
            if state.schema.is_some() {
                let parsed = serde_json::from_str(&value)
                    .map_err(|error| ConfigError::Database(sqlx::Error::Decode(error.into())))?;
                check(state.schema.as_ref(), &parsed)?;
            }
            Some(value)
        }
    };
    Ok(Decided { name: change.name, value })
}

fn check(schema: Option<&Value>, value: &Value) -> Result<(), ConfigError> {
    let Some(schema) = schema else { return Ok(()) };
    // It was accepted when it was set; a rule made stricter since then must not leave values unchecked.
    let violations = Schema::new(schema)?.violations(value);
    if violations.is_empty() { Ok(()) } else { Err(ConfigError::Violations(violations)) }
}

async fn write(
    tx: &mut TenantTx,
    organization: OrganizationId,
    decided: Vec<Decided>,
    author: Author,
) -> Result<Vec<Applied>, ConfigError> {
    let services: Vec<String> = decided.iter().map(|change| change.name.service.to_string()).collect();
    let keys: Vec<String> = decided.iter().map(|change| change.name.key.to_string()).collect();
    let values: Vec<Option<String>> = decided.into_iter().map(|change| change.value).collect();
    // Under the lock nothing can have changed since it was read: no expected version is needed.
    let rows = sqlx::query!(
        r#"SELECT w.version AS "version!", w.revision AS "revision!", w.updated_at AS "updated_at!"
           FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS c (service, key, value, place),
                LATERAL config_write($1, c.service, c.key, c.value::jsonb, NULL, $5, $6) AS w
           ORDER BY c.place"#,
        organization.0,
        &services,
        &keys,
        &values as &[Option<String>],
        author.actor,
        author.reason,
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
            created: false,
            value,
        });
    Ok(applied.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::RawValue};

    use super::*;

    fn name(service: &str) -> ConfigName {
        ConfigName { service: service.parse().unwrap(), key: "k".parse().unwrap() }
    }

    fn set(text: &str) -> Action {
        Action::Set(ConfigValue::new(&RawValue::from_string(text.into()).unwrap()).unwrap())
    }

    fn change(action: Action) -> Change {
        Change { name: name("ai"), action, precondition: Precondition::default() }
    }

    fn state(version: i64, exists: bool) -> State {
        State { current: Current { version, exists }, schema: None, restored: None }
    }

    #[test]
    fn a_set_value_keeps_its_text_and_fits_its_schema() {
        assert_eq!(decide(change(set("0.90")), state(0, false)).unwrap().value.unwrap(), "0.90");
        let guarded = || State { schema: Some(json!({"maximum": 1})), ..state(1, true) };
        assert!(decide(change(set("1")), guarded()).is_ok());
        assert!(matches!(decide(change(set("2")), guarded()), Err(ConfigError::Violations(_))));
    }

    #[test]
    fn what_is_gone_cannot_be_deleted_again() {
        assert!(decide(change(Action::Delete), state(3, true)).unwrap().value.is_none());
        assert!(matches!(decide(change(Action::Delete), state(3, false)), Err(ConfigError::NotFound)));
    }

    #[test]
    fn a_rollback_is_checked_like_any_value() {
        let then = |deleted, value: Option<&str>| Restored { deleted, value: value.map(Into::into) };
        let restore = |restored, schema| {
            decide(change(Action::Restore(2)), State { schema, restored, ..state(5, true) })
        };
        assert_eq!(restore(Some(then(false, Some("7"))), None).unwrap().value.unwrap(), "7");
        assert!(matches!(restore(None, None), Err(ConfigError::NoVersion(2))));
        assert!(matches!(restore(Some(then(true, None)), None), Err(ConfigError::VersionIsDeletion(2))));
        let strict = Some(json!({"type": "string"}));
        assert!(matches!(restore(Some(then(false, Some("7"))), strict), Err(ConfigError::Violations(_))));
    }

    #[test]
    fn a_failed_precondition_tells_the_version() {
        let mut stale = change(set("1"));
        stale.precondition = Precondition::version(2);
        let refused = decide(stale, state(3, true)).map(|_| ());
        assert!(matches!(refused, Err(ConfigError::PreconditionFailed { current: Some(3) })), "{refused:?}");
    }

    #[test]
    fn the_mirror_is_reserved_and_a_key_changes_once() {
        let mirror = Change { name: name("platform"), ..change(set("1")) };
        match allowed(&[change(set("1")), mirror]) {
            Err(ConfigError::Change { index: 1, cause }) => assert!(matches!(*cause, ConfigError::Reserved)),
            other => panic!("{other:?}"),
        }
        let twice = allowed(&[change(set("1")), change(Action::Delete)]);
        assert!(matches!(twice, Err(ConfigError::Change { index: 1, .. })));
    }
}
