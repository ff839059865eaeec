//! Live reads, each within a deadline. Verdicts never come from a cache; a message or a finding may, where a little age does
//! no harm: to say the newest, the API server's watch cache may have to wait up to 100 ms for news of the rest of the cluster.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contract::{names, proof::Defect};
use futures::future::{BoxFuture, FutureExt as _};
use k8s_openapi::api::core::v1::Namespace as CoreNamespace;
use kube::{
    Api, Client,
    api::{ListParams, VersionMatch},
};
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

/// The newest version that the watch of each kind has heard of, by the kind's plural.
#[derive(Debug, Default)]
pub struct Heard(Mutex<HashMap<&'static str, String>>);

impl Heard {
    /// Notes a version of this kind.
    pub fn note(&self, plural: &'static str, version: &str) {
        let mut versions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        version.clone_into(versions.entry(plural).or_default());
    }

    /// Forgets this kind's version: the next read asks for what is.
    pub fn forget(&self, plural: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(plural);
    }

    fn version(&self, plural: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(plural).cloned()
    }
}

/// How old what is read of a baseline may be.
#[derive(Clone, Copy)]
enum Age<'a> {
    /// What was written before the question is seen.
    Now,
    /// What the watches have heard of is seen.
    Heard(&'a Heard),
    /// Whatever the API server has at hand.
    Any,
}

impl Age<'_> {
    fn params(self, plural: &str) -> ListParams {
        let params = ListParams::default();
        match self {
            Self::Now => params,
            Self::Heard(heard) => match heard.version(plural) {
                Some(version) => params.at(&version).matching(VersionMatch::NotOlderThan),
                None => params,
            },
            Self::Any => params.match_any(),
        }
    }
}

/// Reads from the API server.
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

    async fn list<K>(&self, namespace: &str, age: Age<'_>) -> Result<Vec<K>, kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.list(&age.params(&K::plural(&()))).await?.items)
    }

    /// What the proof of a namespace looks at, as it is now; the error is for users.
    pub async fn baseline(&self, namespace: &str) -> Result<Baseline, String> {
        self.baseline_of(namespace, Age::Now).await
    }

    async fn baseline_of(&self, namespace: &str, age: Age<'_>) -> Result<Baseline, String> {
        let reads = async {
            let (network_policies, resource_quotas, role_bindings, limit_ranges) = tokio::try_join!(
                self.list(namespace, age),
                self.list(namespace, age),
                self.list(namespace, age),
                self.list(namespace, age)
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
        self.prove_at(namespace, Age::Now).await
    }

    /// The same, of a baseline no older than the watches have heard of; of the baseline as it is where that cannot be had.
    pub async fn prove_heard(
        &self,
        namespace: &store::Namespace,
        heard: &Heard,
    ) -> Result<Vec<Defect>, String> {
        match self.prove_at(namespace, Age::Heard(heard)).await {
            // An API server that is behind the one that was heard may not catch up in time.
            Err(_) => self.prove_known(namespace).await,
            proved => proved,
        }
    }

    async fn prove_at(&self, namespace: &store::Namespace, age: Age<'_>) -> Result<Vec<Defect>, String> {
        let baseline = self.baseline_of(&namespace.name, age).await?;
        Ok(baseline.prove(&namespace.labels.to_map(), &namespace.annotations.to_map()))
    }

    async fn read(&self, name: &str) -> NamespaceState {
        let namespaces: Api<CoreNamespace> = Api::all(self.client.clone());
        // In parallel: the baseline is only wanted for the message, but a namespace that is asked about is nearly always
        // one that is not ready.
        let (namespace, baseline) =
            tokio::join!(in_time(namespaces.get_opt(name)), Box::pin(self.baseline_of(name, Age::Any)));
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
