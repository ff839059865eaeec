//! The objects of the baseline, by server-side apply: writing them twice is writing them once.

use contract::{baseline, names};

use super::World;
use crate::{
    kube::apply,
    tenancy::{Failure, Run},
};

pub async fn quota(world: &World, run: &Run) -> Result<(), Failure> {
    let object = baseline::resource_quota(&run.operation.tenant());
    apply(world.call_max, &world.tenant_api(run), names::QUOTA_NAME, &object).await?;
    Ok(())
}

pub async fn limits(world: &World, run: &Run) -> Result<(), Failure> {
    let object = baseline::limit_range(&run.operation.slug.namespace());
    apply(world.call_max, &world.tenant_api(run), names::LIMITS_NAME, &object).await?;
    Ok(())
}

pub async fn default_deny(world: &World, run: &Run) -> Result<(), Failure> {
    let object = baseline::default_deny(&run.operation.slug.namespace());
    apply(world.call_max, &world.tenant_api(run), names::DEFAULT_DENY_NAME, &object).await?;
    Ok(())
}

pub async fn allow_platform(world: &World, run: &Run) -> Result<(), Failure> {
    let object = baseline::allow_platform(&run.operation.slug.namespace(), &world.addresses.peers);
    apply(world.call_max, &world.tenant_api(run), names::ALLOW_PLATFORM_NAME, &object).await?;
    Ok(())
}

pub async fn owner_binding(world: &World, run: &Run) -> Result<(), Failure> {
    let object = baseline::owner_binding(&run.operation.tenant());
    apply(world.call_max, &world.tenant_api(run), names::OWNER_BINDING_NAME, &object).await?;
    Ok(())
}
