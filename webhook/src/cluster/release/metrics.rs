//! What became of held pods, and which wait.

use std::{fmt, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    admission::release::Action,
    cluster::store::{Pod, Store},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Did {
    action: &'static str,
}

/// Metrics of the release controller.
#[derive(Debug, Clone)]
pub struct Metrics {
    actions: Family<Did, Counter>,
}

impl Metrics {
    /// Metrics in this registry; the pods that wait are counted in this store when somebody asks.
    pub fn register(pods: &Store<Pod>, registry: &mut Registry) -> Self {
        let metrics = Self { actions: Family::default() };
        registry.register(
            "held_pod_actions",
            "Held pods released, deleted to be made anew, or kept because no controller owns them",
            metrics.actions.clone(),
        );
        registry.register_collector(Box::new(Waiting(pods.clone())));
        metrics
    }

    /// Counts what was done.
    pub(super) fn did(&self, action: &Action) {
        let action = match action {
            Action::Release => "released",
            Action::Recreate(_) => "recreated",
            Action::Keep(_) => "kept",
            Action::Retry(_) => "retried",
        };
        self.actions.get_or_create(&Did { action }).inc();
    }
}

#[derive(Debug)]
struct Waiting(Store<Pod>);

impl Collector for Waiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let held: Vec<_> = self.0.all().into_iter().filter(|pod| pod.is_held()).collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let oldest = held.iter().map(|pod| now - pod.created).max().unwrap_or_default().max(0);
        let count = i64::try_from(held.len()).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("held_pods", "Pods that carry our scheduling gate", count),
            ("held_pod_oldest_age_seconds", "Age of the oldest pod that carries our scheduling gate", oldest),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
