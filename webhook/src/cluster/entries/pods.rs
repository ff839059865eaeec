//! The entries for pods that are made in namespaces that are not ready: the gate, which refuses, and the report, which cannot.

use contract::names;
use k8s_openapi::{
    api::admissionregistration::v1::ValidatingWebhook,
    apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};

use crate::{
    admission::gate::Mode,
    cluster::configurations::{exists, requirement, rule, selector},
};

/// The gate's entry.
pub const GATE: &str = "pods.gate.agent-ready.io";
/// The report's entry.
pub const REPORT: &str = "pods.report.agent-ready.io";
/// Seconds that the API server waits for a report, which it does without if need be.
const REPORT_SECONDS: i32 = 2;

/// Modes in which a pod is never refused for want of an answer.
const LENIENT: [&str; 2] = ["warn", "audit"];

/// The gate: it fails closed. `base` has our address.
///
/// Namespaces whose label names a mode that nobody knows are its too. Where `default_mode` only reports, namespaces
/// without the label are not.
pub fn gate(
    base: ValidatingWebhook,
    not_exempt: LabelSelectorRequirement,
    default_mode: Mode,
) -> ValidatingWebhook {
    let mut terms = vec![
        // The API server's own selector keeps the pods of ready namespaces from ever calling here.
        requirement(names::GATE_LABEL, "NotIn", &[names::GATE_OPEN]),
        requirement(names::MODE_LABEL, "NotIn", &["exempt", LENIENT[0], LENIENT[1]]),
        not_exempt,
    ];
    if default_mode.only_reports() {
        terms.push(exists(names::MODE_LABEL));
    }
    ValidatingWebhook {
        namespace_selector: Some(selector(terms)),
        rules: Some(vec![rule(&["pods"], &["CREATE"], "Namespaced")]),
        ..base
    }
}

/// The report: pods start when nobody answers.
pub fn report(
    base: ValidatingWebhook,
    not_exempt: LabelSelectorRequirement,
    default_mode: Mode,
) -> ValidatingWebhook {
    let mode = if default_mode.only_reports() {
        // Those without the label, and those that ask for it. A value that nobody knows is refused by the gate.
        requirement(names::MODE_LABEL, "NotIn", &["exempt", "deny", "hold"])
    } else {
        requirement(names::MODE_LABEL, "In", &LENIENT)
    };
    let terms = vec![requirement(names::GATE_LABEL, "NotIn", &[names::GATE_OPEN]), mode, not_exempt];
    ValidatingWebhook {
        failure_policy: Some("Ignore".to_owned()),
        namespace_selector: Some(selector(terms)),
        rules: Some(vec![rule(&["pods"], &["CREATE"], "Namespaced")]),
        timeout_seconds: Some(REPORT_SECONDS),
        ..base
    }
}
