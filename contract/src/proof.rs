//! The proof that a namespace is isolated (row G5): by content, whatever the objects are called.

mod bindings;
mod policies;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;

use crate::names;

/// What was read live of one namespace.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The namespace's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The namespace's annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// All its NetworkPolicies.
    pub network_policies: &'a [NetworkPolicy],
    /// All its ResourceQuotas.
    pub resource_quotas: &'a [ResourceQuota],
    /// All its RoleBindings.
    pub role_bindings: &'a [RoleBinding],
    /// All its LimitRanges.
    pub limit_ranges: &'a [LimitRange],
}

/// One reason why a namespace is not proved isolated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// No policy denies all ingress of all pods.
    IngressNotDenied,
    /// No policy denies all egress of all pods.
    EgressNotDenied,
    /// A policy beside the default-deny opens everything to everyone.
    OpenNetworkPolicy(String),
    /// The quota annotation is missing or broken.
    QuotaAnnotation(String),
    /// No quota has every key and value of the annotation.
    QuotaMissing(String),
    /// The quota is there but not enforced yet: its status is not filled.
    QuotaNotEnforced(String),
    /// The owner annotation is missing or broken.
    OwnerAnnotation(String),
    /// No binding of the owner to the expected role.
    OwnerNotBound(String),
    /// A binding for everybody.
    BindingForEverybody(String),
    /// No LimitRange with default limits, default requests and a positive least for containers.
    LimitRangeMissing,
    /// No Pod Security level is enforced, or one that isolates nothing.
    PodSecurity(Option<String>),
}

impl Defect {
    /// A stable short name for metrics, audit annotations and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::IngressNotDenied => "ingress-not-denied",
            Self::EgressNotDenied => "egress-not-denied",
            Self::OpenNetworkPolicy(_) => "open-network-policy",
            Self::QuotaAnnotation(_) => "quota-annotation",
            Self::QuotaMissing(_) => "quota-missing",
            Self::QuotaNotEnforced(_) => "quota-not-enforced",
            Self::OwnerAnnotation(_) => "owner-annotation",
            Self::OwnerNotBound(_) => "owner-not-bound",
            Self::BindingForEverybody(_) => "binding-for-everybody",
            Self::LimitRangeMissing => "limit-range-missing",
            Self::PodSecurity(_) => "pod-security",
        }
    }

    /// Whether something lies beside the baseline and undoes it, rather than a part of it missing.
    pub fn is_opening(&self) -> bool {
        matches!(self, Self::OpenNetworkPolicy(_) | Self::BindingForEverybody(_))
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IngressNotDenied => f.write_str("no NetworkPolicy denies ingress to all pods"),
            Self::EgressNotDenied => f.write_str("no NetworkPolicy denies egress from all pods"),
            Self::OpenNetworkPolicy(name) => write!(f, "NetworkPolicy {name} allows everything to everyone"),
            Self::QuotaAnnotation(why) => write!(f, "annotation {}: {why}", names::QUOTA_ANNOTATION),
            Self::QuotaMissing(what) => write!(f, "no ResourceQuota with {what}"),
            Self::QuotaNotEnforced(name) => {
                write!(f, "ResourceQuota {name} is not enforced yet (its status is not filled)")
            }
            Self::OwnerAnnotation(why) => write!(f, "annotation {}: {why}", names::OWNER_ANNOTATION),
            Self::OwnerNotBound(owner) => {
                write!(f, "no RoleBinding of User {owner} to ClusterRole {}", names::OWNER_ROLE)
            }
            Self::BindingForEverybody(name) => write!(f, "RoleBinding {name} gives a role to everybody"),
            Self::LimitRangeMissing => {
                f.write_str("no LimitRange with default requests, limits and a positive min of cpu and memory for containers")
            }
            Self::PodSecurity(None) => {
                write!(f, "label {}enforce is missing (baseline or restricted)", names::POD_SECURITY_PREFIX)
            }
            Self::PodSecurity(Some(level)) => {
                write!(
                    f,
                    "label {}enforce is {level:?}, not baseline or restricted",
                    names::POD_SECURITY_PREFIX
                )
            }
        }
    }
}

/// Every reason why the namespace is not proved isolated, in a stable order; none means that it is.
pub fn prove(observed: &Observed<'_>) -> Vec<Defect> {
    let mut defects = Vec::new();
    policies::examine(observed.network_policies, &mut defects);
    resources::examine_quota(observed, &mut defects);
    bindings::examine(observed, &mut defects);
    resources::examine_limits(observed.limit_ranges, &mut defects);
    examine_pod_security(observed.labels, &mut defects);
    defects
}

fn examine_pod_security(labels: &BTreeMap<String, String>, defects: &mut Vec<Defect>) {
    let enforced = labels.get(&format!("{}enforce", names::POD_SECURITY_PREFIX));
    if !matches!(enforced.map(String::as_str), Some("baseline" | "restricted")) {
        defects.push(Defect::PodSecurity(enforced.cloned()));
    }
}

/// Name of an object for a message.
fn name_of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
