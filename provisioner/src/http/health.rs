//! Whether the program lives, and whether it can serve.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use runtime::problem::Problem;

use crate::state::AppState;

/// How long PostgreSQL may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// `/healthz` and `/readyz`.
pub fn router() -> Router<AppState> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

/// Ready when PostgreSQL answers: nothing can be done without it. Kubernetes and Redis may be away for a while; what needs
/// them is tried again.
async fn ready(State(state): State<AppState>) -> Response {
    let asked =
        tokio::time::timeout(ANSWER_MAX, sqlx::query_scalar!("SELECT 1 AS one").fetch_one(&state.platform));
    match asked.await {
        Ok(Ok(_)) => "ok\n".into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            not_ready()
        }
        Err(_) => not_ready(),
    }
}

fn not_ready() -> Response {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail("PostgreSQL does not answer").into_response()
}
