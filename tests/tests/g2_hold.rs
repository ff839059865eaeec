//! G2: in mode `hold` pods come in but wait; once the namespace is ready they are admitted a second time and released, by
//! nobody but our own controller.

mod gate;

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{Gate, LABEL_GUARD, eventually, pod};
use serde_json::{Value, json};

const HOLD: &str = "admission webhook \"pods.hold.agent-ready.io\" denied the request";

/// A tenant's namespace in mode hold, without its baseline yet, and the manifests of what it lacks.
struct Tenant {
    name: String,
    children: String,
    pod_security: Vec<String>,
}

impl Tenant {
    /// `injected`: whether pods get the sidecar from the beginning on.
    async fn new(gate: &Gate, injected: bool) -> Result<Self> {
        let (name, (namespace, children)) = Gate::tenant()?;
        let mut namespace: Value = serde_json::from_str(&namespace)?;
        let labels = namespace["metadata"]["labels"].as_object_mut().context("labels")?;
        labels.insert(names::MODE_LABEL.to_owned(), json!("hold"));
        if !injected {
            labels.insert(names::INJECT_LABEL.to_owned(), json!("disabled"));
        }
        // Without Pod Security: it comes with the baseline, as on a cluster that has just been given the gate.
        let mut pod_security = Vec::new();
        labels.retain(|key, value| {
            let later = key.starts_with(names::POD_SECURITY_PREFIX);
            if later {
                pod_security.push(format!("{key}={}", value.as_str().unwrap_or_default()));
            }
            !later
        });
        gate.provisioner.may("create -f -", &namespace.to_string()).await?;
        let wait = format!("wait serviceaccount/default --for=create --timeout=30s --namespace={name}");
        gate.admin.may(&wait, "").await?;
        Ok(Self { name, children, pod_security })
    }

    /// The baseline, in force.
    async fn baseline(&self, gate: &Gate) -> Result<()> {
        gate.provisioner.may("apply --server-side -f -", &self.children).await?;
        gate.provisioner
            .may(&format!("label namespace {} {}", self.name, self.pod_security.join(" ")), "")
            .await?;
        gate.quota_is_enforced(&self.name).await
    }

    /// Says when the namespace became ready.
    async fn ready(&self, gate: &Gate) -> Result<Instant> {
        gate.provisioner
            .may(&format!("label namespace {} {}=true", self.name, names::GATE_LABEL), "")
            .await?;
        Ok(Instant::now())
    }

    async fn may(&self, gate: &Gate, command: &str, input: &Value) -> Result<String> {
        let input = if input.is_null() { String::new() } else { input.to_string() };
        gate.admin.may(&format!("{command} --namespace={}", self.name), &input).await
    }

