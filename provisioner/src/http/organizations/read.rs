//! `GET /api/organizations` and `GET /api/organizations/ORG`.

use axum::{Json, extract::State, http::StatusCode};
use runtime::problem::Problem;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    http::{
        extract::{Caller, InOrganization, Parameters},
        problem::database,
    },
    identity::Permission,
    state::AppState,
};

/// Organizations of a page, unless fewer are asked for.
const PAGE: i64 = 50;
/// Most organizations of a page.
const PAGE_MAX: i64 = 200;

/// An organization as it is answered.
#[derive(Debug, Serialize)]
pub struct Organization {
    id: Uuid,
    name: String,
    slug: String,
    namespace: String,
    owner_email: String,
    status: String,
    operation_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    committed_at: Option<OffsetDateTime>,
}

/// What to list.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    search: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<i64>,
}

/// A page of organizations.
#[derive(Debug, Serialize)]
pub struct Page {
    organizations: Vec<Organization>,
    /// Where the next page begins; none at the end.
    next_cursor: Option<Uuid>,
}

/// The caller's organizations; a platform operator's list has all, those that are on their way included.
pub async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<Json<Page>, Problem> {
    let all = caller.require_anywhere(Permission::PlatformRead).is_ok();
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let search = wanted.search.unwrap_or_default().trim().to_lowercase();
    let mut organizations = sqlx::query_as!(
        Organization,
        "SELECT id, name, slug, namespace, owner_email, status, operation_id, created_at, committed_at FROM organizations
         WHERE ($1 OR (status = 'COMMITTED' AND id IN (SELECT org_id FROM memberships WHERE user_id = $2)))
             AND ($3 = '' OR position($3 IN lower(name)) > 0 OR position($3 IN slug) > 0)
             AND ($4::uuid IS NULL OR id > $4)
         ORDER BY id LIMIT $5",
        all,
        caller.claims().sub,
        search,
        wanted.cursor,
        limit + 1,
    )
    .fetch_all(&state.platform)
    .await
    .map_err(|error| database(&error))?;
    let more = i64::try_from(organizations.len()).unwrap_or(i64::MAX) > limit;
    if more {
        organizations.pop();
    }
    let next_cursor = organizations.last().filter(|_| more).map(|last| last.id);
    Ok(Json(Page { organizations, next_cursor }))
}

/// One organization.
pub async fn one(
    State(state): State<AppState>,
    caller: Caller,
    InOrganization(organization): InOrganization,
) -> Result<Json<Organization>, Problem> {
    caller.require(organization, Permission::OrganizationRead)?;
    let found = sqlx::query_as!(
        Organization,
        "SELECT id, name, slug, namespace, owner_email, status, operation_id, created_at, committed_at FROM organizations
         WHERE id = $1",
        organization.0,
    )
    .fetch_optional(&state.platform)
    .await
    .map_err(|error| database(&error))?;
    found.map(Json).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND).detail("there is no such organization"))
}
