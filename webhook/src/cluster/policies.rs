//! Parts of admission policies that the second lock and the injection policy share.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
        ValidatingAdmissionPolicySpec, Variable,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::configurations::metadata;

/// A policy and where it acts.
#[derive(Debug, Clone, PartialEq)]
pub struct Lock {
    /// What is refused.
    pub policy: ValidatingAdmissionPolicy,
    /// Where, and what becomes of it.
    pub bindings: Vec<ValidatingAdmissionPolicyBinding>,
}

/// Refuses what it cannot evaluate.
pub(super) fn spec() -> ValidatingAdmissionPolicySpec {
    ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        ..ValidatingAdmissionPolicySpec::default()
    }
}

pub(super) fn matches(resources: &[&str], operations: &[&str], scope: &str) -> MatchResources {
    let owned = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    MatchResources {
        match_policy: Some("Equivalent".to_owned()),
        resource_rules: Some(vec![NamedRuleWithOperations {
            api_groups: owned(&[""]),
            api_versions: owned(&["v1"]),
            operations: owned(operations),
            resources: owned(resources),
            scope: Some(scope.to_owned()),
            ..NamedRuleWithOperations::default()
        }]),
        ..MatchResources::default()
    }
}

pub(super) fn condition(name: &str, expression: String) -> Vec<MatchCondition> {
    vec![MatchCondition { name: name.to_owned(), expression }]
}

pub(super) fn variables<const N: usize>(pairs: [(&str, String); N]) -> Vec<Variable> {
    pairs.map(|(name, expression)| Variable { name: name.to_owned(), expression }).into()
}

pub(super) fn policy(name: &str, spec: ValidatingAdmissionPolicySpec) -> ValidatingAdmissionPolicy {
    ValidatingAdmissionPolicy {
        metadata: metadata(name),
        spec: Some(spec),
        ..ValidatingAdmissionPolicy::default()
    }
}

pub(super) fn binding(
    policy: &str,
    name: &str,
    namespaces: Option<LabelSelector>,
    action: &str,
) -> ValidatingAdmissionPolicyBinding {
    ValidatingAdmissionPolicyBinding {
        metadata: metadata(name),
        spec: ValidatingAdmissionPolicyBindingSpec {
            match_resources: namespaces.map(|namespace_selector| MatchResources {
                namespace_selector: Some(namespace_selector),
                ..MatchResources::default()
            }),
            policy_name: policy.to_owned(),
            validation_actions: vec![action.to_owned()],
            ..ValidatingAdmissionPolicyBindingSpec::default()
        },
    }
}
