//! `webhook audit`: the same findings from one read of the cluster, printed.

use std::{io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace as CoreNamespace, Pod as CorePod};
use kube::{Api, Client, api::ListParams};

use super::{read, settings::Audit};
use crate::{
    admission::policy::Policy,
    audit::{Finding, enforce, namespaces, pods, powers, table},
    cluster::{
        live::Live,
        store::{Namespace, Stores},
    },
    offline::settings::Output,
};

/// Exit status when the cluster could not be read.
const UNREADABLE: u8 = 2;
/// How long listing everything may take.
const LIST_TIME_MAX: Duration = Duration::from_mins(5);
/// Proofs at once.
const PROOFS_AT_ONCE: usize = 8;

/// Prints what is found; the exit status is 0 if it is nothing, 1 if it is something, 2 if the cluster could not be read.
pub async fn audit(settings: &Audit) -> ExitCode {
    match run(settings).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // To stderr as a sentence: who reads it is a person or a pipeline's log, not a collector of logs.
            let _ = writeln!(std::io::stderr(), "webhook audit: {error:#}");
            ExitCode::from(UNREADABLE)
        }
    }
}

async fn run(settings: &Audit) -> anyhow::Result<bool> {
    let client = Client::try_default().await.context("no way to the cluster (KUBECONFIG)")?;
    let registration = settings.registration.registration(&settings.namespace, &settings.policy);
    let policy = settings.policy.policy(registration.exempt.clone());
    let live = Live::new(client.clone(), policy.clone());
    let stores = listed(&client).await?;
    if settings.as_if_enforced {
        let hits = hits(&live, &policy, &stores).await;
        let text = match settings.output {
            Output::Text => table::hits(&hits),
            Output::Json => serde_json::to_string_pretty(&table::hits_json(&hits))? + "\n",
        };
        print(&text)?;
        return Ok(hits.is_empty());
    }
    let mut findings = findings(&live, &policy, &stores).await;
    findings.extend(read::guards(&client, &registration).await);
    findings.sort();
    let powers = if settings.no_powers {
        Vec::new()
    } else {
        let rbac = read::rbac(&client, &settings.namespace).await;
        powers::examine(&rbac.map_err(|error| anyhow!("reading roles and bindings: {error}"))?)
    };
    let text = match settings.output {
        Output::Text if powers.is_empty() => table::findings(&findings),
        Output::Text => table::findings(&findings) + &table::powers(&powers),
        Output::Json => serde_json::to_string_pretty(&table::json(&findings, &powers))? + "\n",
    };
    print(&text)?;
    Ok(findings.is_empty())
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).context("writing the answer")
}

/// Everything, listed once.
async fn listed(client: &Client) -> anyhow::Result<Stores> {
    // The store tries for ever; who stands before a terminal wants to know at once what is missing.
    let one = ListParams::default().limit(1);
    Api::<CoreNamespace>::all(client.clone()).list_metadata(&one).await.context("listing namespaces")?;
    Api::<CorePod>::all(client.clone()).list_metadata(&one).await.context("listing pods")?;
    let stores = Stores::default();
    let following = tokio::spawn(stores.clone().follow(client.clone()));
    let synced = async { tokio::join!(stores.namespaces.synced(), stores.pods.synced()) };
    let outcome = tokio::time::timeout(LIST_TIME_MAX, synced).await;
    following.abort();
    // Until it has ended: what it would say of a client that goes away is nobody's business.
    let _ = following.await;
    outcome.with_context(|| format!("not everything was listed within {LIST_TIME_MAX:?}"))?;
    Ok(stores)
}

async fn findings(live: &Live, policy: &Policy, stores: &Stores) -> Vec<Finding> {
    let mut found = Vec::new();
    let all = stores.namespaces.all();
    for namespace in &all {
        for pod in stores.pods.of(&namespace.name) {
            found.extend(pods::examine(policy, namespace, &pod, None));
        }
    }
    let proved = all.into_iter().filter(|namespace| namespaces::wants_proof(policy, namespace));
    let mut proofs = futures::stream::iter(proved)
        .map(|namespace: Arc<Namespace>| async move {
            let proof = live.prove_known(&namespace).await;
            (namespace, proof)
        })
        .buffer_unordered(PROOFS_AT_ONCE);
    while let Some((namespace, proof)) = proofs.next().await {
        let proof = proof.as_ref().map(Vec::as_slice).map_err(String::as_str);
        found.extend(namespaces::examine(policy, &namespace, proof));
    }
    found
}

async fn hits(live: &Live, policy: &Policy, stores: &Stores) -> Vec<enforce::Hit> {
    let hits = enforce::hits(policy, &stores.namespaces.all(), &stores.pods.all());
    let stores = &stores;
    let mut hits: Vec<enforce::Hit> = futures::stream::iter(hits)
        .map(|mut hit| async move {
            if let Some(namespace) = stores.namespaces.get("", &hit.namespace) {
                let proof = live.prove_known(&namespace).await;
                hit.missing = proof.map(|defects| defects.iter().map(ToString::to_string).collect());
            }
            hit
        })
        .buffer_unordered(PROOFS_AT_ONCE)
        .collect()
        .await;
    hits.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    hits
}
