//! The credentials of a tenant's sidecars: a PostgreSQL role, a Redis user, and the Secret that holds both.

use contract::{
    baseline::{self, Credentials},
    names, redis_acl,
};

use super::World;
use crate::{
    kube::apply,
    tenancy::{
        Failure, Run,
        credentials::{Login, Target},
        uncancelled,
    },
};

/// Makes the PostgreSQL role, or sets its verifier again.
pub async fn database_role(world: &World, run: &Run) -> Result<(), Failure> {
    let organization = run.operation.organization;
    let verifier = world.master_key.scram_verifier(organization, Login::FIRST);
    let pool = world.platform.clone();
    let role = uncancelled(world.call_max, async move {
        let made = sqlx::query_scalar!(
            r#"SELECT tenant_role_create($1, $2, $3) AS "role!""#,
            organization.0,
            Login::FIRST.slot,
            verifier
        );
        made.fetch_one(&pool).await
    })
    .await?;
    run.remember(|outputs| outputs.database_role = Some(role));
    Ok(())
}

/// Drops the PostgreSQL role.
pub async fn remove_database_role(world: &World, run: &Run) -> Result<(), Failure> {
    let (pool, organization) = (world.platform.clone(), run.operation.organization);
    uncancelled(world.call_max, async move {
        sqlx::query!("SELECT tenant_role_drop($1)", organization.0).execute(&pool).await?;
        Ok(())
    })
    .await
}

/// Makes the Redis user, or sets its rules again.
pub async fn redis_user(world: &World, run: &Run) -> Result<(), Failure> {
    let organization = run.operation.organization;
    let password = world.master_key.password(Target::Redis, organization, Login::FIRST);
    let name = redis_acl::user_name(organization, Login::FIRST.slot);
    world.redis.set(&name, &redis_acl::rules(organization, &password)).await
}

/// Removes the Redis user.
pub async fn remove_redis_user(world: &World, run: &Run) -> Result<(), Failure> {
    world.redis.remove(&redis_acl::user_name(run.operation.organization, Login::FIRST.slot)).await
}

/// Writes the Secret.
pub async fn secret(world: &World, run: &Run) -> Result<(), Failure> {
    let organization = run.operation.organization;
    let role = run
        .outputs()
        .database_role
        .ok_or_else(|| Failure::transient("the database role is not known yet"))?;
    let database = world.master_key.password(Target::Database, organization, Login::FIRST);
    let redis = world.master_key.password(Target::Redis, organization, Login::FIRST);
    let user = redis_acl::user_name(organization, Login::FIRST.slot);
    let credentials = Credentials {
        database_url: format!(
            "postgres://{role}:{database}@{}?sslmode=verify-full",
            world.addresses.database
        ),
        redis_url: format!("rediss://{user}:{redis}@{}", world.addresses.redis),
        ca: world.addresses.ca.clone(),
    };
    let object = baseline::config_secret(&run.operation.tenant(), &credentials);
    apply(world.call_max, &world.tenant_api(run), names::SECRET_NAME, &object).await?;
    Ok(())
}
