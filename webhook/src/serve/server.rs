//! The two listeners, from accept to drain.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum_server::{Handle, tls_rustls::RustlsConfig};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::handlers::{App, plain_router, router};

/// How long running requests may take after the end of accepting.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long a TLS handshake, or the head of a request, may take.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// The HTTPS listener's certificate, replaceable while it serves.
#[derive(Clone)]
pub struct Certificate(RustlsConfig);

impl Certificate {
    /// Starts with this configuration.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(RustlsConfig::from_config(config))
    }

    /// New connections get this one; running ones are not touched.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.0.reload_from_config(config);
    }
}

/// Serves reviews on `listener` until `stop`, then drains.
pub async fn serve(
    listener: std::net::TcpListener,
    certificate: Certificate,
    app: App,
    stop: CancellationToken,
) -> io::Result<()> {
    let handle: Handle<SocketAddr> = Handle::new();
    let ending = handle.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        ending.graceful_shutdown(Some(DRAIN_MAX));
    });
    listener.set_nonblocking(true)?;
    let mut server = axum_server::from_tcp_rustls(listener, certificate.0)?.handle(handle).http1_only();
    server.http_builder().http1().header_read_timeout(HEAD_TIME_MAX);
    server.serve(router(app).into_make_service()).await
}

/// Serves health and metrics without TLS until `stop`.
pub async fn serve_plain(listener: TcpListener, app: App, stop: CancellationToken) -> io::Result<()> {
    runtime::http::serve(listener, plain_router(app), stop).await
}
