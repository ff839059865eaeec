//! Live reads: never from a cache, each within a deadline.

use std::{future::Future, sync::Arc, time::Duration};

use contract::{names, proof::Defect};
use futures::future::{BoxFuture, FutureExt as _};
use k8s_openapi::api::core::v1::Namespace as CoreNamespace;
use kube::{Api, Client, api::ListParams};
use serde::de::DeserializeOwned;

use crate::{
    admission::{
        baseline::{Baseline, Tenant},
        gate::{Missing, Namespace, NamespaceState},
        policy::Policy,
    },
    cluster::store,
    facts::{Facts, NamespaceKeys},
};

/// How long one read may take. Two fit into the API server's time limit for a review (5 s): the one that runs when a
/// review arrives, and the review's own.
pub const READ_TIME_MAX: Duration = Duration::from_millis(1_800);

/// Reads from the API server, with quorum.
#[derive(Clone)]
pub struct Live {
    client: Client,
    policy: Arc<Policy>,
}

impl Live {
    /// A reader with this client's identity, who reports what this policy does not let through.
    pub fn new(client: Client, policy: Policy) -> Self {
        Self { client, policy: Arc::new(policy) }
    }

    async fn list<K>(&self, namespace: &str) -> Result<Vec<K>, kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.list(&ListParams::default()).await?.items)
    }

    /// What the proof of a namespace looks at, as it is now; the error is for users.
    pub async fn baseline(&self, namespace: &str) -> Result<Baseline, String> {
        let reads = async {
            let (network_policies, resource_quotas, role_bindings, limit_ranges) = tokio::try_join!(
                self.list(namespace),
                self.list(namespace),
                self.list(namespace),
                self.list(namespace)
            )?;
            Ok(Baseline { network_policies, resource_quotas, role_bindings, limit_ranges })
        };
        in_time(reads).await
    }

    /// Labels and annotations of a namespace, if there is one of that name; the error is for users.
    pub async fn keys(&self, name: &str) -> Result<Option<NamespaceKeys>, String> {
        let namespaces: Api<CoreNamespace> = Api::all(self.client.clone());
        let namespace = in_time(namespaces.get_opt(name)).await?;
        Ok(namespace.map(|namespace| NamespaceKeys {
            labels: namespace.metadata.labels.unwrap_or_default(),
            annotations: namespace.metadata.annotations.unwrap_or_default(),
        }))
    }

    /// What the proof of a namespace finds now, with the labels and annotations that the watch store knows.
    pub async fn prove_known(&self, namespace: &store::Namespace) -> Result<Vec<Defect>, String> {
        let baseline = self.baseline(&namespace.name).await?;
        Ok(baseline.prove(&namespace.labels.to_map(), &namespace.annotations.to_map()))
    }

    async fn read(&self, name: &str) -> NamespaceState {
        let namespaces: Api<CoreNamespace> = Api::all(self.client.clone());
        // In parallel: the baseline is only wanted for the message, but a namespace that is asked about is nearly always
        // one that is not ready.
        let (namespace, baseline) =
            tokio::join!(in_time(namespaces.get_opt(name)), Box::pin(self.baseline(name)));
        match namespace {
            Err(why) => NamespaceState::Unknown(why),
            Ok(None) => NamespaceState::Absent,
            Ok(Some(namespace)) => {
                let labels = namespace.metadata.labels.unwrap_or_default();
                let annotations = namespace.metadata.annotations.unwrap_or_default();
                let missing = if is_ready(&labels) {
                    Missing::default()
                } else {
                    baseline.map_or_else(Missing::Unreadable, |baseline| {
                        let defects = self.policy.divide(baseline.prove(&labels, &annotations)).refused;
                        Missing::Parts(defects.iter().map(ToString::to_string).collect())
                    })
                };
                NamespaceState::Found(Namespace {
                    labels,
                    terminating: namespace.metadata.deletion_timestamp.is_some(),
                    missing,
                })
            }
        }
    }
}

impl Facts for Live {
    fn namespace(&self, name: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
        let name = name.to_owned();
        async move { Arc::new(self.read(&name).await) }.boxed()
    }

    fn proof(&self, name: &str, keys: NamespaceKeys) -> BoxFuture<'_, Result<Vec<Defect>, String>> {
        let name = name.to_owned();
        async move { Ok(self.baseline(&name).await?.prove(&keys.labels, &keys.annotations)) }.boxed()
    }

    fn tenant(&self, name: &str) -> BoxFuture<'_, Result<Option<Tenant>, String>> {
        let name = name.to_owned();
        async move {
            let namespaces: Api<CoreNamespace> = Api::all(self.client.clone());
            let (namespace, baseline) =
                tokio::try_join!(in_time(namespaces.get_opt(&name)), Box::pin(self.baseline(&name)))?;
            Ok(namespace.map(|namespace| Tenant {
                labels: namespace.metadata.labels.unwrap_or_default(),
                annotations: namespace.metadata.annotations.unwrap_or_default(),
                terminating: namespace.metadata.deletion_timestamp.is_some(),
                baseline,
            }))
        }
        .boxed()
    }
}

fn is_ready(labels: &std::collections::BTreeMap<String, String>) -> bool {
    labels.get(names::GATE_LABEL).is_some_and(|value| value == names::GATE_OPEN)
}

async fn in_time<T>(read: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(READ_TIME_MAX, read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => {
            Err(format!("the API server answered {}: {}", status.code, status.message))
        }
        Ok(Err(error)) => Err(format!("the API server could not be reached: {error}")),
        Err(_) => Err(format!("the API server did not answer within {READ_TIME_MAX:?}")),
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
