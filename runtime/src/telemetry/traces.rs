//! Traces by OTLP: `tracing`'s spans as OpenTelemetry spans, with the caller's trace context.
//!
//! Off unless the standard variables name an endpoint; a span then costs one comparison. Everything else is set by the
//! standard variables too: `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_*`, `OTEL_RESOURCE_ATTRIBUTES`.

use std::{env, time::Duration};

use axum::http::HeaderMap;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Where traces go; unset or empty means nowhere.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// How long the end of the program waits for the last spans.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// What takes the spans, and what sends the last of them.
pub type Spans<S> = (OpenTelemetryLayer<S, SdkTracer>, Ending);

/// Sends what is left when it is dropped.
pub struct Ending(SdkTracerProvider);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(END_TIME_MAX) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The layer that sends spans, where the variables ask for one. The error is for the log: traces are never worth a stop.
pub fn layer<S>(service: &'static str) -> Result<Option<Spans<S>>, String>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    if !wanted(|name| env::var(name).ok()) {
        return Ok(None);
    }
    // The exporter may speak TLS, and this runs before anything else installs the provider.
    crate::crypto::install();
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_http().build().map_err(|error| error.to_string())?;
    let resource = Resource::builder();
    let resource = if env::var_os("OTEL_SERVICE_NAME").is_some() {
        resource
    } else {
        resource.with_service_name(service)
    };
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let layer = OpenTelemetryLayer::new(provider.tracer(service)).with_threads(false).with_location(false);
    Ok(Some((layer, Ending(provider))))
}

fn wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name, value: &str| variable(name).is_some_and(|set| set.trim().eq_ignore_ascii_case(value));
    ENDPOINTS.iter().any(|name| variable(name).is_some_and(|endpoint| !endpoint.trim().is_empty()))
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

/// Makes `span` a child of the caller's, whose W3C trace context came in these headers.
pub fn follow(span: &Span, headers: &HeaderMap) {
    if !span.is_disabled() {
        let caller = TraceContextPropagator::new().extract(&Headers(headers));
        // Refused only for a span that has begun, which costs the connection of two traces.
        let _ = span.set_parent(caller);
    }
}

/// The id of the trace that `span` is sent with; nothing if it is not sent.
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then(|| context.trace_id().to_string())
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const CALLER: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn traces_are_sent_only_where_an_endpoint_is_set() {
        let with = |pairs: &'static [(&str, &str)]| {
            wanted(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(!with(&[]));
        assert!(!with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]));
        assert!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")]));
        assert!(with(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")]));
        assert!(!with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_SDK_DISABLED", "true")]));
        assert!(!with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_TRACES_EXPORTER", "none")]));
    }

    #[test]
    fn a_span_goes_on_with_the_callers_trace() {
        let provider = SdkTracerProvider::builder().build();
        let layer = OpenTelemetryLayer::new(provider.tracer("test"));
        let headers = |flags: &str| {
            let text = format!("00-{CALLER}-b7ad6b7169203331-{flags}");
            HeaderMap::from_iter([("traceparent".parse().unwrap(), text.parse().unwrap())])
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let ids = |headers| {
                let span = tracing::info_span!("review");
                follow(&span, &headers);
                trace_id(&span)
            };
            assert_eq!(ids(headers("01")).as_deref(), Some(CALLER));
            assert_eq!(ids(headers("00")), None, "the caller does not sample it");
            assert!(ids(HeaderMap::new()).is_some_and(|id| id != CALLER && id.len() == 32));
        });
        assert_eq!(trace_id(&tracing::info_span!("without a layer")), None);
    }
}
