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
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{OrganizationId, names};

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
    /// The organization's label is missing or is no UUID: nothing says whose namespace it is.
    Organization(Option<String>),
    /// This object would do, but Kubernetes is to delete it: it has an owner or is being deleted already.
    Passing(String),
}

/// The part of the baseline that a defect is of; while one part is repaired its defects differ, the part does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Denied ingress.
    Ingress,
    /// Denied egress.
    Egress,
    /// An opening beside the baseline, by its defect.
    Beside(Defect),
    /// The quota and its annotation.
    Quota,
    /// The owner's binding and its annotation.
    Owner,
    /// The limits.
    Limits,
    /// Pod Security.
    PodSecurity,
    /// Whose namespace it is.
    Organization,
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
            Self::Organization(_) => "organization-label",
            Self::Passing(_) => "passing",
        }
    }

    /// The part of the baseline that it is of; none for what only explains another defect.
    pub fn part(&self) -> Option<Part> {
        Some(match self {
            Self::IngressNotDenied => Part::Ingress,
            Self::EgressNotDenied => Part::Egress,
            Self::OpenNetworkPolicy(_) | Self::BindingForEverybody(_) => Part::Beside(self.clone()),
            Self::QuotaAnnotation(_) | Self::QuotaMissing(_) | Self::QuotaNotEnforced(_) => Part::Quota,
            Self::OwnerAnnotation(_) | Self::OwnerNotBound(_) => Part::Owner,
            Self::LimitRangeMissing => Part::Limits,
            Self::PodSecurity(_) => Part::PodSecurity,
            Self::Organization(_) => Part::Organization,
            Self::Passing(_) => return None,
        })
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
            Self::Organization(None) => write!(f, "label {} is missing", names::ORGANIZATION_LABEL),
            Self::Organization(Some(other)) => {
                write!(f, "label {} is {other:?}, not a UUID", names::ORGANIZATION_LABEL)
            }
            Self::Passing(what) => {
                write!(f, "{what} does not count: it has an owner reference or is being deleted")
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
    examine_labels(observed.labels, &mut defects);
    defects
}

fn examine_labels(labels: &BTreeMap<String, String>, defects: &mut Vec<Defect>) {
    let enforced = labels.get(&format!("{}enforce", names::POD_SECURITY_PREFIX));
    if !matches!(enforced.map(String::as_str), Some("baseline" | "restricted")) {
        defects.push(Defect::PodSecurity(enforced.cloned()));
    }
    // The guards of the baseline select on this label.
    let organization = labels.get(names::ORGANIZATION_LABEL);
    if organization.is_none_or(|id| id.parse::<OrganizationId>().is_err()) {
        defects.push(Defect::Organization(organization.cloned()));
    }
}

/// Whether nothing is under way to delete the object. The garbage collector deletes what has an owner when that one is
/// gone (or was never there), and asks nobody; an object with finalizers goes when the last is taken off.
fn lasts(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_none() && metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
}

/// Finds an object of this kind that will do and lasts. One that does not last is named among the defects.
fn find<'o, K: 'o>(
    kind: &str,
    objects: &'o [K],
    metadata: fn(&K) -> &ObjectMeta,
    will_do: impl Fn(&K) -> bool,
    passing: &mut Vec<Defect>,
) -> Option<&'o K> {
    let suitable = || objects.iter().filter(|object| will_do(object));
    let found = suitable().find(|object| lasts(metadata(object)));
    if let (None, Some(other)) = (found, suitable().next()) {
        let defect = Defect::Passing(format!("{kind} {}", name_of(metadata(other))));
        if !passing.contains(&defect) {
            passing.push(defect);
        }
    }
    found
}

/// Name of an object for a message.
fn name_of(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
