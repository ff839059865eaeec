//! The end of a program as one object: a token that SIGTERM or SIGINT cancels.

use tokio::signal::unix::{SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled when the process is asked to end (SIGTERM, SIGINT).
///
/// Must be called inside a tokio runtime. Where a handler cannot be installed the reason is logged, and that signal keeps
/// its default action, which ends the process too.
pub fn signal() -> CancellationToken {
    let token = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match listen(kind) {
            Ok(mut signals) => {
                let token = token.clone();
                tokio::spawn(async move {
                    signals.recv().await;
                    tracing::info!(signal = kind.as_raw_value(), "asked to end");
                    token.cancel();
                });
            }
            Err(error) => tracing::error!(%error, signal = kind.as_raw_value(), "no handler for this signal"),
        }
    }
    token
}
