//! The entries of hold mode: one adds our scheduling gate to pods, one keeps everybody else from taking it off.

use contract::names;
use k8s_openapi::{
    api::admissionregistration::v1::{MatchCondition, MutatingWebhook, ValidatingWebhook},
    apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};

use crate::{
    admission::gate::Mode,
    cluster::{
        cel,
        configurations::{requirement, rule, selector},
    },
};

/// The entries' name, one in each configuration.
pub const NAME: &str = "pods.hold.agent-ready.io";

/// Adds the gate. `base` has our address and fails closed: without an answer the pod would be refused by the gate's own
/// entry, with a less useful message.
pub fn add(
    base: MutatingWebhook,
    not_exempt: LabelSelectorRequirement,
    default_mode: Mode,
) -> MutatingWebhook {
    let mode = if default_mode == Mode::Hold {
        requirement(names::MODE_LABEL, "NotIn", &["deny", "warn", "audit", "exempt"])
    } else {
        requirement(names::MODE_LABEL, "In", &["hold"])
    };
    let terms = vec![requirement(names::GATE_LABEL, "NotIn", &[names::GATE_OPEN]), mode, not_exempt];
    MutatingWebhook {
        namespace_selector: Some(selector(terms)),
        // Another webhook may take it off after us; then we are asked once more.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(vec![rule(&["pods"], &["CREATE"], "Namespaced")]),
        ..base
    }
}

/// Keeps it on. In every namespace, ready ones too: a pod that was held has not passed its second admission before our own
/// account takes the gate off. Only a request that takes it off comes here, so that all other changes of pods go on when
/// nobody answers; our own account asks nobody.
pub fn keep(base: ValidatingWebhook, release_account: &str) -> ValidatingWebhook {
    let condition = |name: &str, expression: String| MatchCondition { name: name.to_owned(), expression };
    ValidatingWebhook {
        match_conditions: Some(vec![
            condition("takes-our-gate-off", format!("{} && !{}", has_gate("oldObject"), has_gate("object"))),
            condition(
                "not-by-the-release-controller",
                format!("request.userInfo.username != {}", cel::string(release_account)),
            ),
        ]),
        rules: Some(vec![rule(&["pods"], &["UPDATE"], "Namespaced")]),
        ..base
    }
}

/// CEL: whether the pod carries our gate.
fn has_gate(object: &str) -> String {
    format!("{object}.spec.?schedulingGates.orValue([]).exists(gate, gate.name == '{}')", names::HOLD_GATE)
}
