//! Single values: list, read, write, delete, roll back.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use runtime::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{author, etag_header, precondition, single};
use crate::{
    config::{
        ConfigError, ConfigName, etag,
        read::{Listing, PAGE_MAX, Stored},
        value::ConfigValue,
        write::{Action, Applied, Author, Change},
    },
    http::{
        extract::{Body, Caller, InOrganization, OfKey, Parameters},
        problem::{internal, named},
    },
    identity::Permission,
    state::AppState,
};

#[derive(Deserialize)]
pub(super) struct ListQuery {
    service: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[derive(Serialize)]
struct Page {
    items: Vec<Stored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    InOrganization(organization): InOrganization,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Response, Problem> {
    caller.require(organization, Permission::ConfigsRead)?;
    let invalid = || {
        named(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query")
            .detail("a cursor is what `next_cursor` gave, and a limit at least 1")
    };
    let limit = query.limit.unwrap_or(PAGE_MAX);
    if limit < 1 {
        return Err(invalid());
    }
    let limit = limit.min(PAGE_MAX);
    // Neither part of a name holds a slash.
    let after = query
        .cursor
        .map(|cursor| {
            cursor
                .split_once('/')
                .map(|(service, key)| (service.to_owned(), key.to_owned()))
                .ok_or_else(invalid)
        })
        .transpose()?;
    let page = state.config.list(organization, Listing { service: query.service, after, limit }).await?;
    let next_cursor =
        page.items.last().filter(|_| page.more).map(|last| format!("{}/{}", last.service, last.key));
    Ok(Json(Page { items: page.items, next_cursor }).into_response())
}

pub(super) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(organization, Permission::ConfigsRead)?;
    let stored = state.config.get(organization, name).await?;
    let tag = etag_header(stored.version);
    if etag::not_modified(single(&headers, &header::IF_NONE_MATCH)?, stored.version) {
        return Ok((StatusCode::NOT_MODIFIED, [tag]).into_response());
    }
    Ok(([tag], Json(stored)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutRequest {
    value: Box<RawValue>,
    reason: Option<String>,
}

pub(super) async fn put(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
    headers: HeaderMap,
    Body(request): Body<PutRequest>,
) -> Result<Response, Problem> {
    caller.require(organization, Permission::ConfigsWrite)?;
    let value = ConfigValue::new(&request.value).map_err(ConfigError::from)?;
    let author = author(&caller, request.reason)?;
    one(&state, organization, name, Action::Set(value), &headers, author).await
}

#[derive(Deserialize)]
pub(super) struct DeleteQuery {
    reason: Option<String>,
}

pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
    Parameters(query): Parameters<DeleteQuery>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Problem> {
    caller.require(organization, Permission::ConfigsWrite)?;
    // A body is optional, since not every client sends one with DELETE: the reason may come either way.
    let reason = match (query.reason, body.is_empty()) {
        (Some(reason), true) => Some(reason),
        (None, true) => None,
        (_, false) => {
            let request: DeleteQuery = serde_json::from_slice(&body).map_err(|error| {
                named(StatusCode::BAD_REQUEST, "invalid-json", "Invalid JSON").detail(error.to_string())
            })?;
            request.reason
        }
    };
    let author = author(&caller, reason)?;
    one(&state, organization, name, Action::Delete, &headers, author).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackRequest {
    version: i64,
    reason: Option<String>,
}

pub(super) async fn rollback(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
    headers: HeaderMap,
    Body(request): Body<RollbackRequest>,
) -> Result<Response, Problem> {
    caller.require(organization, Permission::ConfigsWrite)?;
    let author = author(&caller, request.reason)?;
    one(&state, organization, name, Action::Restore(request.version), &headers, author).await
}

/// What a change of one value is answered.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    applied: Applied,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    updated_by: String,
}

async fn one(
    state: &AppState,
    organization: contract::OrganizationId,
    name: ConfigName,
    action: Action,
    headers: &HeaderMap,
    author: Author,
) -> Result<Response, Problem> {
    let change = Change { name, action, precondition: precondition(headers)? };
    let updated_by = author.actor.clone();
    let applied =
        state.config.apply(organization, vec![change], author).await.map_err(|error| match error {
            ConfigError::Change { cause, .. } => *cause,
            other => other,
        })?;
    let Some(mut applied) = applied.into_iter().next() else {
        return Err(internal(&"a change was made and not told"));
    };
    let status = if applied.created && !applied.deleted { StatusCode::CREATED } else { StatusCode::OK };
    let tag = etag_header(applied.version);
    let value =
        applied.value.take().map(RawValue::from_string).transpose().map_err(|error| internal(&error))?;
    Ok((status, [tag], Json(Written { applied, value, updated_by })).into_response())
}
