//! What is there of a tenant, in Kubernetes, PostgreSQL and Redis.

use anyhow::{Context as _, Result};
use contract::{OrganizationId, names, redis_acl};
use k8s_openapi::api::{
    core::v1::{LimitRange, Namespace, ResourceQuota, Secret},
    networking::v1::NetworkPolicy,
    rbac::v1::RoleBinding,
};
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use crate::{
    attacks::redis_connection,
    data::{DataServices, RedisLogin},
};

/// What is there of a tenant. Each list is in order, so that two of them can be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// The namespace with this organization's label, and whether the gate is open.
    pub namespaces: Vec<(String, bool)>,
    /// Names of the objects in it.
    pub objects: Vec<String>,
    /// Login roles in PostgreSQL.
    pub roles: usize,
    /// Users in Redis.
    pub redis_users: usize,
    /// Configuration values.
    pub values: usize,
    /// Quota changes.
    pub quota_changes: usize,
    /// Owners.
    pub owners: usize,
}

impl Remains {
    /// All that a tenant is made of.
    pub fn whole(namespace: &str) -> Self {
        let mut objects = [
            names::ALLOW_PLATFORM_NAME,
            names::DEFAULT_DENY_NAME,
            names::LIMITS_NAME,
            names::OWNER_BINDING_NAME,
            names::QUOTA_NAME,
            names::SECRET_NAME,
        ]
        .map(str::to_owned)
        .to_vec();
        objects.sort();
        Self {
            namespaces: vec![(namespace.to_owned(), true)],
            objects,
            roles: 1,
            redis_users: 1,
            values: 3,
            quota_changes: 1,
            owners: 1,
        }
    }
}

/// Looks everywhere for an organization. `database` is an administrator's connection to the organization's database.
pub async fn remains(
    client: &Client,
    services: &DataServices,
    database: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Remains> {
    let api: Api<Namespace> = Api::all(client.clone());
    let label = format!("{}={organization}", names::ORGANIZATION_LABEL);
    let found = api.list(&ListParams::default().labels(&label)).await?.items;
    let mut remains = Remains::default();
    for namespace in found {
        let name = namespace.metadata.name.unwrap_or_default();
        let labels = namespace.metadata.labels.unwrap_or_default();
        let open = labels.get(names::GATE_LABEL).is_some_and(|value| value == names::GATE_OPEN);
        remains.objects.extend(names_of::<ResourceQuota>(client, &name).await?);
        remains.objects.extend(names_of::<LimitRange>(client, &name).await?);
        remains.objects.extend(names_of::<NetworkPolicy>(client, &name).await?);
        remains.objects.extend(names_of::<RoleBinding>(client, &name).await?);
        remains.objects.extend(names_of::<Secret>(client, &name).await?);
        remains.namespaces.push((name, open));
    }
    remains.objects.sort();

    let counts: (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM tenant_roles JOIN pg_roles ON rolname = role_name WHERE org_id = $1),
            (SELECT count(*) FROM service_configs WHERE org_id = $1),
            (SELECT count(*) FROM quota_changes WHERE org_id = $1),
            (SELECT count(*) FROM memberships JOIN users ON users.id = user_id WHERE org_id = $1 AND role = 'owner')",
    )
    .bind(organization.0)
    .fetch_one(database)
    .await
    .context("count rows")?;
    let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    (remains.roles, remains.values) = (count(counts.0), count(counts.1));
    (remains.quota_changes, remains.owners) = (count(counts.2), count(counts.3));

    let mut redis = connect(services).await?;
    let users: Vec<String> =
        redis::cmd("ACL").arg("LIST").query_async(&mut redis).await.context("ACL LIST")?;
    let name = redis_acl::user_name(organization, 0);
    remains.redis_users = users.iter().filter(|line| line.split(' ').nth(1) == Some(name.as_str())).count();
    Ok(remains)
}

/// A connection to Redis; more than one try, for the machine may be busy with the faults that tests make.
async fn connect(services: &DataServices) -> Result<redis::aio::MultiplexedConnection> {
    let url = services.redis_url(RedisLogin::AclAdmin);
    for _ in 0..4 {
        if let Ok(connection) = redis_connection(services, &url).await {
            return Ok(connection);
        }
    }
    redis_connection(services, &url).await
}

async fn names_of<K>(client: &Client, namespace: &str) -> Result<Vec<String>>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    Ok(api
        .list(&ListParams::default())
        .await?
        .items
        .iter()
        .filter_map(|item| item.meta().name.clone())
        .collect())
}
