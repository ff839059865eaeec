//! `/api/organizations`: creation, list, one.

mod answer;
mod create;
mod read;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};

pub use answer::cause_problem;

use crate::state::AppState;

/// Longest body of a creation, in bytes.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Routes of this resource.
pub fn router() -> Router<AppState> {
    let create = post(create::create).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    Router::new()
        .route("/api/organizations", create.get(read::list))
        .route("/api/organizations/{organization}", get(read::one))
}
