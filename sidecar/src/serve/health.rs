//! Probes, metrics and `/status`.

use std::{collections::BTreeMap, time::Instant};

use axum::{Json, extract::State, response::Response};
use runtime::problem::Problem;
use serde_json::{Value, json};

use super::App;
use crate::shared::Link;

/// `GET /healthz`: the one thread of the program answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: all values were loaded once. Outages after that do not count: the last good values are served.
pub(super) async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    app.snapshot().map(|_| "ok\n")
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<App>) -> Response {
    runtime::http::metrics_text(&app.metrics.registry)
}

/// `GET /status`: how old the values are, which versions, and how the connections do.
pub(super) async fn status(State(app): State<App>) -> Json<Value> {
    let (now, health, snapshot) = (Instant::now(), app.shared.health().clone(), app.shared.snapshot());
    let ready = snapshot.is_some();
    let snapshot = snapshot.unwrap_or_default();
    let mut versions: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for entry in snapshot.entries().iter().filter(|entry| entry.document.is_some()) {
        versions.entry(entry.service.as_str()).or_default().insert(entry.key.as_str(), entry.version);
    }
    Json(json!({
        "organization": app.shared.organization,
        "ready": ready,
        "epoch": snapshot.position.epoch,
        "revision": snapshot.position.revision,
        "age_seconds": health.age(now).map(|age| age.as_secs_f64()),
        "staleness_seconds": health.staleness(now).as_secs_f64(),
        "versions": versions,
        "connections": {"postgresql": link(&health.source, now), "redis": link(&health.feed, now)},
    }))
}

fn link(link: &Link, now: Instant) -> Value {
    json!({
        "up": link.up,
        "last_success_seconds_ago": link.last_success.map(|at| now.saturating_duration_since(at).as_secs_f64()),
        "reconnects": link.reconnects,
        "error": link.error,
    })
}
