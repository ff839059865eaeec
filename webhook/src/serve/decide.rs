//! Which rule a review is for, and which facts the rule needs.

use std::sync::Arc;

use tracing::Instrument as _;

use crate::{
    admission::{
        answer::Verdict,
        baseline_guard, gate, hold, inject, label_guard,
        label_guard::GuardVerdict,
        metadata,
        policy::Policy,
        refusal::Refusal,
        review::{Operation, Request},
    },
    facts::{Facts, NamespaceKeys},
};

/// Where the API server sent the review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/validate`
    Validate,
    /// `/report`: as `/validate` for pods, where the gate only reports
    Report,
    /// `/mutate`: the injection
    Mutate,
    /// `/hold`: the scheduling gate
    Hold,
}

impl Endpoint {
    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Report => "report",
            Self::Mutate => "mutate",
            Self::Hold => "hold",
        }
    }
}

/// The policy, and where its facts come from.
#[derive(Clone)]
pub struct Decider {
    policy: Arc<Policy>,
    facts: Arc<dyn Facts>,
}

impl Decider {
    /// A decider for this policy.
    pub fn new(policy: Policy, facts: Arc<dyn Facts>) -> Self {
        Self { policy: Arc::new(policy), facts }
    }

    /// Its policy.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    /// The verdict on a request. What no rule is for is refused.
    pub async fn decide(&self, endpoint: Endpoint, request: &Request<'_>) -> Verdict {
        match (endpoint, request.operation, request.subresource()) {
            (Endpoint::Mutate, Operation::Create, "") if request.is_core("pods") => {
                inject::decide(&self.policy, request)
            }
            (Endpoint::Validate | Endpoint::Report | Endpoint::Hold, Operation::Create, "")
                if request.is_core("pods") =>
            {
                self.pod(endpoint, request).await
            }
            (Endpoint::Validate, Operation::Update, "") if request.is_core("pods") => {
                hold::keep(&self.policy, request)
            }
            (Endpoint::Validate, Operation::Create | Operation::Update, "" | "status" | "finalize")
                if request.is_core("namespaces") =>
            {
                self.namespace(request).await
            }
            (Endpoint::Validate, _, _) if baseline_guard::is_for(request) => self.baseline(request).await,
            _ => Verdict::refuse(Refusal::unknown_request(&described(endpoint, request))),
        }
    }

    async fn pod(&self, endpoint: Endpoint, request: &Request<'_>) -> Verdict {
        if request.namespace().is_empty() {
            return Verdict::refuse(Refusal::unreadable("pod", "the request names no namespace"));
        }
        if self.policy.exempts(request.namespace()) {
            return Verdict::allow("exempt");
        }
        let read = tracing::info_span!("live read", namespace = request.namespace());
        let state = self.facts.namespace(request.namespace()).instrument(read).await;
        match endpoint {
            Endpoint::Report => gate::report(&self.policy, request, &state),
            Endpoint::Hold => hold::add(&self.policy, request, &state),
            Endpoint::Validate | Endpoint::Mutate => gate::decide(&self.policy, request, &state),
        }
    }

    async fn namespace(&self, request: &Request<'_>) -> Verdict {
        match label_guard::decide(&self.policy, request) {
            GuardVerdict::Decided(verdict) => verdict,
            GuardVerdict::Prove => self.prove(request).await,
        }
    }

    async fn baseline(&self, request: &Request<'_>) -> Verdict {
        let write = match baseline_guard::decide(&self.policy, request) {
            baseline_guard::GuardVerdict::Decided(verdict) => return verdict,
            baseline_guard::GuardVerdict::Compare(write) => *write,
        };
        let name = request.namespace();
        let read = tracing::info_span!("baseline read", namespace = name);
        match self.facts.tenant(name).instrument(read).await {
            Ok(Some(tenant)) => baseline_guard::compare(&self.policy, request, write, &tenant),
            Ok(None) => Verdict::refuse(baseline_guard::unknown(request, "there is none of that name")),
            Err(why) => Verdict::refuse(baseline_guard::unknown(request, &why)),
        }
    }

    async fn prove(&self, request: &Request<'_>) -> Verdict {
        let keys = match request.object.map(metadata::read) {
            Some(Ok(metadata)) => {
                NamespaceKeys { labels: owned(metadata.labels()), annotations: owned(metadata.annotations()) }
            }
            // The guard has read it already; unknown is never allowed all the same.
            Some(Err(error)) => return Verdict::refuse(Refusal::unreadable("namespace", &error.to_string())),
            None => return Verdict::refuse(Refusal::unreadable("namespace", "the request has no object")),
        };
        let read = tracing::info_span!("proof", namespace = request.name());
        match self.facts.proof(request.name(), keys).instrument(read).await {
            Ok(defects) => label_guard::after_proof(&self.policy, request, defects),
            Err(why) => Verdict::refuse(Refusal::unknown_state(request.name(), &why)),
        }
    }
}

fn owned<'k>(pairs: impl Iterator<Item = (&'k str, &'k str)>) -> std::collections::BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn described(endpoint: Endpoint, request: &Request<'_>) -> String {
    let resource = &request.resource;
    let (dot, slash) = (
        if resource.group.is_empty() { "" } else { "." },
        if request.subresource().is_empty() { "" } else { "/" },
    );
    format!(
        "{:?} of {}{dot}{}{slash}{} ({}) at /{}",
        request.operation,
        resource.resource,
        resource.group,
        request.subresource(),
        resource.version,
        endpoint.name(),
    )
}
