//! The routes: reviews on HTTPS, health and metrics on both listeners.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
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

/// What the routes share; cheap to clone, for every request does.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    decider: Decider,
    metrics: Metrics,
    registry: Registry,
    readiness: Readiness,
}

impl App {
    /// An application that is ready when `readiness` says so; every part has its metrics in `registry` already.
    pub fn new(decider: Decider, metrics: Metrics, registry: Registry, readiness: Readiness) -> Self {
        Self(Arc::new(Inner { decider, metrics, registry, readiness }))
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
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
        .with_state(app)
}

/// Routes of the plain listener.
pub fn plain_router(app: App) -> Router {
    health().with_state(app)
}

fn health() -> Router<App> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async |State(app): State<App>| runtime::http::metrics_text(&app.0.registry)))
}

async fn ready(State(app): State<App>) -> Response {
    let obstacles = app.0.readiness.obstacles();
    if obstacles.is_empty() {
        "ok\n".into_response()
    } else {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail(obstacles.join("; ")).into_response()
    }
}

async fn respond(State(app): State<App>, endpoint: Endpoint, request: Request) -> Response {
    let mut response = match review(&app.0, endpoint, request).await {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(problem) => problem.into_response(),
    };
    // While the program ends, each connection is closed with its next answer: the API server takes another replica then,
    // and no request meets a connection that is just being closed.
    if app.0.readiness.ending() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn review(app: &Inner, endpoint: Endpoint, request: Request) -> Result<Vec<u8>, Problem> {
    let span = report::span(endpoint, request.headers());
    let body =
        body::read(request).await.inspect_err(|problem| app.metrics.bad_request(body::code(problem)))?;
    let started = Instant::now();
    let request = review::decode(&body.bytes).map_err(|bad| {
        app.metrics.bad_request(bad.code());
        Problem::new(StatusCode::BAD_REQUEST).detail(bad.to_string())
    })?;
    let verdict = app.decider.decide(endpoint, &request).instrument(span.clone()).await;
    report::decided(&app.metrics, endpoint, &request, &verdict, started.elapsed(), &span);
    Ok(answer::encode(&request.uid, &verdict))
}

#[cfg(test)]
#[path = "handlers_tests.rs"]
mod tests;
