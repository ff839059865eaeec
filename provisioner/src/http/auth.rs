//! `/api/auth`: login.

use axum::{
    Json, Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::post,
};
use contract::OrganizationId;
use runtime::problem::Problem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::extract::{Body, ClientAddress};
use crate::{
    identity::{
        Permission, Role,
        login::{Credentials, login as log_in},
        token::LIFETIME_SECONDS,
    },
    state::AppState,
};

/// Routes of this file.
pub fn router() -> Router<AppState> {
    Router::new().route("/api/auth/login", post(login))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    email: String,
    password: String,
    organization: Option<OrganizationId>,
}

#[derive(Serialize)]
struct LoginAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: i64,
    user_id: Uuid,
    organization: Option<OrganizationId>,
    role: Role,
    permissions: Vec<Permission>,
}

async fn login(
    State(state): State<AppState>,
    ClientAddress(address): ClientAddress,
    Body(request): Body<LoginRequest>,
) -> Result<Response, Problem> {
    let LoginRequest { email, password, organization } = request;
    let credentials = Credentials { email, password, organization };
    let session = log_in(&state.platform, &state.identity, credentials, address).await?;
    let answer = LoginAnswer {
        access_token: session.access_token,
        token_type: "Bearer",
        expires_in: LIFETIME_SECONDS,
        user_id: session.claims.sub,
        organization: session.claims.org_id,
        role: session.claims.user_role,
        permissions: session.claims.permissions,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
