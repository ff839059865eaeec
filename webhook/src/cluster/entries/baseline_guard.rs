//! The entry of the baseline guard: which writes in tenants' namespaces the API server asks about.
//!
//! Nobody else's: the selector keeps namespaces without an organization away, the conditions keep away whoever the guard
//! never hinders, and the tenants' own bindings and policies that cannot touch the proof. Those writes go on while no
//! webhook answers; namespaces are emptied and pods are counted in their quota then too.

use contract::names;
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations, ValidatingWebhook};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::{admission::baseline_guard::KUBERNETES, cluster::cel};

/// The entry's name.
pub const NAME: &str = "baseline.guard.agent-ready.io";

/// Adds to an entry with our address, which fails closed, what makes it the baseline guard's.
pub fn entry(
    base: ValidatingWebhook,
    not_exempt: LabelSelectorRequirement,
    label_writers: &[String],
) -> ValidatingWebhook {
    let tenants = LabelSelectorRequirement {
        key: names::ORGANIZATION_LABEL.to_owned(),
        operator: "Exists".to_owned(),
        values: None,
    };
    let rules = vec![
        // More limits never weaken a baseline: the creation of a ResourceQuota or LimitRange asks nobody.
        rule("", &["limitranges", "resourcequotas"], &["UPDATE", "DELETE"]),
        rule("", &["resourcequotas/status"], &["UPDATE"]),
        rule("networking.k8s.io", &["networkpolicies"], &["CREATE", "UPDATE", "DELETE"]),
        rule("rbac.authorization.k8s.io", &["rolebindings"], &["CREATE", "UPDATE", "DELETE"]),
    ];
    let condition = |name: &str, expression: String| MatchCondition { name: name.to_owned(), expression };
    ValidatingWebhook {
        namespace_selector: Some(LabelSelector {
            match_expressions: Some(vec![tenants, not_exempt]),
            match_labels: None,
        }),
        match_conditions: Some(vec![
            condition("not-by-kubernetes", not_by(&KUBERNETES)),
            condition("not-by-a-label-writer", not_by(label_writers)),
            condition("could-weaken-the-baseline", could_weaken()),
        ]),
        rules: Some(rules),
        ..base
    }
}

fn rule(group: &str, resources: &[&str], operations: &[&str]) -> RuleWithOperations {
    let owned = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&["v1"]),
        operations: owned(operations),
        resources: owned(resources),
        scope: Some("Namespaced".to_owned()),
    }
}

/// CEL: the user is none of these.
fn not_by(users: &[impl AsRef<str>]) -> String {
    format!("!(request.userInfo.username in {})", cel::strings(users))
}

/// CEL: whether the write could make the proof fail. Must hold for every write that
/// [`crate::admission::baseline_guard`] would refuse; evaluation never fails, for a failure refuses the request.
///
/// A binding can do so if it was one of the owner's role, or is for everybody; a policy if it was one of all pods, as the
/// default-deny is, or names others than pods of its own namespace.
fn could_weaken() -> String {
    let everybody = "object.?subjects.orValue([]).exists(s, s.name in ['system:authenticated', \
                     'system:unauthenticated', 'system:serviceaccounts', 'system:anonymous'])";
    let binding = format!(
        "(oldObject != null && oldObject.roleRef.name == '{}') || (object != null && {everybody})",
        names::OWNER_ROLE
    );
    let of_all_pods = "oldObject.?spec.?podSelector.?matchLabels.orValue({}).size() == 0 && \
                       oldObject.?spec.?podSelector.?matchExpressions.orValue([]).size() == 0";
    let wide = |rules: &str, peers: &str| {
        format!(
            "object.?spec.?{rules}.orValue([]).exists(r, r[?'{peers}'].orValue([]).size() == 0 || \
             r[?'{peers}'].orValue([]).exists(p, has(p.ipBlock) || has(p.namespaceSelector)))"
        )
    };
    let policy = format!(
        "(oldObject != null && {of_all_pods}) || (object != null && ({} || {}))",
        wide("ingress", "from"),
        wide("egress", "to")
    );
    format!(
        "request.resource.resource == 'rolebindings' ? ({binding}) : request.resource.resource == 'networkpolicies' ? \
         ({policy}) : true"
    )
}
