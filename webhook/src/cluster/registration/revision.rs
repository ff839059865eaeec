//! Which rollout a replica belongs to: its ReplicaSet's revision, which a rollback raises too.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{Api, Client};

/// Where the Deployment's controller notes it.
const ANNOTATION: &str = "deployment.kubernetes.io/revision";
/// How long one look may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3);

/// The revision of this replica.
pub struct Revision {
    known: AtomicU64,
    pod: Option<(String, String)>,
}

impl Revision {
    /// As it was told.
    pub fn fixed(revision: u64) -> Self {
        Self { known: AtomicU64::new(revision), pod: None }
    }

    /// Of a process that belongs to no rollout: seconds since 1970, so that the latest start is the newest.
    pub fn of_start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::fixed(now.as_secs())
    }

    /// Of the pod `name` in `namespace`; read at the first look.
    pub async fn of_pod(client: &Client, namespace: &str, name: &str) -> Self {
        let pod = Some((namespace.to_owned(), name.to_owned()));
        let revision = Self { known: AtomicU64::new(0), pod };
        revision.read_again(client).await;
        revision
    }

    /// As it was last read.
    pub fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// Reads it again; what cannot be read stays as it is known.
    pub async fn read_again(&self, client: &Client) -> u64 {
        if let Some((namespace, name)) = &self.pod {
            match tokio::time::timeout(LOOK_TIME_MAX, read(client, namespace, name)).await {
                Ok(Ok(Some(revision))) => self.known.store(revision, Ordering::Relaxed),
                Ok(Ok(None)) => tracing::warn!(pod = name, "the own pod is of no Deployment: no revision"),
                Ok(Err(error)) => tracing::warn!(%error, "the own revision cannot be read"),
                Err(_) => tracing::warn!("the own revision cannot be read: no answer"),
            }
        }
        self.known()
    }
}

async fn read(client: &Client, namespace: &str, name: &str) -> Result<Option<u64>, kube::Error> {
    let pod = Api::<Pod>::namespaced(client.clone(), namespace).get_metadata(name).await?;
    let owners = pod.metadata.owner_references.unwrap_or_default();
    let Some(owner) = owners.into_iter().find(|owner| owner.kind == "ReplicaSet") else { return Ok(None) };
    let set = Api::<ReplicaSet>::namespaced(client.clone(), namespace).get_metadata(&owner.name).await?;
    let revision = set.metadata.annotations.unwrap_or_default().remove(ANNOTATION);
    Ok(revision.and_then(|text| text.parse().ok()))
}
