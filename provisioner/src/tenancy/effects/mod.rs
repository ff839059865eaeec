//! The steps' effects on Kubernetes, PostgreSQL and Redis: one file a group.

mod baseline;
mod commit;
mod credentials;
mod enforced;
mod label;
mod namespace;
mod password;

use std::{sync::Arc, time::Duration};

use contract::baseline::PlatformPeer;
use kube::{Api, Client};
use sqlx::PgPool;

use super::{Effects, Failure, MasterKey, RedisUsers, Run, Step};
use crate::identity::password::Passwords;

/// Where a tenant's sidecars find the platform.
#[derive(Debug, Clone)]
pub struct TenantAddresses {
    /// `host:port/database` of the pooler.
    pub database: String,
    /// `host:port` of Redis.
    pub redis: String,
    /// PEM bundle that both certificates chain to.
    pub ca: String,
    /// What else tenants' pods may reach.
    pub peers: Vec<PlatformPeer>,
}

/// What the steps work on.
#[derive(Clone)]
pub struct World {
    /// Kubernetes.
    pub kube: Client,
    /// PostgreSQL across organizations.
    pub platform: PgPool,
    /// Redis users.
    pub redis: Arc<dyn RedisUsers>,
    /// The key that tenants' passwords are derived from.
    pub master_key: MasterKey,
    /// Password hashing.
    pub passwords: Passwords,
    /// Wrong passwords for one email address, before no more are checked for a while.
    pub guesses_max: u32,
    /// Where sidecars find the platform.
    pub addresses: TenantAddresses,
    /// Time limit of one call.
    pub call_max: Duration,
}

impl World {
    pub(crate) fn namespaces(&self) -> Api<k8s_openapi::api::core::v1::Namespace> {
        Api::all(self.kube.clone())
    }

    fn tenant_api<K>(&self, run: &Run) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.clone(), &run.operation.slug.namespace())
    }
}

impl Effects for World {
    async fn act(&self, run: &Run, step: Step) -> Result<(), Failure> {
        match step {
            Step::Namespace => namespace::create(self, run).await,
            Step::Quota => baseline::quota(self, run).await,
            Step::Limits => baseline::limits(self, run).await,
            Step::DefaultDeny => baseline::default_deny(self, run).await,
            Step::AllowPlatform => baseline::allow_platform(self, run).await,
            Step::OwnerBinding => baseline::owner_binding(self, run).await,
            Step::Owner => password::prove_owner(self, run).await,
            Step::Password => password::hash(self, run).await,
            Step::DatabaseRole => credentials::database_role(self, run).await,
            Step::RedisUser => credentials::redis_user(self, run).await,
            Step::Secret => credentials::secret(self, run).await,
            Step::Enforced => enforced::wait(self, run).await,
            Step::Label => label::open_gate(self, run).await,
            Step::Commit => commit::commit(self, run).await,
        }
    }

    async fn undo(&self, run: &Run, step: Step) -> Result<(), Failure> {
        match step {
            Step::Label => label::close_gate(self, run).await,
            Step::RedisUser => credentials::remove_redis_user(self, run).await,
            Step::DatabaseRole => credentials::remove_database_role(self, run).await,
            Step::Namespace => namespace::delete(self, run).await,
            // What lies in the namespace goes with it; the end of the operation forgets the password's hash; a proof
            // leaves nothing; a commit that did happen is never undone.
            Step::Quota
            | Step::Limits
            | Step::DefaultDeny
            | Step::AllowPlatform
            | Step::OwnerBinding
            | Step::Secret
            | Step::Owner
            | Step::Password
            | Step::Enforced
            | Step::Commit => Ok(()),
        }
    }
}
