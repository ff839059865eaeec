//! Metrics, with labels from closed sets only.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
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

/// The registry that every part of the webhook registers its own metrics in, before it is served.
pub fn registry() -> Registry {
    Registry::with_prefix("agent_ready_webhook")
}

/// Metrics of the listeners.
#[derive(Debug, Clone)]
pub struct Metrics {
    decisions: Family<Decision, Counter>,
    bad_requests: Family<Bad, Counter>,
    seconds: Family<Where, Histogram, fn() -> Histogram>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
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

    /// Counts a decision.
    pub fn decided(&self, endpoint: &'static str, allowed: bool, reason: &'static str, took: Duration) {
        let allowed = if allowed { "true" } else { "false" };
        self.decisions.get_or_create(&Decision { endpoint, allowed, reason }).inc();
        self.seconds.get_or_create(&Where { endpoint }).observe(took.as_secs_f64());
    }

    /// Counts a request that was no review.
    pub fn bad_request(&self, reason: &'static str) {
        self.bad_requests.get_or_create(&Bad { reason }).inc();
    }
}