    async fn pods(&self, gate: &Gate) -> Result<Vec<Value>> {
        let list = gate.admin.get(&format!("pods --namespace={}", self.name)).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until there are `count` pods that all pass `test`.
    async fn all(
        &self,
        gate: &Gate,
        what: &str,
        count: usize,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>> {
        eventually(what, async || {
            let pods = self.pods(gate).await?;
            Ok((pods.len() == count && pods.iter().all(&test)).then_some(pods))
        })
        .await
    }

    /// The Events with this reason.
    async fn events(&self, gate: &Gate, reason: &str) -> Result<Vec<Value>> {
        let list = gate.admin.get(&format!("events --namespace={}", self.name)).await?;
        let events = list["items"].as_array().cloned().unwrap_or_default();
        Ok(events.into_iter().filter(|event| event["reason"] == reason).collect())
    }
}

fn is_held(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| gates.iter().any(|gate| gate["name"] == names::HOLD_GATE))
}

fn is_owned(pod: &Value) -> bool {
    !pod["metadata"]["ownerReferences"].is_null()
}

fn is_leaving(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// A pod that the baseline admits as it is: requests and limits of its own, restricted.
fn modest(metadata: &Value) -> Value {
    let mut pod = pod(metadata);
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
    let container = &mut pod["spec"]["containers"][0];
    container["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let amount = json!({"cpu": "1m", "memory": "8Mi", "ephemeral-storage": "1Mi"});
    container["resources"] =
        json!({"requests": amount, "limits": {"cpu": "10m", "memory": "8Mi", "ephemeral-storage": "1Mi"}});
    pod
}

/// A workload whose template is this pod's.
fn workload(kind: &str, name: &str, pod: &Value, more: &Value) -> Value {
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": pod["spec"]});
    let mut spec = more.clone();
    spec["template"] = template;
    let api = if kind == "Job" {
        spec["template"]["spec"]["restartPolicy"] = json!("Never");
        "batch/v1"
    } else {
        spec["selector"] = json!({"matchLabels": labels});
        "apps/v1"
    };
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_are_held_and_then_released_as_they_are() -> Result<()> {
    let gate = Gate::shared().await?;
    let tenant = Tenant::new(&gate, false).await?;
    let plain = modest(&json!({}));
    let mut scheduled = modest(&json!({"name": "own-scheduler"}));
    scheduled["spec"]["schedulerName"] = json!("another-scheduler");
    scheduled["spec"]["schedulingGates"] = json!([{"name": "example.com/another"}]);
    let job = workload("Job", "job", &plain, &json!({}));
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job["spec"]}}});
    let mut count = 5;
    for manifest in [
        &workload("Deployment", "web", &plain, &json!({"replicas": 1})),
        &workload("StatefulSet", "db", &plain, &json!({"replicas": 1, "serviceName": "db"})),
        &job,
        &cron,
        &scheduled,
    ] {
        tenant.may(&gate, "create -f -", manifest).await?;
    }
    tenant.may(&gate, "create job from-cron --from=cronjob/cron", &Value::Null).await?;
    if gate.platform.has_node() {
        tenant.may(&gate, "create -f -", &workload("DaemonSet", "agent", &plain, &json!({}))).await?;
        count += 1;
    }
    let held = tenant.all(&gate, "every pod is held", count, is_held).await?;
    let uids = |pods: &[Value]| {
        let mut uids: Vec<_> = pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids
    };
    tenant.baseline(&gate).await?;
    ensure!(tenant.pods(&gate).await?.iter().all(is_held), "released before the namespace was ready");
    let ready = tenant.ready(&gate).await?;
    let free = tenant.all(&gate, "every pod is released", count, |pod| !is_held(pod)).await?;
    println!("{count} pods of all kinds released within {:?} of the label", ready.elapsed());
    ensure!(uids(&free) == uids(&held), "a pod was made anew that need not be: {free:#?}");
    let own = free.iter().find(|pod| pod["metadata"]["name"] == "own-scheduler").context("own-scheduler")?;
    ensure!(
        own["spec"]["schedulingGates"] == json!([{"name": "example.com/another"}]),
        "another's gate: {own}"
    );
    if gate.platform.has_node() {
        eventually("the pods run", async || {
            let pods = tenant.pods(&gate).await?;
            let started =
                |pod: &&Value| matches!(pod["status"]["phase"].as_str(), Some("Running" | "Succeeded"));
            Ok((pods.iter().filter(started).count() >= count - 1).then_some(()))
        })
        .await?;
    }
    gate.delete(&[&tenant.name]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_takes_the_gate_off() -> Result<()> {
    let gate = Gate::shared().await?;
    let tenant = Tenant::new(&gate, true).await?;
    let name = &tenant.name;
    let warned = tenant.may(&gate, "create -f -", &modest(&json!({"name": "a"}))).await?;
    ensure!(warned.contains("The pod waits, held by the scheduling gate"), "no warning: {warned}");
    // A gate that another controller owns too: it must be possible to take that one off.
    let removal = r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#;
    let merge = r#"{"spec":{"schedulingGates":null}}"#;
    let strategic = r#"{"spec":{"schedulingGates":[{"$patch":"delete","name":"agent-ready.io/isolation"}]}}"#;
    let mut free = gate.admin.get(&format!("pod a --namespace={name}")).await?;
    free["spec"]["schedulingGates"] = json!([]);
    if let Some(metadata) = free["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let free = free.to_string();
    let applied = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"schedulingGates": []}});
    let everyone = [
        "",
        "--as=system:kube-scheduler --as-group=system:masters",
        "--as=eve --as-group=system:masters",
        "--as=ops --as-group=agent-ready:break-glass --as-group=system:masters",
    ];
    tenant.may(&gate, "create rolebinding eve --clusterrole=admin --user=eve", &Value::Null).await?;
    for who in everyone.into_iter().chain(["--as=eve"]) {
        let ask = |command: String| format!("{command} {who}").trim().to_owned();
        for (kind, patch) in [("json", removal), ("merge", merge), ("strategic", strategic)] {
            let command = ask(format!("patch pod a --namespace={name} --type={kind} --patch={patch}"));
            let message = gate.admin.may_not(HOLD, &command, "").await?;
            ensure!(message.contains("only the gate's own release controller takes it off"), "{message}");
        }
        gate.admin.may_not(HOLD, &ask(format!("replace -f - --namespace={name}")), &free).await?;
    }
    // Server-side apply of a pod without the gate leaves it where it is, or is refused.
    let _ = gate
        .admin
        .ask(&format!("apply --server-side --force-conflicts -f - --namespace={name}"), &applied.to_string())
        .await?;
    // Subresources: status and resize do not change gates, binding is refused by the apiserver itself.
    for subresource in ["status", "resize", "ephemeralcontainers"] {
        let command = format!(
            "patch pod a --namespace={name} --subresource={subresource} --type=merge --patch={merge}"
        );
        let _ = gate.admin.ask(&command, "").await?;
    }
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a", "namespace": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"}});
    let bind = format!("create --raw /api/v1/namespaces/{name}/pods/a/binding -f -");
    gate.admin.may_not("schedulingGates", &bind, &binding.to_string()).await?;
    let pods = tenant.pods(&gate).await?;
    ensure!(pods.len() == 1 && is_held(&pods[0]) && pods[0]["spec"]["nodeName"].is_null(), "{pods:#?}");
    // What does not touch the gate goes on.
    gate.admin.may(&format!("label pod a --namespace={name} note=b"), "").await?;
    gate.delete(&[name]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_held_is_refused_with_that_reason() -> Result<()> {
    let gate = Gate::shared().await?;
    let tenant = Tenant::new(&gate, true).await?;
    let mut bound = modest(&json!({"name": "a"}));
    bound["spec"]["nodeName"] = json!("node-1");
    let mut mirror = bound.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "a"});
    for (pod, why) in [(&bound, "names its node (\"node-1\") itself"), (&mirror, "mirrors a static pod")] {
        let command = format!("create -f - --namespace={}", tenant.name);
        let message = gate.admin.may_not(HOLD, &command, &pod.to_string()).await?;
        ensure!(message.contains(why) && message.contains("To do:"), "{message}");
    }
    gate.delete(&[&tenant.name]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_held_before_the_baseline_existed_never_run_as_they_were() -> Result<()> {
    let gate = Gate::shared().await?;
    let tenant = Tenant::new(&gate, false).await?;
    let mut privileged = modest(&json!({}));
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let mut unbounded = modest(&json!({}));
    if let Some(container) = unbounded["spec"]["containers"][0].as_object_mut() {
        container.remove("resources");
    }
    let sidecarless = modest(&json!({}));
    let kinds = [("privileged", &privileged), ("unbounded", &unbounded), ("sidecarless", &sidecarless)];
    let old = both(&gate, &tenant, &kinds).await?;
    let inject = format!("label namespace {} {}=enabled --overwrite", tenant.name, names::INJECT_LABEL);
    gate.provisioner.may(&inject, "").await?;
    tenant.baseline(&gate).await?;
    tenant.ready(&gate).await?;

    // Those with a controller are made anew: within the limits and with the sidecar, or refused for what they are.
    eventually("the controllers' pods are made anew", async || {
        let pods = tenant.pods(&gate).await?;
        let owned: Vec<_> = pods.iter().filter(|pod| is_owned(pod) && !is_leaving(pod)).collect();
        ensure!(
            owned.iter().all(|pod| is_held(pod) || !old.contains(&pod["metadata"]["uid"])),
            "one ran as it was"
        );
        let names: Vec<&str> =
            owned.iter().filter_map(|pod| pod["metadata"]["labels"]["app"].as_str()).collect();
        let complete = |pod: &&Value| {
            pod["spec"]["initContainers"][0]["name"] == names::SIDECAR_CONTAINER
                && !pod["spec"]["containers"][0]["resources"]["requests"].is_null()
                && !is_held(pod)
        };
        let expected = names.len() == 2 && names.contains(&"unbounded") && names.contains(&"sidecarless");
        Ok((expected && owned.iter().all(complete)).then_some(()))
    })
    .await?;
    // Bare pods stay, and their one Event says why.
    for (name, why) in [
        ("privileged", "violates PodSecurity"),
        ("unbounded", "would change it"),
        ("sidecarless", "/spec/initContainers"),
    ] {
        stays(&gate, &tenant, name, why).await?;
    }
    ensure!(!tenant.events(&gate, "HeldPodRecreated").await?.is_empty(), "nothing tells what was deleted");
    gate.delete(&[&tenant.name]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_held_over_the_quota_do_not_run() -> Result<()> {
    let gate = Gate::shared().await?;
    let tenant = Tenant::new(&gate, false).await?;
    let mut greedy = modest(&json!({}));
    let amount = json!({"cpu": "6", "memory": "8Mi"});
    greedy["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
    // Twelve cores where ten are allowed: one too many, whichever.
    let old = both(&gate, &tenant, &[("greedy", &greedy)]).await?;
    tenant.baseline(&gate).await?;
    tenant.ready(&gate).await?;
    stays(&gate, &tenant, "greedy", "exceeded quota").await?;
    eventually("the Deployment's pod is deleted, and refused when it is made anew", async || {
        let failed = tenant.events(&gate, "FailedCreate").await?;
        let quota = failed
            .iter()
            .any(|event| event["message"].as_str().is_some_and(|text| text.contains("exceeded quota")));
        let pods = tenant.pods(&gate).await?;
        ensure!(
            pods.iter().all(|pod| is_held(pod) || !old.contains(&pod["metadata"]["uid"])),
            "one ran as it was"
        );
        Ok((quota && pods.iter().all(|pod| !is_owned(pod) || is_leaving(pod))).then_some(()))
    })
    .await?;
    gate.delete(&[&tenant.name]).await
}

/// A bare pod and a Deployment of each kind, all held. Their UIDs.
async fn both(gate: &Gate, tenant: &Tenant, kinds: &[(&str, &Value)]) -> Result<Vec<Value>> {
    for (name, pod) in kinds {
        let mut bare = (*pod).clone();
        bare["metadata"] = json!({"name": name});
        tenant.may(gate, "create -f -", &bare).await?;
        tenant.may(gate, "create -f -", &workload("Deployment", name, pod, &json!({"replicas": 1}))).await?;
    }
    let held = tenant.all(gate, "every pod is held", 2 * kinds.len(), is_held).await?;
    Ok(held.iter().map(|pod| pod["metadata"]["uid"].clone()).collect())
}

/// Waits for the one Event of a bare pod that stays held, and sees that it does.
async fn stays(gate: &Gate, tenant: &Tenant, name: &str, why: &str) -> Result<()> {
    let message = eventually(&format!("the Event of {name}"), async || {
        let events = tenant.events(gate, "StaysHeld").await?;
        let of: Vec<_> = events.iter().filter(|event| event["involvedObject"]["name"] == name).collect();
        ensure!(of.len() <= 1, "more than one Event: {of:#?}");
        Ok(of.first().and_then(|event| event["message"].as_str()).map(str::to_owned))
    })
    .await?;
    ensure!(message.contains(why) && message.contains("To do:"), "{name}: {message}");
    let pod = gate.admin.get(&format!("pod {name} --namespace={}", tenant.name)).await?;
    ensure!(is_held(&pod), "{pod}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_a_lenient_mode_releases_too() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let mode = async |mode: &str| {
        let label = format!("label namespace {namespace} {}={mode} --overwrite", names::MODE_LABEL);
        gate.admin.may_not(LABEL_GUARD, &label, "").await?;
        gate.break_glass.may(&label, "").await
    };
    mode("hold").await?;
    gate.admin
        .may(&format!("wait serviceaccount/default --for=create --timeout=30s --namespace={namespace}"), "")
        .await?;
    let create = format!("create -f - --namespace={namespace}");
    eventually("the apiserver sees the mode", async || {
        let pod = pod(&json!({"name": "a"})).to_string();
        Ok(gate.admin.may(&create, &pod).await.ok())
    })
    .await?;
    let held = gate.admin.get(&format!("pod a --namespace={namespace}")).await?;
    ensure!(is_held(&held), "{held}");
    mode("audit").await?;
    eventually("the pod is released", async || {
        let pod = gate.admin.get(&format!("pod a --namespace={namespace}")).await?;
        Ok((!is_held(&pod)).then_some(()))
    })
    .await?;
    gate.delete(&[&namespace]).await
}
