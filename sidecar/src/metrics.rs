//! Prometheus metrics. What the snapshot and the health know is told at scrape time, from them, and kept nowhere else.

use std::{fmt, sync::Arc, time::Instant};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    shared::{Link, Shared},
    store::Entry,
};

/// Upper bounds of the reload latency, in seconds: milliseconds are the aim, a minute is an outage.
const LATENCY_BUCKETS: [f64; 13] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

/// The registry, and the one metric that is counted as it happens.
#[derive(Debug)]
pub struct Metrics {
    /// What `/metrics` shows.
    pub registry: Registry,
    reload: Histogram,
}

impl Metrics {
    /// Registers everything.
    pub fn new(shared: &Arc<Shared>) -> Self {
        let mut registry = Registry::default();
        let reload = Histogram::new(LATENCY_BUCKETS);
        registry.register_with_unit(
            "config_reload",
            "Time from a change's write to its being served here",
            Unit::Seconds,
            reload.clone(),
        );
        registry.register_collector(Box::new(Scrape(shared.clone())));
        Self { registry, reload }
    }

    /// A change was swapped in. Clocks of two machines may differ: a negative latency counts as zero.
    pub fn reloaded(&self, entry: &Entry, now: Timestamp) {
        self.reload.observe(now.duration_since(entry.updated_at).as_secs_f64().max(0.0));
    }
}

struct Scrape(Arc<Shared>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (now, health, snapshot) = (Instant::now(), self.0.health().clone(), self.0.snapshot());
        let gauge = |encoder: &mut DescriptorEncoder, name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge(
            &mut encoder,
            "config_ready",
            "1 once all values were loaded",
            f64::from(u8::from(snapshot.is_some())),
        )?;
        if let Some(age) = health.age(now) {
            let help = "Seconds since the values were last read from PostgreSQL";
            gauge(&mut encoder, "config_age_seconds", help, age.as_secs_f64())?;
        }
        let help = "Seconds for which the values may have been out of date";
        gauge(&mut encoder, "config_staleness_seconds", help, health.staleness(now).as_secs_f64())?;
        encode_links(&mut encoder, &[("postgresql", &health.source), ("redis", &health.feed)])?;
        self.encode_versions(&mut encoder, snapshot.iter().flat_map(|snapshot| snapshot.entries()))
    }
}

impl Scrape {
    fn encode_versions<'a>(
        &self,
        encoder: &mut DescriptorEncoder,
        entries: impl Iterator<Item = &'a Arc<Entry>>,
    ) -> fmt::Result {
        let organization = self.0.organization.to_string();
        let help = "Version of each value that is served";
        let mut family = encoder.encode_descriptor("config_version", help, None, MetricType::Gauge)?;
        for entry in entries.filter(|entry| entry.document.is_some()) {
            let labels = [
                ("org_id", organization.as_str()),
                ("service", entry.service.as_str()),
                ("key", entry.key.as_str()),
            ];
            ConstGauge::new(i64::try_from(entry.version).unwrap_or(i64::MAX))
                .encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn encode_links(encoder: &mut DescriptorEncoder, links: &[(&str, &Link)]) -> fmt::Result {
    let mut up = encoder.encode_descriptor(
        "config_link_up",
        "1 while the server can be used",
        None,
        MetricType::Gauge,
    )?;
    for (peer, link) in links {
        ConstGauge::new(i64::from(link.up)).encode(up.encode_family(&[("peer", *peer)])?)?;
    }
    let help = "Connections made again after a loss";
    let mut reconnects = encoder.encode_descriptor("config_reconnects", help, None, MetricType::Counter)?;
    for (peer, link) in links {
        ConstCounter::new(link.reconnects).encode(reconnects.encode_family(&[("peer", *peer)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use serde_json::value::RawValue;

    use super::*;
    use crate::store::{Position, Row, Snapshot};

    #[test]
    fn tells_versions_latency_and_health() {
        let shared = Arc::new(Shared::new("0191f0c0-0000-7000-8000-00000000000a".parse().unwrap()));
        let metrics = Metrics::new(&shared);
        let row = |key: &str, value: Option<&str>| Row {
            service: "ai".parse().unwrap(),
            key: key.parse().unwrap(),
            value: value.map(|text| RawValue::from_string(text.into()).unwrap()),
            version: 7,
            at: Position { epoch: 1, revision: 9 },
            updated_at: Timestamp::from_second(100).unwrap(),
        };
        let snapshot =
            Snapshot::default().merge(vec![row("threshold", Some("\"secret\"")), row("gone", None)]);
        metrics.reloaded(&snapshot.entries()[1], Timestamp::from_millisecond(100_004).unwrap());
        shared.publish(snapshot);
        shared.health().feed.reconnects = 3;
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        for line in [
            r#"config_version{org_id="0191f0c0-0000-7000-8000-00000000000a",service="ai",key="threshold"} 7"#,
            r#"config_reload_seconds_bucket{le="0.002"} 0"#,
            r#"config_reload_seconds_bucket{le="0.005"} 1"#,
            r#"config_reconnects_total{peer="redis"} 3"#,
            "config_ready 1.0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("gone") && !text.contains("secret"));
    }
}
