//! Which rollout a replica belongs to: its ReplicaSet's revision, which a rollback raises too, and the Deployment.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{Api, Client};

use super::rank::Rollout;

/// Where the Deployment's controller notes it.
const ANNOTATION: &str = "deployment.kubernetes.io/revision";
/// How long one look may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3);

/// The rollout of this replica.
pub struct Revision {
    known: Mutex<Rollout>,
    pod: Option<(String, String)>,
}

impl Revision {
    /// Of a process that belongs to no rollout: seconds since 1970, so that the latest start is the newest.
    pub fn of_start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let known = Rollout { revision: now, deployment: String::new(), created: now };
        Self { known: Mutex::new(known), pod: None }
    }

    /// Of the pod `name` in `namespace`; read at the first look.
    pub async fn of_pod(client: &Client, namespace: &str, name: &str) -> Self {
        let pod = Some((namespace.to_owned(), name.to_owned()));
        let revision = Self { known: Mutex::default(), pod };
        revision.read_again(client).await;
        revision
    }

    /// As it was last read.
    pub fn known(&self) -> Rollout {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it again; what cannot be read stays as it is known.
    pub async fn read_again(&self, client: &Client) {
        let Some((namespace, name)) = &self.pod else { return };
        match tokio::time::timeout(LOOK_TIME_MAX, read(client, namespace, name)).await {
            Ok(Ok(Some(rollout))) => *self.known.lock().unwrap_or_else(PoisonError::into_inner) = rollout,
            Ok(Ok(None)) => tracing::warn!(pod = name, "the own pod is of no Deployment: no revision"),
            Ok(Err(error)) => tracing::warn!(%error, "the own revision cannot be read"),
            Err(_) => tracing::warn!("the own revision cannot be read: no answer"),
        }
    }
}

async fn read(client: &Client, namespace: &str, name: &str) -> Result<Option<Rollout>, kube::Error> {
    let pod = Api::<Pod>::namespaced(client.clone(), namespace).get_metadata(name).await?;
    let owners = pod.metadata.owner_references.unwrap_or_default();
    let Some(owner) = owners.into_iter().find(|owner| owner.kind == "ReplicaSet") else { return Ok(None) };
    let set = Api::<ReplicaSet>::namespaced(client.clone(), namespace).get_metadata(&owner.name).await?;
    let revision = set.metadata.annotations.unwrap_or_default().remove(ANNOTATION);
    let owners = set.metadata.owner_references.unwrap_or_default();
    let deployment = owners.into_iter().find(|owner| owner.controller == Some(true));
    let created = set.metadata.creation_timestamp.map_or(0, |created| created.0.as_second());
    Ok(revision.and_then(|text| text.parse().ok()).map(|revision| Rollout {
        revision,
        deployment: deployment.map(|owner| owner.uid).unwrap_or_default(),
        created: u64::try_from(created).unwrap_or_default(),
    }))
}
