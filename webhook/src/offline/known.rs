//! Facts of an offline decision: the command line's, the input's own, and where asked for the cluster's.

use std::{collections::BTreeMap, sync::Arc};

use contract::proof::Defect;
use futures::future::{BoxFuture, FutureExt as _};
use k8s_openapi::{api::core::v1::ResourceQuotaStatus, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::read::Part;
use crate::{
    admission::{
        baseline::{Baseline, Tenant},
        gate::{Missing, Namespace, NamespaceState},
    },
    cluster::live::Live,
    facts::{Facts, NamespaceKeys},
};

/// What is known of the namespaces that the input speaks of.
#[derive(Default)]
pub struct Known {
    /// Labels and annotations of namespaces of the input that would be admitted, merged over those they have.
    pub accepted: BTreeMap<String, NamespaceKeys>,
    /// Namespaces of the input that would be refused.
    pub refused: Vec<String>,
    /// Labels that every namespace has, by the command line.
    pub given: Option<BTreeMap<String, String>>,
    /// Parts of baselines in the input, by namespace.
    pub parts: BTreeMap<String, Baseline>,
    /// The cluster, if it may be asked.
    pub live: Option<Live>,
}

impl Known {
    /// Takes a part of a baseline from the input.
    pub fn add(&mut self, namespace: &str, part: Part) {
        let baseline = self.parts.entry(namespace.to_owned()).or_default();
        match part {
            Part::NetworkPolicy(policy) => baseline.network_policies.push(*policy),
            Part::RoleBinding(binding) => baseline.role_bindings.push(*binding),
            Part::LimitRange(limits) => baseline.limit_ranges.push(*limits),
            Part::ResourceQuota(mut quota) => {
                // The controller fills the status of whatever is applied; a manifest has none.
                if quota.status.is_none() {
                    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
                    quota.status = Some(ResourceQuotaStatus { used: hard.clone(), hard });
                }
                baseline.resource_quotas.push(*quota);
            }
        }
    }

    /// The namespace as it is before the input is applied, or nothing where there is none or nobody knows.
    pub async fn existing(&self, name: &str) -> Result<Option<NamespaceKeys>, String> {
        match (&self.live, &self.given) {
            (Some(live), _) => live.keys(name).await,
            (None, Some(labels)) => {
                Ok(Some(NamespaceKeys { labels: labels.clone(), annotations: BTreeMap::new() }))
            }
            (None, None) => Ok(None),
        }
    }

    /// Labels that a pod of the input meets, if they are known.
    pub async fn labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        match self.accepted.get(name) {
            Some(keys) => Some(keys.labels.clone()),
            None => self.existing(name).await.ok().flatten().map(|keys| keys.labels),
        }
    }

    /// The baseline as it would be with what the input has of it.
    async fn baseline(&self, name: &str) -> Result<Baseline, String> {
        let mut baseline = match &self.live {
            Some(live) => live.baseline(name).await?,
            None => Baseline::default(),
        };
        if let Some(parts) = self.parts.get(name) {
            overlay(&mut baseline.network_policies, &parts.network_policies, |object| &object.metadata);
            overlay(&mut baseline.resource_quotas, &parts.resource_quotas, |object| &object.metadata);
            overlay(&mut baseline.role_bindings, &parts.role_bindings, |object| &object.metadata);
            overlay(&mut baseline.limit_ranges, &parts.limit_ranges, |object| &object.metadata);
        }
        Ok(baseline)
    }

    async fn defects(&self, name: &str, keys: &NamespaceKeys) -> Result<Vec<Defect>, String> {
        Ok(self.baseline(name).await?.prove(&keys.labels, &keys.annotations))
    }

    async fn state(&self, name: &str) -> NamespaceState {
        if let Some(keys) = self.accepted.get(name) {
            let missing = self.defects(name, keys).await.map_or_else(Missing::Unreadable, |defects| {
                Missing::Parts(defects.iter().map(ToString::to_string).collect())
            });
            return NamespaceState::Found(Namespace {
                labels: keys.labels.clone(),
                missing,
                ..Namespace::default()
            });
        }
        if self.refused.iter().any(|refused| refused == name) {
            return NamespaceState::Unknown("its Namespace in this input is refused".to_owned());
        }
        match (&self.live, &self.given) {
            (Some(live), _) => Arc::unwrap_or_clone(live.namespace(name).await),
            (None, Some(labels)) => {
                let missing = Missing::Unreadable("no cluster was asked".to_owned());
                NamespaceState::Found(Namespace { labels: labels.clone(), missing, ..Namespace::default() })
            }
            (None, None) => NamespaceState::Unknown(
                "no cluster was asked, and its labels were not given (--namespace-labels KEY=VALUE, or --live)"
                    .to_owned(),
            ),
        }
    }
}

impl Facts for Known {
    fn namespace(&self, name: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
        let name = name.to_owned();
        async move { Arc::new(self.state(&name).await) }.boxed()
    }

    fn proof(&self, name: &str, keys: NamespaceKeys) -> BoxFuture<'_, Result<Vec<Defect>, String>> {
        let name = name.to_owned();
        async move {
            if self.live.is_none() && !self.parts.contains_key(&name) {
                return Err("no cluster was asked, and the input has no baseline for it (--live)".to_owned());
            }
            self.defects(&name, &keys).await
        }
        .boxed()
    }

    fn tenant(&self, name: &str) -> BoxFuture<'_, Result<Option<Tenant>, String>> {
        let name = name.to_owned();
        async move {
            match &self.live {
                // As it is: the input's own objects are what a write would make of it.
                Some(live) => live.tenant(&name).await,
                None => Err("no cluster was asked (--live)".to_owned()),
            }
        }
        .boxed()
    }
}

/// Puts objects of the input in the place of those of the same name.
fn overlay<K: Clone>(live: &mut Vec<K>, input: &[K], metadata: impl Fn(&K) -> &ObjectMeta) {
    live.retain(|old| !input.iter().any(|new| metadata(new).name == metadata(old).name));
    live.extend(input.iter().cloned());
}
