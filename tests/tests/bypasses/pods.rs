//! Pods in a namespace that is not ready.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::bypasses::Served;
use tests::bypasses::caller::Patch;
use tests::bypasses::classes::Class;

use crate::Ways;
use crate::gate::{eventually, pod};

const GATE: &str = "pods.gate.agent-ready.io";

/// No pod is there, however it came.
async fn no_pods(ways: &Ways, namespace: &str) -> Result<()> {
    let pods = ways.gate.admin.get(&format!("pods --namespace={namespace}")).await?;
    ensure!(pods["items"] == json!([]), "a pod is in {namespace}: {pods}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pod_is_created_by_whoever_asks() -> Result<()> {
    let ways = Ways::find().await?;
    let namespace = ways.gate.namespace().await?;
    let whole = pod(&json!({"name": "a"}));
    let callers = [
        ways.admin.clone(),
        ways.admin.acting_as("system:serviceaccount:kube-system:replicaset-controller", &["system:masters"]),
        ways.admin.acting_as("system:apiserver", &["system:masters"]),
        ways.admin.acting_as("ops", &["agent-ready:break-glass", "system:masters"]),
        ways.admin.acting_as("system:serviceaccount:agent-ready-system:provisioner", &["system:masters"]),
    ];
    for (served, verbs) in ways.of(Class::Pod) {
        let (collection, path) = (served.collection(&namespace), served.path(&namespace, "a"));
        for caller in &callers {
            for verb in &verbs {
                let mut answers = Vec::new();
                match *verb {
                    "create" => {
                        let generated = pod(&json!({"generateName": "a-"}));
                        answers.push(caller.ask("POST", &collection, &whole).await?);
                        answers.push(caller.ask("POST", &format!("{collection}?dryRun=All"), &whole).await?);
                        answers.push(caller.ask("POST", &collection, &generated).await?);
                    }
                    "patch" => answers.push(caller.patch(Patch::Apply, &path, &whole).await?),
                    // What is not there cannot be changed, and a PUT makes no pod.
                    "update" => {
                        let put = caller.ask("PUT", &path, &whole).await?;
                        ensure!(!put.done(), "PUT made a pod: {put:?}");
                    }
                    _ => {}
                }
                for answer in answers {
                    // The provisioner makes no pods anywhere: a policy of its own speaks first.
                    let by_policy = answer
                        .body
                        .to_string()
                        .contains("ValidatingAdmissionPolicy 'agent-ready-provisioner'");
                    ensure!(
                        answer.refused_by(GATE) || by_policy,
                        "{verb} {served} as {}: {answer:?}",
                        caller.name()
                    );
                }
            }
        }
    }
    // A node's own kubelet, with the mirror of a static pod.
    let mut mirror = whole.clone();
    mirror["metadata"]["annotations"] =
        json!({"kubernetes.io/config.mirror": "a", "kubernetes.io/config.source": "file"});
    mirror["spec"]["nodeName"] = json!("node");
    for groups in [&["system:nodes"][..], &["system:nodes", "system:masters"]] {
        let node = ways.admin.acting_as("system:node:node", groups);
        let answer = node.ask("POST", &format!("/api/v1/namespaces/{namespace}/pods"), &mirror).await?;
        ensure!(!answer.done(), "a mirror pod: {answer:?}");
    }
    no_pods(&ways, &namespace).await?;
    ways.gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_a_pod_make_none() -> Result<()> {
    let ways = Ways::find().await?;
    let namespace = ways.gate.namespace().await?;
    for (served, verbs) in ways.of(Class::PartOfPod) {
        for verb in verbs {
            let (method, path) = match (verb, served.resource.as_str()) {
                ("create", "bindings") => ("POST", served.collection(&namespace)),
                ("create", _) => ("POST", served.path(&namespace, "a")),
                ("update", _) => ("PUT", served.path(&namespace, "a")),
                ("delete", _) => ("DELETE", served.path(&namespace, "a")),
                ("patch", _) => {
                    for patch in Patch::ALL {
                        let body = if patch == Patch::Json { json!([]) } else { pod(&json!({"name": "a"})) };
                        let answer = ways.admin.patch(patch, &served.path(&namespace, "a"), &body).await?;
                        ensure!(!answer.done(), "{patch:?} of {served}: {answer:?}");
                    }
                    continue;
                }
                _ => ("GET", served.path(&namespace, "a")),
            };
            let body = match served.kind.as_str() {
                "Binding" => json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"},
                    "target": {"kind": "Node", "name": "node"}}),
                "Eviction" => {
                    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}})
                }
                _ if method == "GET" => Value::Null,
                _ => pod(&json!({"name": "a"})),
            };
            let answer = ways.admin.ask(method, &path, &body).await?;
            ensure!(!answer.done(), "{verb} {served}: {answer:?}");
        }
    }
    no_pods(&ways, &namespace).await?;
    ways.gate.delete(&[&namespace]).await
}

