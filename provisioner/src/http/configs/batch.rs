//! Many changes in one transaction.

use axum::{Json, extract::State, http::StatusCode};
use contract::{ConfigKey, ServiceName};
use runtime::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::author;
use crate::{
    config::{
        ConfigError, ConfigName,
        etag::Precondition,
        value::ConfigValue,
        write::{Action, Applied, CHANGES_MAX, Change},
    },
    http::{
        extract::{Body, Caller, InOrganization},
        problem::named,
    },
    identity::Permission,
    state::AppState,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    changes: Vec<ChangeRequest>,
    reason: Option<String>,
}

/// Either `value`, or `delete: true`. `if_version` is the version the key must have; 0: it must have no value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    service: ServiceName,
    key: ConfigKey,
    // `"value": null` sets null, which is not the same as no value; an Option would take both for none.
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    #[serde(default)]
    delete: bool,
    if_version: Option<i64>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Serialize)]
pub(super) struct BatchAnswer {
    changes: Vec<Applied>,
}

pub(super) async fn apply(
    State(state): State<AppState>,
    caller: Caller,
    InOrganization(organization): InOrganization,
    Body(request): Body<BatchRequest>,
) -> Result<Json<BatchAnswer>, Problem> {
    caller.require(organization, Permission::ConfigsWrite)?;
    if request.changes.is_empty() || request.changes.len() > CHANGES_MAX {
        return Err(named(StatusCode::UNPROCESSABLE_ENTITY, "invalid-batch", "Invalid batch")
            .detail(format!("a batch has 1 to {CHANGES_MAX} changes")));
    }
    let author = author(&caller, request.reason)?;
    let changes: Vec<Change> = request
        .changes
        .into_iter()
        .enumerate()
        .map(|(index, change)| read(index, change))
        .collect::<Result<_, _>>()?;
    let changes = state.config.apply(organization, changes, author).await?;
    Ok(Json(BatchAnswer { changes }))
}

fn read(index: usize, change: ChangeRequest) -> Result<Change, Problem> {
    let action = match (change.value, change.delete) {
        (Some(value), false) => Action::Set(
            ConfigValue::new(&value)
                .map_err(|error| ConfigError::Change { index, cause: Box::new(error.into()) })?,
        ),
        (None, true) => Action::Delete,
        _ => {
            return Err(named(StatusCode::UNPROCESSABLE_ENTITY, "invalid-batch", "Invalid batch")
                .detail("a change has either `value` or `delete: true`")
                .with("change", index));
        }
    };
    let name = ConfigName { service: change.service, key: change.key };
    Ok(Change {
        name,
        action,
        precondition: change.if_version.map(Precondition::version).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn action(request: &serde_json::Value) -> Option<Action> {
        let mut full = json!({"service": "a", "key": "b"});
        full.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        // From text, as a body is: a raw value reads from nothing else.
        read(0, serde_json::from_str(&full.to_string()).unwrap()).ok().map(|change| change.action)
    }

    #[test]
    fn null_is_a_value_and_nothing_is_none() {
        assert!(
            matches!(action(&json!({"value": null})), Some(Action::Set(value)) if value.text() == "null")
        );
        assert!(matches!(action(&json!({"delete": true})), Some(Action::Delete)));
        assert!(action(&json!({})).is_none());
        assert!(action(&json!({"value": 1, "delete": true})).is_none());
    }
}
