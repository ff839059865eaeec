//! How old what is known may be, and how much it is; worked out when somebody asks.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
    registry::Registry,
};

use super::{Record, Store, Stores};

#[derive(Debug)]
struct Ages(Stores);

/// Registers the stores' metrics.
pub fn register(stores: &Stores, registry: &mut Registry) {
    registry.register_collector(Box::new(Ages(stores.clone())));
}

fn objects<R: Record>(store: &Store<R>) -> i64 {
    i64::try_from(store.len()).unwrap_or(i64::MAX)
}

impl Collector for Ages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Stores { namespaces, pods } = &self.0;
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor(
            "watch_age_seconds",
            "Seconds since the API server was heard of, by watched resource",
            None,
            kind,
        )?;
        for (resource, age) in [("namespaces", namespaces.last_heard()), ("pods", pods.last_heard())] {
            ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&[("resource", resource)])?)?;
        }
        let mut family = encoder.encode_descriptor(
            "watch_objects",
            "Objects known from the watch, by resource",
            None,
            kind,
        )?;
        for (resource, count) in [("namespaces", objects(namespaces)), ("pods", objects(pods))] {
            ConstGauge::new(count).encode(family.encode_family(&[("resource", resource)])?)?;
        }
        Ok(())
    }
}
