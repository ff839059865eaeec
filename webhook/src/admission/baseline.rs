//! The objects of a namespace that its isolation rests on, and what a write would make of them.

use std::collections::BTreeMap;

use contract::proof::{Defect, Observed, prove};
use k8s_openapi::api::{
    core::v1::{LimitRange, ResourceQuota},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use serde_json::value::RawValue;

/// A namespace and its baseline, as a live read found them.
#[derive(Debug, Clone, Default)]
pub struct Tenant {
    /// The namespace's labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its deletion has begun.
    pub terminating: bool,
    /// What lies in it.
    pub baseline: Baseline,
}

/// All objects of the four kinds in one namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Baseline {
    /// NetworkPolicies.
    pub network_policies: Vec<NetworkPolicy>,
    /// ResourceQuotas.
    pub resource_quotas: Vec<ResourceQuota>,
    /// RoleBindings.
    pub role_bindings: Vec<RoleBinding>,
    /// LimitRanges.
    pub limit_ranges: Vec<LimitRange>,
}

/// One object of the baseline.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A NetworkPolicy.
    NetworkPolicy(Box<NetworkPolicy>),
    /// A ResourceQuota.
    ResourceQuota(Box<ResourceQuota>),
    /// A RoleBinding.
    RoleBinding(Box<RoleBinding>),
    /// A LimitRange.
    LimitRange(Box<LimitRange>),
}

/// A write of one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Made or replaced.
    Put(Object),
    /// Deleted.
    Delete(Object),
}

impl Baseline {
    /// What the proof finds missing for a namespace with these labels and annotations.
    pub fn prove(
        &self,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Vec<Defect> {
        prove(&Observed {
            labels,
            annotations,
            network_policies: &self.network_policies,
            resource_quotas: &self.resource_quotas,
            role_bindings: &self.role_bindings,
            limit_ranges: &self.limit_ranges,
        })
    }

    /// The baseline after the write.
    #[must_use]
    pub fn after(mut self, write: Write) -> Self {
        let (object, put) = match write {
            Write::Put(object) => (object, true),
            Write::Delete(object) => (object, false),
        };
        match object {
            Object::NetworkPolicy(object) => write_one(&mut self.network_policies, *object, put),
            Object::ResourceQuota(object) => write_one(&mut self.resource_quotas, *object, put),
            Object::RoleBinding(object) => write_one(&mut self.role_bindings, *object, put),
            Object::LimitRange(object) => write_one(&mut self.limit_ranges, *object, put),
        }
        self
    }
}

fn write_one<K: k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>>(
    objects: &mut Vec<K>,
    object: K,
    put: bool,
) {
    objects.retain(|present| present.metadata().name != object.metadata().name);
    if put {
        objects.push(object);
    }
}

impl Object {
    /// Reads an object of the review. None for a kind that is no part of a baseline.
    pub fn read(group: &str, resource: &str, raw: &RawValue) -> Option<Result<Self, serde_json::Error>> {
        let text = raw.get();
        Some(match (group, resource) {
            ("networking.k8s.io", "networkpolicies") => serde_json::from_str(text).map(Self::NetworkPolicy),
            ("", "resourcequotas") => serde_json::from_str(text).map(Self::ResourceQuota),
            ("rbac.authorization.k8s.io", "rolebindings") => {
                serde_json::from_str(text).map(Self::RoleBinding)
            }
            ("", "limitranges") => serde_json::from_str(text).map(Self::LimitRange),
            _ => return None,
        })
    }

    /// Its name; none where the server has made none yet.
    pub fn name(&self) -> Option<&str> {
        let metadata = match self {
            Self::NetworkPolicy(object) => &object.metadata,
            Self::ResourceQuota(object) => &object.metadata,
            Self::RoleBinding(object) => &object.metadata,
            Self::LimitRange(object) => &object.metadata,
        };
        metadata.name.as_deref().filter(|name| !name.is_empty())
    }

    /// Its kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NetworkPolicy(_) => "NetworkPolicy",
            Self::ResourceQuota(_) => "ResourceQuota",
            Self::RoleBinding(_) => "RoleBinding",
            Self::LimitRange(_) => "LimitRange",
        }
    }
}
