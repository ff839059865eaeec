//! Writes the webhook configurations, by server-side apply.

use std::time::Duration;

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};

use super::configurations::{MUTATING, Registration, VALIDATING};

/// Owner of the applied fields.
const FIELD_MANAGER: &str = "agent-ready-webhook";
/// How long one write may take.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// Applies both configurations; the gate first.
pub async fn apply(client: &Client, registration: &Registration) -> anyhow::Result<()> {
    apply_one(client, VALIDATING, &registration.validating()).await?;
    apply_one(client, MUTATING, &registration.mutating()).await
}

async fn apply_one<K>(client: &Client, name: &str, configuration: &K) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    tokio::time::timeout(WRITE_TIME_MAX, api.patch(name, &params, &Patch::Apply(configuration))).await??;
    Ok(())
}
