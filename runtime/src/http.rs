//! Plain HTTP servers that drain, and the metrics answer.

use std::{io, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;

/// How long requests that are under way at shutdown may take; connections still open then are cut.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Serves `router` until `stop` is cancelled: then accepts no more, and lets running requests end within [`DRAIN_MAX`].
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    serve_within(listener, router, stop, DRAIN_MAX).await
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    drain_max: Duration,
) -> io::Result<()> {
    use axum::serve::ListenerExt;
    // Small answers must not wait for Nagle's algorithm.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(drain_max).await;
    };
    tokio::select! {
        ended = async { server.await } => ended,
        () = overdue => {
            tracing::warn!("requests still running after the drain time were cut");
            Ok(())
        }
    }
}

/// The registry's metrics in the OpenMetrics text format, as an answer.
pub fn metrics_text(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn start(
        wait: Duration,
        drain_max: Duration,
    ) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
        let handler = move || async move {
            tokio::time::sleep(wait).await;
            "done"
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/", get(handler));
        (address, stop.clone(), tokio::spawn(serve_within(listener, router, stop, drain_max)))
    }

    #[tokio::test]
    async fn a_running_request_ends_before_the_server_does() {
        let (address, stop, server) = start(Duration::from_millis(100), Duration::from_secs(5)).await;
        let asked = tokio::spawn(ask(address));
        tokio::time::sleep(Duration::from_millis(30)).await;
        stop.cancel();
        assert!(asked.await.unwrap().ends_with("done"));
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_request_without_end_does_not_hold_the_server() {
        let (address, stop, server) = start(Duration::from_mins(1), Duration::from_millis(50)).await;
        let asked = tokio::spawn(ask(address));
        tokio::time::sleep(Duration::from_millis(30)).await;
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
        asked.abort();
    }

    #[test]
    fn metrics_are_openmetrics_text() {
        let response = metrics_text(&Registry::default());
        assert!(
            response.headers()[header::CONTENT_TYPE]
                .to_str()
                .unwrap()
                .starts_with("application/openmetrics-text")
        );
    }
}
