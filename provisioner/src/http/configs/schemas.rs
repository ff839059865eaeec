//! The schema of a key.

use axum::{Json, extract::State, http::StatusCode};
use runtime::problem::Problem;
use serde_json::{Value, value::RawValue};

use crate::{
    http::extract::{Body, Caller, OfKey},
    identity::Permission,
    state::AppState,
};

pub(super) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
) -> Result<Json<Value>, Problem> {
    caller.require(organization, Permission::ConfigsRead)?;
    Ok(Json(state.config.schema(organization, name).await?))
}

pub(super) async fn put(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
    Body(schema): Body<Box<RawValue>>,
) -> Result<StatusCode, Problem> {
    caller.require(organization, Permission::SchemasWrite)?;
    state.config.set_schema(organization, name.clone(), &schema).await?;
    tracing::info!(%organization, service = %name.service, key = %name.key, actor = caller.actor(), "schema set");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    OfKey { organization, name }: OfKey,
) -> Result<StatusCode, Problem> {
    caller.require(organization, Permission::SchemasWrite)?;
    state.config.remove_schema(organization, name.clone()).await?;
    tracing::info!(%organization, service = %name.service, key = %name.key, actor = caller.actor(), "schema removed");
    Ok(StatusCode::NO_CONTENT)
}
