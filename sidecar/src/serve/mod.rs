//! HTTP: the API on localhost, the probes on the pod's address.

mod config;
mod etag;
mod events;
mod health;
mod host;
mod wait;

use std::sync::Arc;

use axum::{
    Router,
    extract::{OriginalUri, Request},
    http::{Method, StatusCode},
    middleware,
    routing::get,
};
use runtime::problem::Problem;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, shared::Shared, store::Snapshot};

/// Requests that may wait at the same time (long polls, event streams): each holds a connection and a few KiB.
const WAITING_MAX: usize = 256;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    waiting: Arc<Semaphore>,
    stop: CancellationToken,
}

impl App {
    /// The handlers' state; waiting requests end when `stop` is cancelled.
    pub fn new(shared: Arc<Shared>, metrics: Arc<Metrics>, stop: CancellationToken) -> Self {
        Self { shared, metrics, waiting: Arc::new(Semaphore::new(WAITING_MAX)), stop }
    }

    /// The values, or the problem to answer before they are loaded.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Problem> {
        self.shared.snapshot().ok_or_else(|| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("the configuration is not loaded yet")
                .header(axum::http::header::RETRY_AFTER, axum::http::HeaderValue::from_static("1"))
        })
    }

    /// A place among the waiting requests.
    fn wait(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        self.waiting.clone().try_acquire_owned().map_err(|_| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail(format!("{WAITING_MAX} requests of this pod are waiting already"))
        })
    }
}

/// The API for the pod's containers. What does not ask for a local name is refused before anything else.
pub fn local_router(app: App) -> Router {
    probes()
        .route("/status", get(health::status))
        .route("/v1/config", get(config::all))
        .route("/v1/config/{service}", get(config::service))
        .route("/v1/config/{service}/{key}", get(config::one))
        .route("/v1/events", get(events::stream))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn(host::only_local))
        .with_state(app)
}

/// Probes and metrics alone, for the kubelet and Prometheus, which come to the pod's address.
pub fn pod_router(app: App) -> Router {
    probes().fallback(not_found).method_not_allowed_fallback(not_allowed).with_state(app)
}

fn probes() -> Router<App> {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
}

async fn not_found(OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail(format!("nothing is served at {}", uri.path()))
}

async fn not_allowed(method: Method, _: Request) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED)
        .detail(format!("{method}: configuration is read here, not written"))
}

#[cfg(test)]
mod tests;
