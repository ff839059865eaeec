//! The HTTP surface: one file a resource, each with its own `router()`; errors are problem documents (RFC 9457).

pub mod auth;
pub mod configs;
pub mod extract;
pub mod health;
pub mod operations;
pub mod organizations;
pub mod problem;
pub mod well_known;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri},
};
use runtime::problem::Problem;
use tower_http::trace::TraceLayer;

use crate::state::AppState;

/// Longest request body, in bytes. Values of configuration are the longest that is sent.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// All routes.
pub fn router(state: AppState) -> Router {
    Router::new()
        .merge(organizations::router())
        .merge(operations::router())
        .merge(auth::router())
        .merge(configs::router())
        .merge(well_known::router())
        .merge(health::router())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(TraceLayer::new_for_http())
        .with_state(state)
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail(format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail(format!("{} does not know {method}", uri.path()))
}
