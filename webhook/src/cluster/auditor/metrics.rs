//! Findings as metrics: by kind, never by namespace or pod.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::state::Proof;
use crate::audit::Kind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Found {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    what: &'static str,
    outcome: &'static str,
}

/// Metrics of the audit.
#[derive(Debug, Clone)]
pub struct Metrics {
    findings: Family<Found, Gauge<i64, AtomicI64>>,
    proofs: Family<Outcome, Counter>,
    writes: Family<Written, Counter>,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { findings: Family::default(), proofs: Family::default(), writes: Family::default() };
        for kind in Kind::ALL {
            // Each is there from the start, so that an alert sees a 0 and not nothing.
            drop(metrics.findings.get_or_create(&Found { kind: kind.code() }));
        }
        registry.register("audit_findings", "What the audit finds now, by kind", metrics.findings.clone());
        registry.register("audit_proofs", "Proofs made by the audit, by outcome", metrics.proofs.clone());
        registry.register(
            "audit_writes",
            "Events and policy reports, by what and outcome",
            metrics.writes.clone(),
        );
        metrics
    }

    /// The counts of one namespace changed.
    pub fn found(&self, before: &[u32; Kind::ALL.len()], after: &[u32; Kind::ALL.len()]) {
        for ((kind, before), after) in Kind::ALL.iter().zip(before).zip(after) {
            if before != after {
                self.findings
                    .get_or_create(&Found { kind: kind.code() })
                    .inc_by(i64::from(*after) - i64::from(*before));
            }
        }
    }

    /// How many findings of a kind there are.
    pub fn count(&self, kind: Kind) -> i64 {
        self.findings.get_or_create(&Found { kind: kind.code() }).get()
    }

    /// A proof was made.
    pub fn proved(&self, proof: &Proof) {
        let outcome = match proof {
            Ok(defects) if defects.is_empty() => "proved",
            Ok(_) => "defects",
            Err(_) => "unreadable",
        };
        self.proofs.get_or_create(&Outcome { outcome }).inc();
    }

    /// An Event or a report was written, was there already, or could not be written.
    pub fn wrote(&self, what: &'static str, outcome: &'static str) {
        self.writes.get_or_create(&Written { what, outcome }).inc();
    }
}
