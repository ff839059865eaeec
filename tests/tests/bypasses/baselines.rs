//! What a ready namespace's isolation rests on: whatever is tried, the proof holds after it.

use anyhow::{Context as _, Result, ensure};
use contract::proof::{Observed, prove};
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{Api, Client};
use serde_json::{Value, json};
use tests::bypasses::Served;
use tests::bypasses::caller::{Answer, Caller, Patch};
use tests::bypasses::classes::Class;

use crate::Ways;

const GUARD: &str = "baseline.guard.agent-ready.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// What the proof misses in the namespace as it is.
async fn missing(client: &Client, namespace: &str) -> Result<Vec<String>> {
    let all = kube::api::ListParams::default();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let network_policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let resource_quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    let role_bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let limit_ranges: Api<LimitRange> = Api::namespaced(client.clone(), namespace);
    let metadata = namespaces.get(namespace).await?.metadata;
    let defects = prove(&Observed {
        labels: &metadata.labels.unwrap_or_default(),
        annotations: &metadata.annotations.unwrap_or_default(),
        network_policies: &network_policies.list(&all).await?.items,
        resource_quotas: &resource_quotas.list(&all).await?.items,
        role_bindings: &role_bindings.list(&all).await?.items,
        limit_ranges: &limit_ranges.list(&all).await?.items,
    });
    Ok(defects.iter().map(ToString::to_string).collect())
}

/// The object of the baseline that is of this resource, what weakens it, and what is made beside it.
fn target(served: &Served) -> Option<(&'static str, Value, Value)> {
    let everybody = json!([{"apiGroup": RBAC, "kind": "Group", "name": "system:authenticated"}]);
    let amounts = json!({"cpu": "64", "memory": "64Gi"});
    Some(match served.resource.as_str() {
        "networkpolicies" => (
            "default-deny",
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}}),
            json!({"spec": {"podSelector": {}, "ingress": [{}]}}),
        ),
        "resourcequotas" => (
            "tenant-quota",
            json!({"spec": {"hard": {"requests.cpu": "1000"}}, "status": {"used": {"requests.cpu": "0"}, "hard": {"requests.cpu": "1000"}}}),
            json!({"spec": {"hard": {"requests.cpu": "1000"}}}),
        ),
        "limitranges" => (
            "tenant-limits",
            json!({"spec": {"limits": [{"type": "Container", "max": amounts}]}}),
            json!({"spec": {"limits": [{"type": "Container", "default": amounts}]}}),
        ),
        "rolebindings" => (
            "tenant-owner",
            json!({"subjects": everybody}),
            json!({"subjects": everybody, "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}}),
        ),
        _ => return None,
    })
}

/// Everything that this verb can ask for to the baseline's harm.
async fn attempts(caller: &Caller, served: &Served, verb: &str, namespace: &str) -> Result<Vec<Answer>> {
    let (name, weak, beside) = target(served).with_context(|| format!("how is {served} weakened?"))?;
    let (path, collection) = (served.path(namespace, name), served.collection(namespace));
    let typed = |object: &Value, name: &str| {
        let mut typed = object.clone();
        let group = if served.group.is_empty() { String::new() } else { format!("{}/", served.group) };
        typed["apiVersion"] = json!(format!("{group}{}", served.version));
        typed["kind"] = json!(served.kind);
        typed["metadata"]["name"] = json!(name);
        typed
    };
    let mut answers = Vec::new();
    match verb {
        "create" => {
            answers.push(caller.ask("POST", &collection, &typed(&beside, "beside-a")).await?);
            answers.push(
                caller.ask("PUT", &format!("{collection}/beside-b"), &typed(&beside, "beside-b")).await?,
            );
            let apply = format!("{collection}/beside-c");
            answers.push(caller.patch(Patch::Apply, &apply, &typed(&beside, "beside-c")).await?);
        }
        "update" => {
            let mut present = caller.ask("GET", &format!("{collection}/{name}"), &Value::Null).await?.body;
            for (key, value) in weak.as_object().into_iter().flatten() {
                present[key] = value.clone();
            }
            answers.push(caller.ask("PUT", &path, &present).await?);
        }
        "patch" => {
            for patch in Patch::ALL {
                let operations: Value = weak
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| json!({"op": "replace", "path": format!("/{key}"), "value": value}))
                    .collect();
                let body = match patch {
                    Patch::Json => operations,
                    Patch::Merge | Patch::Strategic => weak.clone(),
                    Patch::Apply => {
                        let mut apply = typed(&weak, name);
                        // A binding's role is not left out.
                        if !beside["roleRef"].is_null() {
                            apply["roleRef"] = beside["roleRef"].clone();
                            apply["roleRef"]["name"] = json!("admin");
                        }
                        apply
                    }
                };
                answers.push(caller.patch(patch, &path, &body).await?);
            }
        }
        "delete" => answers.push(caller.ask("DELETE", &path, &Value::Null).await?),
        "deletecollection" => answers.push(caller.ask("DELETE", &collection, &Value::Null).await?),
        _ => {}
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_baseline_is_weakened_through_any_verb_or_subresource() -> Result<()> {
    let ways = Ways::find().await?;
    let client = ways.gate.platform.client().await?;
    let namespace = ways.gate.ready().await?;
    ensure!(missing(&client, &namespace).await?.is_empty(), "the namespace is not proved");
    let (mut tried, mut refused) = (0, 0);
    for (served, verbs) in ways.of(Class::Baseline) {
        for verb in verbs {
            for caller in [&ways.admin, &ways.owner] {
                for answer in attempts(caller, served, verb, &namespace).await? {
                    tried += 1;
                    refused += usize::from(answer.refused_by(GUARD));
                    let missing = missing(&client, &namespace).await?;
                    ensure!(
                        missing.is_empty(),
                        "{verb} of {served} by {} broke the proof: {missing:?}; {answer:?}",
                        caller.name()
                    );
                }
            }
        }
    }
    eprintln!("{tried} attempts on a baseline, {refused} refused by the guard, the proof held after each");
    ensure!(refused >= 30, "only {refused} of {tried} attempts came to the guard");
    ways.gate.delete(&[&namespace]).await
}
