//! `/.well-known`: what others need to verify our tokens.

use axum::{Json, Router, extract::State, http::header, response::IntoResponse, routing::get};

use crate::state::AppState;

/// Routes of this file.
pub fn router() -> Router<AppState> {
    Router::new().route("/.well-known/jwks.json", get(jwks))
}

/// The public halves of all signing keys. A verifier may keep them for a minute: a new key is published before it signs.
async fn jwks(State(state): State<AppState>) -> impl IntoResponse {
    let ring = state.identity.tokens.keys().ring();
    ([(header::CACHE_CONTROL, "public, max-age=60")], Json(ring.published().clone()))
}
