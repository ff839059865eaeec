//! The routes: reviews on HTTPS, health and metrics on both listeners.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::registry::Registry;
use runtime::problem::Problem;
use tracing::Instrument as _;

use super::{
    body,
    decide::{Decider, Endpoint},
    metrics::Metrics,
    report,
};
use crate::{
    admission::{answer, review},
    readiness::Readiness,
};

/// What the routes share.
#[derive(Clone)]
pub struct App {
    decider: Decider,
    metrics: Metrics,
    registry: Arc<Registry>,
    readiness: Readiness,
}

impl App {
    /// An application that is ready when `readiness` says so; every part has its metrics in `registry` already.
    pub fn new(decider: Decider, metrics: Metrics, registry: Registry, readiness: Readiness) -> Self {
        Self { decider, metrics, registry: Arc::new(registry), readiness }
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Routes of the HTTPS listener.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/validate", post(|state, request| respond(state, Endpoint::Validate, request)))
        .route("/report", post(|state, request| respond(state, Endpoint::Report, request)))
        .route("/hold", post(|state, request| respond(state, Endpoint::Hold, request)))
        .route("/mutate", post(|state, request| respond(state, Endpoint::Mutate, request)))
        .merge(health())
        .layer(middleware::from_fn_with_state(app.clone(), part_gently))
        .with_state(app)
}

/// While the program ends, each connection is closed with its next answer: the API server takes another replica then,
/// and no request meets a connection that is just being closed.
async fn part_gently(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if app.readiness.ending() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Routes of the plain listener.
pub fn plain_router(app: App) -> Router {
    health().with_state(app)
}

fn health() -> Router<App> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async |State(app): State<App>| runtime::http::metrics_text(&app.registry)))
}

async fn ready(State(app): State<App>) -> Response {
    let obstacles = app.readiness.obstacles();
    if obstacles.is_empty() {
        "ok\n".into_response()
    } else {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail(obstacles.join("; ")).into_response()
    }
}

async fn respond(State(app): State<App>, endpoint: Endpoint, request: Request) -> Response {
    let span = report::span(endpoint, request.headers());
    let body = match body::read(request).await {
        Ok(body) => body,
        Err(problem) => {
            app.metrics.bad_request(body::code(&problem));
            return problem.into_response();
        }
    };
    let started = Instant::now();
    let request = match review::decode(&body.bytes) {
        Ok(request) => request,
        Err(bad) => {
            app.metrics.bad_request(bad.code());
            return Problem::new(StatusCode::BAD_REQUEST).detail(bad.to_string()).into_response();
        }
    };
    let verdict = app.decider.decide(endpoint, &request).instrument(span.clone()).await;
    report::decided(&app.metrics, endpoint, &request, &verdict, started.elapsed(), &span);
    ([(header::CONTENT_TYPE, "application/json")], answer::encode(&request.uid, &verdict)).into_response()
}

#[cfg(test)]
#[path = "handlers_tests.rs"]
mod tests;
