//! Rows as the contract has them.

use contract::{ConfigKey, ServiceName};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::{Row as _, postgres::PgRow};

use super::SourceError;
use crate::store::{Position, Row};

/// A row before its parts were checked.
struct Raw {
    service: String,
    key: String,
    value: Option<String>,
    version: i64,
    epoch: i64,
    revision: i64,
    deleted: bool,
    updated_us: i64,
}

pub(super) fn decode(row: &PgRow) -> Result<Row, SourceError> {
    check(Raw {
        service: row.try_get("service")?,
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        version: row.try_get("version")?,
        epoch: row.try_get("epoch")?,
        revision: row.try_get("revision")?,
        deleted: row.try_get("deleted")?,
        updated_us: row.try_get("updated_us")?,
    })
}

fn check(raw: Raw) -> Result<Row, SourceError> {
    let Raw { service, key, value, version, epoch, revision, deleted, updated_us } = raw;
    let fault = |reason| SourceError::Row { service: service.clone(), key: key.clone(), reason };
    let positive = |number: i64| u64::try_from(number).map_err(|_| fault("a number below zero"));
    Ok(Row {
        service: ServiceName::try_from(service.as_str()).map_err(|_| fault("not a service name"))?,
        key: ConfigKey::try_from(key.as_str()).map_err(|_| fault("not a key"))?,
        value: match (deleted, value) {
            (true, _) => None,
            (false, Some(text)) => Some(RawValue::from_string(text).map_err(|_| fault("not JSON"))?),
            (false, None) => return Err(fault("no value and not deleted")),
        },
        version: positive(version)?,
        at: Position { epoch: positive(epoch)?, revision: positive(revision)? },
        updated_at: Timestamp::from_microsecond(updated_us).map_err(|_| fault("a time out of range"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: Option<&str>, deleted: bool) -> Raw {
        Raw {
            service: "ai".into(),
            key: "threshold".into(),
            value: value.map(Into::into),
            version: 3,
            epoch: 1,
            revision: 9,
            deleted,
            updated_us: 1_000_000,
        }
    }

    #[test]
    fn a_value_null_is_a_value_and_a_tombstone_is_none() {
        assert_eq!(check(raw(Some("null"), false)).unwrap().value.unwrap().get(), "null");
        assert!(check(raw(None, true)).unwrap().value.is_none());
        assert!(check(raw(None, false)).is_err());
        assert!(check(raw(Some("{"), false)).is_err());
    }

    #[test]
    fn what_the_contract_does_not_allow_is_refused() {
        assert!(check(Raw { service: "a/b".into(), ..raw(Some("1"), false) }).is_err());
        assert!(check(Raw { key: "*".into(), ..raw(Some("1"), false) }).is_err());
        assert!(check(Raw { version: -1, ..raw(Some("1"), false) }).is_err());
        assert!(check(Raw { updated_us: i64::MAX, ..raw(Some("1"), false) }).is_err());
    }
}
