//! The config sidecar: serves a tenant's configuration on localhost and follows changes.
//!
//! `feed` hears from Redis that something changed, `source` reads from PostgreSQL what it is, `store` decides what is
//! newer, `sync` ties them together, `serve` answers the pod. Arrows point from `sync` and `serve` to `shared` and
//! `store`; `store`, `sync::agenda` and `feed::inbox` are decisions without I/O.

pub mod credentials;
pub mod duration;
pub mod feed;
pub mod metrics;
pub mod serve;
pub mod settings;
pub mod shared;
pub mod source;
pub mod store;
pub mod sync;

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{credentials::Credentials, feed::inbox::Inbox, metrics::Metrics, shared::Shared};

/// Runs the sidecar until `stop` is cancelled.
///
/// # Errors
/// Settings that do not fit together, credentials that cannot be read at the start, an address that is taken.
pub async fn run(settings: settings::Serve, stop: CancellationToken) -> anyhow::Result<()> {
    settings.check()?;
    let organization = Credentials::read(&settings.credentials_dir).context("credentials")?.organization;
    let listener = TcpListener::bind(settings.listen).await.with_context(|| settings.listen.to_string())?;
    let pod_listener =
        TcpListener::bind(settings.pod_listen).await.with_context(|| settings.pod_listen.to_string())?;
    tracing::info!(%organization, listen = %settings.listen, pod_listen = %settings.pod_listen, "serving");

    let shared = Arc::new(Shared::new(organization));
    let metrics = Arc::new(Metrics::new(&shared));
    let inbox = Arc::new(Inbox::default());
    let app = serve::App::new(shared.clone(), metrics.clone(), stop.clone());

    let feed = feed::follow(feed::Options::from(&settings), inbox.clone(), shared.clone(), stop.clone());
    let sync = sync::run(sync::Options::from(&settings), inbox, shared, metrics, stop.clone());
    // In one task: a panic in any part ends the program, which is better than serving old values without a word.
    let (local, pod, (), ()) = tokio::join!(
        runtime::http::serve(listener, serve::local_router(app.clone()), stop.clone()),
        runtime::http::serve(pod_listener, serve::pod_router(app), stop),
        feed,
        sync,
    );
    local.context("local listener")?;
    pod.context("pod listener")
}
