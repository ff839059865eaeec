//! Findings as policy reports: one a namespace, in the form of whichever of the two APIs is installed.
//!
//! Source: <https://github.com/kubernetes-sigs/wg-policy-prototypes> (`wgpolicyk8s.io/v1alpha2`) and its successor
//! <https://github.com/openreports/reports-api> (`openreports.io/v1alpha1`); the fields used here are written alike in both.

use contract::names;
use serde_json::{Value, json};

use super::finding::Finding;

/// Name of each report.
pub const NAME: &str = "agent-ready-gate";
/// Results of one report; the summary counts all. etcd holds 1.5 MB an object.
const RESULTS_MAX: usize = 500;

/// An API that reports are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// API version.
    pub api_version: &'static str,
    /// Kind and plural name of a namespace's report.
    pub namespaced: (&'static str, &'static str),
    /// Kind and plural name of the cluster's report.
    pub cluster: (&'static str, &'static str),
}

/// The forms that are known, the newer first.
pub const FORMS: [Form; 2] = [
    Form {
        api_version: "openreports.io/v1alpha1",
        namespaced: ("Report", "reports"),
        cluster: ("ClusterReport", "clusterreports"),
    },
    Form {
        api_version: "wgpolicyk8s.io/v1alpha2",
        namespaced: ("PolicyReport", "policyreports"),
        cluster: ("ClusterPolicyReport", "clusterpolicyreports"),
    },
];

impl Form {
    /// Path of the report of a namespace, or of the cluster's for `""`.
    pub fn path(&self, namespace: &str) -> String {
        let Self { api_version, namespaced, cluster } = self;
        if namespace.is_empty() {
            format!("/apis/{api_version}/{}/{NAME}", cluster.1)
        } else {
            format!("/apis/{api_version}/namespaces/{namespace}/{}/{NAME}", namespaced.1)
        }
    }

    /// The report of a namespace, or of the cluster for `""`. `now` is in seconds since 1970.
    pub fn report(&self, namespace: &str, findings: &[Finding], now: i64) -> Value {
        let kind = if namespace.is_empty() { self.cluster.0 } else { self.namespaced.0 };
        let results: Vec<Value> =
            findings.iter().take(RESULTS_MAX).map(|finding| result(finding, now)).collect();
        let mut report = json!({
            "apiVersion": self.api_version, "kind": kind,
            "metadata": {"name": NAME, "labels": {names::MANAGED_BY_LABEL: names::MANAGED_BY}},
            "summary": {"pass": 0, "fail": findings.len(), "warn": 0, "error": 0, "skip": 0},
            "results": results,
        });
        if !namespace.is_empty() {
            report["metadata"]["namespace"] = json!(namespace);
            report["scope"] = json!({"apiVersion": "v1", "kind": "Namespace", "name": namespace});
        }
        if self.api_version.starts_with("openreports.io/") {
            report["source"] = json!(names::MANAGED_BY);
        }
        report
    }
}

fn result(finding: &Finding, now: i64) -> Value {
    let object = &finding.object;
    let mut resource = json!({"apiVersion": object.api_version, "kind": object.kind, "name": object.name});
    if !object.namespace.is_empty() && object.kind != "Namespace" {
        resource["namespace"] = json!(object.namespace);
    }
    if !object.uid.is_empty() {
        resource["uid"] = json!(object.uid);
    }
    json!({
        "source": names::MANAGED_BY, "policy": NAME, "rule": finding.kind.code(), "category": "Isolation",
        "severity": finding.kind.severity().name(), "result": "fail", "scored": true, "message": finding.message,
        "resources": [resource], "timestamp": {"seconds": now, "nanos": 0},
    })
}

/// Whether two reports say the same; when they were written is not asked, so that replicas agree.
pub fn same(one: &Value, other: &Value) -> bool {
    let content = |report: &Value| -> (Value, Vec<Value>) {
        let mut results = report["results"].as_array().cloned().unwrap_or_default();
        for result in &mut results {
            if let Some(fields) = result.as_object_mut() {
                fields.remove("timestamp");
            }
        }
        (report["summary"].clone(), results)
    };
    content(one) == content(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::finding::{Kind, Object};

    fn findings(count: usize) -> Vec<Finding> {
        let object = Object::namespace("shop", "uid");
        let finding =
            Finding { kind: Kind::ReadyWithoutProof, object, message: "It lacks a quota.".to_owned() };
        vec![finding; count]
    }

    #[test]
    fn a_report_is_written_alike_in_both_forms() {
        for form in FORMS {
            insta::assert_json_snapshot!(form.namespaced.0, form.report("shop", &findings(1), 1_767_225_600));
        }
        assert_eq!(
            FORMS[1].path("shop"),
            "/apis/wgpolicyk8s.io/v1alpha2/namespaces/shop/policyreports/agent-ready-gate"
        );
        assert_eq!(FORMS[0].path(""), "/apis/openreports.io/v1alpha1/clusterreports/agent-ready-gate");
    }

    #[test]
    fn the_time_alone_makes_no_other_report() {
        let form = FORMS[0];
        let (one, later) = (form.report("shop", &findings(1), 1), form.report("shop", &findings(1), 2));
        assert!(same(&one, &later));
        assert!(!same(&one, &form.report("shop", &findings(2), 1)));
        assert!(!same(&one, &form.report("shop", &[], 1)));
    }

    #[test]
    fn a_report_stays_small_and_counts_all() {
        let report = FORMS[1].report("shop", &findings(10_000), 1);
        assert_eq!(report["results"].as_array().unwrap().len(), RESULTS_MAX);
        assert_eq!(report["summary"]["fail"], 10_000);
    }
}