/// An object of this resource that asks for one pod.
fn maker(served: &Served, name: &str) -> Option<Value> {
    let labels = json!({"app": name});
    let mut template = pod(&json!({"labels": labels}));
    template["spec"]["restartPolicy"] =
        if served.group == "batch" { json!("Never") } else { json!("Always") };
    if let Some(object) = template.as_object_mut() {
        object.retain(|key, _| key == "metadata" || key == "spec");
    }
    let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": template});
    let spec = match served.resource.as_str() {
        "deployments" | "replicasets" | "statefulsets" => spec,
        "daemonsets" => json!({"selector": spec["selector"], "template": template}),
        "replicationcontrollers" => json!({"replicas": 1, "selector": labels, "template": template}),
        "jobs" => json!({"template": template}),
        "cronjobs" => json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}),
        "podtemplates" => {
            return Some(
                json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}),
            );
        }
        _ => return None,
    };
    let version = if served.group.is_empty() {
        served.version.clone()
    } else {
        format!("{}/{}", served.group, served.version)
    };
    Some(json!({"apiVersion": version, "kind": served.kind, "metadata": {"name": name}, "spec": spec}))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_controller_makes_one() -> Result<()> {
    let ways = Ways::find().await?;
    let namespace = ways.gate.namespace().await?;
    let mut makers = Vec::new();
    for (served, _) in ways.of(Class::PodMaker).filter(|(served, _)| served.subresource.is_empty()) {
        let name = format!("{}-{}", served.resource, served.version);
        let object = maker(served, &name).with_context(|| format!("how is one of {served} made?"))?;
        let answer = ways.admin.ask("POST", &served.collection(&namespace), &object).await?;
        ensure!(answer.done(), "{served}: {answer:?}");
        makers.push((served, name));
    }
    for (scale, verbs) in ways.of(Class::Scale) {
        let path = scale.path(&namespace, &format!("{}-{}", scale.resource, scale.version));
        let mut scaled = ways.admin.ask("GET", &path, &Value::Null).await?.body;
        scaled["spec"]["replicas"] = json!(2);
        // Its controller writes the object too.
        scaled["metadata"]["resourceVersion"] = Value::Null;
        for verb in verbs {
            let answer = match verb {
                "update" => ways.admin.ask("PUT", &path, &scaled).await?,
                "patch" => {
                    let more = json!({"spec": {"replicas": 3}});
                    ways.admin.patch(Patch::Merge, &path, &more).await?
                }
                _ => continue,
            };
            ensure!(answer.done(), "{verb} {scale}: {answer:?}");
        }
    }
    // Each has tried, and was told why not.
    for (served, name) in &makers {
        let tries = match served.resource.as_str() {
            // A template alone does nothing, and a CronJob makes Jobs.
            "podtemplates" | "cronjobs" => continue,
            "daemonsets" if !ways.gate.platform.has_node() => continue,
            _ => name,
        };
        eventually(&format!("the controller of {name} tries"), async || {
            let events = ways.gate.admin.get(&format!("events --namespace={namespace}")).await?;
            let refused = |event: &Value| {
                let of = event["involvedObject"]["name"].as_str().unwrap_or_default();
                let message = event["message"].as_str().unwrap_or_default();
                of.starts_with(tries.as_str()) && event["reason"] == "FailedCreate" && message.contains(GATE)
            };
            Ok(events["items"].as_array().into_iter().flatten().any(refused).then_some(()))
        })
        .await?;
    }
    // Events are written at the first refusal; a second try may follow at once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    no_pods(&ways, &namespace).await?;
    ways.gate.delete(&[&namespace]).await
}
