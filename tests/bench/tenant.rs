//! Tenants of the benches' own, made by hand.

use anyhow::Result;
use contract::baseline::{self, PodSecurity, Tenant};
use contract::{OrganizationId, Owner, Quota, Slug};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A tenant that nobody else has.
pub fn fresh() -> Result<Tenant> {
    Ok(Tenant {
        organization: OrganizationId(Uuid::new_v4()),
        slug: Slug::from_name(&format!("floor {}", Uuid::new_v4().simple()))?,
        owner: Owner::from_email("agent-ready:", "floor@bench.example")?,
        quota: Quota::default(),
        operation: Uuid::new_v4(),
        pod_security: PodSecurity::default(),
    })
}

/// Creates the baseline in the tenant's namespace.
pub async fn complete(client: &Client, tenant: &Tenant) -> Result<()> {
    let name = tenant.namespace();
    create(client, &name, &baseline::resource_quota(tenant)).await?;
    create(client, &name, &baseline::limit_range(&name)).await?;
    create(client, &name, &baseline::default_deny(&name)).await?;
    create(client, &name, &baseline::owner_binding(tenant)).await
}

/// Whether the quota counts.
pub fn filled(quota: Option<&ResourceQuota>) -> bool {
    quota.and_then(|quota| quota.status.as_ref()).is_some_and(|status| status.used.is_some())
}

/// Creates an object in a namespace.
pub async fn create<T>(client: &Client, namespace: &str, object: &T) -> Result<()>
where
    T: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    Api::<T>::namespaced(client.clone(), namespace).create(&PostParams::default(), object).await?;
    Ok(())
}
