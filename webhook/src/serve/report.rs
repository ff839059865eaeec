//! What is told about a decision: a metric, a line in the log, a span of the caller's trace.

use std::time::Duration;

use axum::http::HeaderMap;
use runtime::telemetry::traces;
use tracing::{Span, field::Empty};

use super::{decide::Endpoint, metrics::Metrics};
use crate::admission::{answer::Verdict, review::Request};

/// The span of a review, in the trace that the API server asks within. Not made unless traces are sent.
pub fn span(endpoint: Endpoint, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        "review",
        otel.kind = "server",
        otel.status_code = Empty,
        endpoint = endpoint.name(),
        uid = Empty,
        operation = Empty,
        resource = Empty,
        subresource = Empty,
        namespace = Empty,
        allowed = Empty,
        reason = Empty,
    );
    traces::follow(&span, headers);
    span
}

/// Tells of a decision: counts it, completes its span and, for a refusal or a use of break-glass, writes one line.
pub fn decided(
    metrics: &Metrics,
    endpoint: Endpoint,
    request: &Request<'_>,
    verdict: &Verdict,
    took: Duration,
    span: &Span,
) {
    let trace_id = traces::trace_id(span);
    if !span.is_disabled() {
        complete(span, request, verdict);
    }
    log(endpoint, request, verdict, trace_id.as_deref());
    metrics.decided(endpoint.name(), verdict.allowed(), verdict.reason, took, trace_id);
}

fn complete(span: &Span, request: &Request<'_>, verdict: &Verdict) {
    span.record("uid", request.uid.as_str());
    span.record("operation", tracing::field::debug(request.operation));
    span.record("resource", request.resource.resource.as_str());
    span.record("subresource", request.subresource());
    span.record("namespace", request.namespace());
    span.record("allowed", verdict.allowed());
    span.record("reason", verdict.reason);
    // A refusal is an answer, not a failure of ours; what could not be read is one.
    if verdict.reason == crate::admission::refusal::Refusal::UNKNOWN_STATE {
        span.record("otel.status_code", "ERROR");
    }
}

/// One line a refusal, and one for each use of break-glass; admitted reviews are counted only.
fn log(endpoint: Endpoint, request: &Request<'_>, verdict: &Verdict, trace_id: Option<&str>) {
    let message = match &verdict.refusal {
        Some(refusal) => refusal.message.as_str(),
        None if verdict.reason == "break-glass" => "break-glass was used",
        None => return,
    };
    tracing::info!(
        endpoint = endpoint.name(),
        uid = request.uid.as_str(),
        allowed = verdict.allowed(),
        reason = verdict.reason,
        operation = ?request.operation,
        resource = request.resource.resource.as_str(),
        subresource = request.subresource(),
        namespace = request.namespace(),
        name = request.name(),
        user = request.user_info.username.as_str(),
        dry_run = request.dry_run == Some(true),
        trace_id,
        "{message}"
    );
}
