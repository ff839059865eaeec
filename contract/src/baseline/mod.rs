//! The objects of a tenant's baseline, as the provisioner makes them and the gate looks for them.

mod network;
mod resources;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use uuid::Uuid;

pub use network::{
    Direction, InvalidPeer, PeerPort, PlatformPeer, Protocol, allow_platform, default_deny, is_allow_platform,
};
pub use resources::{Credentials, config_secret, limit_range, owner_binding, resource_quota};

use crate::names;
use crate::{OrganizationId, Owner, Quota, Slug};

/// Everything that the baseline of one tenant is built from.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The organization.
    pub organization: OrganizationId,
    /// Its short name; decides the namespace.
    pub slug: Slug,
    /// Who is bound to the role `admin` in the namespace.
    pub owner: Owner,
    /// What the tenant may request in all.
    pub quota: Quota,
    /// The operation that makes the tenant.
    pub operation: Uuid,
    /// Pod Security levels of the namespace.
    pub pod_security: PodSecurity,
}

impl Tenant {
    /// Name of the tenant's namespace.
    pub fn namespace(&self) -> String {
        self.slug.namespace()
    }
}

/// A Pod Security Standard (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurityLevel {
    /// Prevents known privilege escalations.
    Baseline,
    /// Follows pod hardening best practice.
    Restricted,
}

impl PodSecurityLevel {
    /// The level as the label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl std::str::FromStr for PodSecurityLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("a Pod Security level of a tenant is baseline or restricted".to_owned()),
        }
    }
}

/// Levels of the three Pod Security modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodSecurity {
    /// Refuses pods.
    pub enforce: PodSecurityLevel,
    /// Warns the caller.
    pub warn: PodSecurityLevel,
    /// Annotates the audit log.
    pub audit: PodSecurityLevel,
}

impl Default for PodSecurity {
    fn default() -> Self {
        Self {
            enforce: PodSecurityLevel::Baseline,
            warn: PodSecurityLevel::Restricted,
            audit: PodSecurityLevel::Restricted,
        }
    }
}

/// The tenant's namespace, without the gate's label: that one follows when the baseline stands.
pub fn namespace(tenant: &Tenant) -> Namespace {
    let pod_security = |mode: &str, level: PodSecurityLevel| {
        (format!("{}{mode}", names::POD_SECURITY_PREFIX), level.as_str().to_owned())
    };
    Namespace {
        metadata: ObjectMeta {
            name: Some(tenant.namespace()),
            labels: Some(
                [
                    (names::ORGANIZATION_LABEL.to_owned(), tenant.organization.to_string()),
                    (names::INJECT_LABEL.to_owned(), "enabled".to_owned()),
                    (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
                    pod_security("enforce", tenant.pod_security.enforce),
                    pod_security("warn", tenant.pod_security.warn),
                    pod_security("audit", tenant.pod_security.audit),
                ]
                .into(),
            ),
            annotations: Some(
                [
                    (names::OWNER_ANNOTATION.to_owned(), tenant.owner.to_annotation()),
                    (names::QUOTA_ANNOTATION.to_owned(), tenant.quota.to_annotation()),
                    (names::OPERATION_ANNOTATION.to_owned(), tenant.operation.to_string()),
                ]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Metadata of an object of the baseline.
fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> Tenant {
        Tenant {
            organization: OrganizationId(Uuid::from_u128(0x42)),
            slug: Slug::from_name("ACME Corp").unwrap(),
            owner: Owner::from_email("agent-ready:", "ann@acme.example").unwrap(),
            quota: Quota::default(),
            operation: Uuid::from_u128(0x77),
            pod_security: PodSecurity::default(),
        }
    }

    #[test]
    fn the_baseline_is_what_the_contract_says() {
        let tenant = tenant();
        let peers: Vec<PlatformPeer> = serde_json::from_str(
            r#"[{"cidr":"10.1.2.3/32","ports":[{"port":6432},{"port":6379}]},
                {"namespace":{"kubernetes.io/metadata.name":"kube-system"},"pods":{"k8s-app":"kube-dns"},"ports":[{"protocol":"UDP","port":53}]},
                {"direction":"ingress","namespace":{"kubernetes.io/metadata.name":"monitoring"},"ports":[{"port":7071}]}]"#,
        )
        .unwrap();
        let credentials = Credentials {
            database_url: "postgres://x".into(),
            redis_url: "rediss://x".into(),
            ca: "PEM".into(),
        };
        insta::assert_yaml_snapshot!("namespace", namespace(&tenant));
        insta::assert_yaml_snapshot!("resource_quota", resource_quota(&tenant));
        insta::assert_yaml_snapshot!("limit_range", limit_range(&tenant.namespace()));
        insta::assert_yaml_snapshot!("default_deny", default_deny(&tenant.namespace()));
        insta::assert_yaml_snapshot!("allow_platform", allow_platform(&tenant.namespace(), &peers));
        insta::assert_yaml_snapshot!("owner_binding", owner_binding(&tenant));
        insta::assert_yaml_snapshot!("config_secret", config_secret(&tenant, &credentials));
    }
}
