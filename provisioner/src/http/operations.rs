//! `GET /api/operations/ID`: how far an operation is.
//!
//! Its creator has no account before it ends, so for an hour the unguessable id is proof enough; after that a token of the
//! organization, of the creator or of a platform operator is needed. Whoever may not see it is told that it does not exist.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use runtime::problem::Problem;
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    extract::Caller,
    problem::{database, unauthorized},
};
use crate::{
    identity::Permission,
    state::AppState,
    tenancy::{Answer, Cause, Step, StepReport},
};

/// How long the id alone is proof enough.
const ID_SUFFICES: Duration = Duration::hours(1);

/// Routes of this file.
pub fn router() -> Router<AppState> {
    Router::new().route("/api/operations/{operation}", get(read))
}

#[derive(Debug, Serialize)]
struct Operation {
    id: Uuid,
    kind: String,
    state: String,
    organization_id: Uuid,
    name: String,
    slug: String,
    namespace: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    steps: Vec<StepReport>,
}

async fn read(
    State(state): State<AppState>,
    caller: Option<Caller>,
    Path(operation): Path<String>,
) -> Result<Json<Operation>, Problem> {
    let id: Uuid = operation.parse().map_err(|_| unknown())?;
    let row = sqlx::query!(
        r#"SELECT o.kind, o.state, o.subject, o.answer, o.created_at, o.finished_at, o.org_id,
            n.name, n.slug, n.namespace, n.owner_email
        FROM operations AS o JOIN organizations AS n ON n.id = o.org_id WHERE o.id = $1"#,
        id,
    )
    .fetch_optional(&state.platform)
    .await
    .map_err(|error| database(&error))?
    .ok_or_else(unknown)?;
    let operator =
        caller.as_ref().is_some_and(|caller| caller.require_anywhere(Permission::PlatformRead).is_ok());
    match caller {
        Some(caller) => {
            let claims = caller.claims();
            let theirs = row.subject == format!("user:{}", claims.sub)
                || claims.email == row.owner_email
                || claims.org_id.is_some_and(|organization| organization.0 == row.org_id)
                || operator;
            if !theirs {
                return Err(unknown());
            }
        }
        None if OffsetDateTime::now_utc() - row.created_at > ID_SUFFICES => {
            return Err(unauthorized(None, "this operation is old: log in to see it"));
        }
        None => {}
    }
    let steps = steps_of(&state, id).await?;
    let cause = match parse(row.answer) {
        Some(Answer::Failed(cause)) if operator => Some(cause),
        Some(Answer::Failed(cause)) => Some(cause.outwards()),
        _ => None,
    };
    Ok(Json(Operation {
        id,
        kind: row.kind,
        state: row.state,
        organization_id: row.org_id,
        name: row.name,
        slug: row.slug,
        namespace: row.namespace,
        created_at: row.created_at,
        finished_at: row.finished_at,
        cause,
        steps,
    }))
}

async fn steps_of(state: &AppState, operation: Uuid) -> Result<Vec<StepReport>, Problem> {
    let rows = sqlx::query!(
        r#"SELECT step, state,
            (extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at) * 1000)::float8 AS milliseconds
        FROM operation_steps WHERE operation_id = $1"#,
        operation,
    )
    .fetch_all(&state.platform)
    .await
    .map_err(|error| database(&error))?;
    let mut steps: Vec<StepReport> = rows
        .into_iter()
        .map(|row| StepReport {
            name: row.step,
            state: row.state,
            milliseconds: row.milliseconds.map(|milliseconds| (milliseconds * 10.0).round() / 10.0),
        })
        .collect();
    steps.sort_by_key(|step| Step::from_name(&step.name));
    Ok(steps)
}

/// The end of an operation, if it has ended.
pub async fn answer_of(state: &AppState, operation: Uuid) -> Result<Option<Answer>, Problem> {
    let answer = sqlx::query_scalar!("SELECT answer FROM operations WHERE id = $1", operation)
        .fetch_optional(&state.platform)
        .await
        .map_err(|error| database(&error))?;
    Ok(parse(answer.flatten()))
}

fn parse(answer: Option<serde_json::Value>) -> Option<Answer> {
    answer.and_then(|answer| serde_json::from_value(answer).ok())
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail("there is no such operation")
}
