//! Quota, limits, binding and Secret of a tenant.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec, Secret,
};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Tenant, metadata};
use crate::names::{self, credentials};
use crate::owner::RBAC_GROUP;

/// ResourceQuota `tenant-quota`.
pub fn resource_quota(tenant: &Tenant) -> ResourceQuota {
    let hard =
        tenant.quota.hard().into_iter().map(|(key, value)| (key, Quantity(value.to_string()))).collect();
    ResourceQuota {
        metadata: metadata(&tenant.namespace(), names::QUOTA_NAME),
        spec: Some(ResourceQuotaSpec { hard: Some(hard), ..ResourceQuotaSpec::default() }),
        status: None,
    }
}

/// LimitRange `tenant-limits`: defaults for containers that say nothing, because a quota refuses pods without requests;
/// and a least, because explicit zeros count as nothing against the quota and mean "no limit" to the kubelet.
pub fn limit_range(namespace: &str) -> LimitRange {
    let amounts = |cpu: &str, memory: &str| {
        Some(
            [("cpu", cpu), ("memory", memory)]
                .map(|(key, value)| (key.to_owned(), Quantity(value.to_owned())))
                .into(),
        )
    };
    LimitRange {
        metadata: metadata(namespace, names::LIMITS_NAME),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                default: amounts("500m", "512Mi"),
                default_request: amounts("50m", "64Mi"),
                min: amounts("1m", "1Mi"),
                ..LimitRangeItem::default()
            }],
        }),
    }
}

/// RoleBinding `tenant-owner`: the owner has the built-in ClusterRole `admin` in the tenant's namespace.
pub fn owner_binding(tenant: &Tenant) -> RoleBinding {
    RoleBinding {
        metadata: metadata(&tenant.namespace(), names::OWNER_BINDING_NAME),
        role_ref: RoleRef {
            api_group: Some(RBAC_GROUP.to_owned()),
            kind: "ClusterRole".to_owned(),
            name: names::OWNER_ROLE.to_owned(),
        },
        subjects: Some(vec![tenant.owner.subject()]),
    }
}

/// What a sidecar needs to reach the platform. No `Debug`: the URLs hold passwords.
#[derive(Clone)]
pub struct Credentials {
    /// URL of the tenant's read-only PostgreSQL role, `sslmode=verify-full`.
    pub database_url: String,
    /// URL (`rediss://`) of the tenant's subscribe-only Redis user.
    pub redis_url: String,
    /// PEM bundle that both servers' certificates chain to.
    pub ca: String,
}

/// Secret `config-sidecar`.
pub fn config_secret(tenant: &Tenant, values: &Credentials) -> Secret {
    let data = [
        (credentials::DATABASE_URL, values.database_url.clone()),
        (credentials::REDIS_URL, values.redis_url.clone()),
        (credentials::CA, values.ca.clone()),
        (credentials::ORGANIZATION, tenant.organization.to_string()),
    ];
    Secret {
        metadata: metadata(&tenant.namespace(), names::SECRET_NAME),
        type_: Some("Opaque".to_owned()),
        string_data: Some(
            data.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
        ),
        ..Secret::default()
    }
}
