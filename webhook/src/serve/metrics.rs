//! Metrics, with labels from closed sets only.

use std::time::{Duration, SystemTime};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, exemplar::HistogramWithExemplars, family::Family},
    registry::Registry,
};

/// Upper bounds in seconds: from a decision in hand to the API server's time limit.
const BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    endpoint: &'static str,
    allowed: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bad {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Where {
    endpoint: &'static str,
}

/// The label of an exemplar: a review whose trace was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trace {
    trace_id: String,
}

/// The registry that every part of the webhook registers its own metrics in, before it is served.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("agent_ready_webhook");
    runtime::telemetry::register(&mut registry);
    registry
}

/// Metrics of the listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    decisions: Family<Decision, Counter>,
    bad_requests: Family<Bad, Counter>,
    seconds: Family<Where, HistogramWithExemplars<Trace>, fn() -> HistogramWithExemplars<Trace>>,
}

fn histogram() -> HistogramWithExemplars<Trace> {
    HistogramWithExemplars::new(BUCKETS.into_iter())
}

impl Metrics {
    /// Metrics in this registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            decisions: Family::default(),
            bad_requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
        };
        registry.register(
            "decisions",
            "Reviews decided, by endpoint, verdict and reason",
            metrics.decisions.clone(),
        );
        registry.register(
            "bad_requests",
            "Requests that were no review, by reason",
            metrics.bad_requests.clone(),
        );
        registry.register("review_seconds", "From the body read to the answer", metrics.seconds.clone());
        metrics
    }

    /// Counts a decision; one that belongs to a trace becomes the exemplar of its bucket.
    pub fn decided(
        &self,
        endpoint: &'static str,
        allowed: bool,
        reason: &'static str,
        took: Duration,
        trace_id: Option<String>,
    ) {
        let allowed = if allowed { "true" } else { "false" };
        self.decisions.get_or_create(&Decision { endpoint, allowed, reason }).inc();
        self.seconds.get_or_create(&Where { endpoint }).observe(
            took.as_secs_f64(),
            trace_id.map(|trace_id| Trace { trace_id }),
            Some(SystemTime::now()),
        );
    }

    /// Counts a request that was no review.
    pub fn bad_request(&self, reason: &'static str) {
        self.bad_requests.get_or_create(&Bad { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_traced_review_is_the_exemplar_of_its_bucket() {
        let mut registry = registry();
        let metrics = Metrics::register(&mut registry);
        let took = Duration::from_micros(300);
        metrics.decided("validate", false, "not-ready", took, None);
        metrics.decided("validate", false, "not-ready", took, Some("0af7651916cd43dd".to_owned()));
        let text = text(&registry);
        let bucket = text.lines().find(|line| line.contains(r#"le="0.0005""#)).unwrap();
        assert!(bucket.contains(r#"} 2 # {trace_id="0af7651916cd43dd"} 0.0003 "#), "{bucket}");
        assert!(text.contains(
            r#"agent_ready_webhook_decisions_total{endpoint="validate",allowed="false",reason="not-ready"} 2"#
        ));
    }
}
