//! G15: the injection beside what else decides about a tenant's pods on a real node: another mutating webhook, a LimitRange of
//! the tenant's own, a kubelet's static pods, and the sidecar of another release.

mod gate;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use axum::{Json, Router, routing::post};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use contract::names;
use gate::{Gate, eventually, fresh};
use serde_json::{Value, json};
use tests::{
    Platform,
    cluster::node,
    pods::{Inhabited, pod, with_pods},
};

fn sidecars(pod: &Value) -> Vec<&Value> {
    let init = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    init.filter(|container| container["name"] == names::SIDECAR_CONTAINER).collect()
}

/// Whether the container was told where the sidecar is.
fn knows_the_sidecar(container: &Value) -> bool {
    let variable = json!({"name": names::CONFIG_URL_ENV, "value": names::CONFIG_URL});
    container["env"].as_array().is_some_and(|env| env.contains(&variable))
}

/// Another mutating webhook, asked after ours: what it changes has ours asked again. It ends with the value.
struct Other {
    name: String,
    gate: Gate,
    server: Handle<SocketAddr>,
}

impl Other {
    async fn start(namespace: &str) -> Result<Self> {
        let gate = Gate::shared().await?;
        let address = gate.platform.host_ip();
        let issued =
            gate.platform.authority()?.issue("journey-other", "other", &[], &[&address.to_string()])?;
        let tls = webhook::serve::tls::server_config(&issued.certificate, &issued.key)?;
        let listener = TcpListener::bind((address, 0))?;
        listener.set_nonblocking(true)?;
        let (server, port) = (Handle::new(), listener.local_addr()?.port());
        let routes = Router::new().route("/", post(async |Json(review): Json<Value>| Json(answer(&review))));
        let serve = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))?;
        tokio::spawn(serve.handle(server.clone()).serve(routes.into_make_service()));
        // The apiserver asks webhooks in the order of their configurations' names.
        let name = fresh("journey-");
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "other.journey.example", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "reinvocationPolicy": "IfNeeded", "failurePolicy": "Fail",
                "clientConfig": {
                    "url": format!("https://{address}:{port}/"),
                    "caBundle": STANDARD.encode(fs::read(gate.platform.ca_file())?),
                },
                "namespaceSelector": {"matchLabels": {names::NAMESPACE_NAME_LABEL: namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }],
        });
        gate.admin.may("create -f -", &configuration.to_string()).await?;
        Ok(Self { name, gate, server })
    }

    async fn end(self) -> Result<()> {
        self.server.shutdown();
        self.gate.admin.may(&format!("delete mutatingwebhookconfiguration {}", self.name), "").await.map(drop)
    }
}

/// Labels the pod, and gives it a second container where the pod asks for one.
fn answer(review: &Value) -> Value {
    let pod = &review["request"]["object"];
    let mut patch = vec![json!({"op": "add", "path": "/metadata/labels", "value": {"seen": "true"}})];
    let containers = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    if pod["metadata"]["annotations"]["journey.example/adds"] == "container" && containers == 1 {
        let mut added = pod["spec"]["containers"][0].clone();
        added["name"] = json!("added");
        added["env"] = json!([]);
        patch.push(json!({"op": "add", "path": "/spec/containers/0", "value": added}));
    }
    let response = json!({"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch",
        "patch": STANDARD.encode(json!(patch).to_string())});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

/// How often the apiserver has asked our injection, by its own count.
async fn calls(tenant: &Inhabited) -> Result<u64> {
    let metrics = tenant.kubectl("get --raw /metrics").await?;
    let ours = metrics.lines().filter(|line| {
        line.starts_with("apiserver_admission_webhook_admission_duration_seconds_count{")
            && line.contains("name=\"pods.inject.agent-ready.io\"")
    });
    ours.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<u64>()?)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_again_after_another_webhook_it_changes_nothing_of_its_own() -> Result<()> {
    with_pods(Platform::shared().await?, async |tenant| {
        let version = tenant.put("threshold", json!(0.75)).await?;
        tenant.run(&pod("alone", &["sleep"])).await?;
        let alone = tenant.pod("alone").await?;
        let other = Other::start(&tenant.namespace).await?;
        let outcome = beside(tenant, &alone, version).await;
        other.end().await?;
        outcome
    })
    .await
}

async fn beside(tenant: &Inhabited, alone: &Value, version: u64) -> Result<()> {
    let plain = pod("plain", &["sleep"]);
    eventually("the other webhook is asked", async || {
        let mut probe = plain.clone();
        probe["metadata"]["name"] = json!(fresh("probe-"));
        tenant.make(&probe).await?;
        let name = probe["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let seen = tenant.pod(&name).await?["metadata"]["labels"]["seen"] == "true";
        tenant.kubectl(&format!("delete pod {name} --wait=false --grace-period=0")).await?;
        Ok(seen.then_some(()))
    })
    .await?;
    let before = calls(tenant).await?;
    tenant.run(&plain).await?;
    let asked = calls(tenant).await? - before;
    ensure!(asked >= 2, "the injection was asked {asked} times about this pod");
    let plain = tenant.pod("plain").await?;
    ensure!(plain["spec"]["initContainers"] == mounted(alone, &plain)["spec"]["initContainers"], "{plain}");
    ensure!(plain["spec"]["containers"] == mounted(alone, &plain)["spec"]["containers"], "{plain}");

    let mut grows = pod("grows", &["sleep"]);
    grows["metadata"]["annotations"] = json!({"journey.example/adds": "container"});
    tenant.run(&grows).await?;
    let grows = tenant.pod("grows").await?;
    ensure!(grows["spec"]["initContainers"] == mounted(alone, &grows)["spec"]["initContainers"], "{grows}");
    for container in [&grows["spec"]["containers"][0], &grows["spec"]["containers"][1]] {
        ensure!(knows_the_sidecar(container), "added after the first admission: {container}");
    }
    ensure!(tenant.value("grows", "threshold").await? == (json!(0.75), version), "another value");
    Ok(())
}

/// The first pod with the name of chance that the second one's API token volume has.
fn mounted(first: &Value, second: &Value) -> Value {
    let name = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let mut names = volumes.filter_map(|volume| volume["name"].as_str());
        names.find(|name| name.starts_with("kube-api-access")).unwrap_or("none").to_owned()
    };
    serde_json::from_str(&first.to_string().replace(&name(first), &name(second))).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_a_limit_range_or_the_refusal_says_which_maximum_it_exceeds() -> Result<()> {
    with_pods(Platform::shared().await?, async |tenant| {
        let limits = |memory: &str| {
            let item = json!({"type": "Container", "max": {"cpu": "200m", "memory": memory},
                "default": {"cpu": "50m", "memory": "16Mi"}, "defaultRequest": {"cpu": "5m", "memory": "16Mi"}});
            json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "own"}, "spec": {"limits": [item]}})
        };
        let amount = json!({"cpu": "50m", "memory": "16Mi"});
        let modest = |name: &str| {
            let mut pod = pod(name, &["sleep"]);
            pod["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
            pod
        };
        // As much as the sidecar may take, and not a byte more.
        tenant.make(&limits("64Mi")).await?;
        tenant.run(&modest("fits")).await?;
        ensure!(sidecars(&tenant.pod("fits").await?).len() == 1, "not injected");

        tenant.kubectl("delete limitrange own").await?;
        tenant.make(&limits("32Mi")).await?;
        let says = "maximum memory usage per Container is 32Mi, but limit is 64Mi";
        // The apiserver's copy of the limits lags behind a write.
        eventually("the maximum is in force", async || {
            let refused = tenant.kubectl("run a --image=a --dry-run=server").await;
            Ok(refused.err().filter(|error| format!("{error:#}").contains("32Mi")).map(drop))
        })
        .await?;
        let Err(refused) = tenant.make(&modest("too-much")).await else { anyhow::bail!("it was let in") };
        ensure!(format!("{refused:#}").contains(says), "{refused:#}");
        let mut without = modest("without");
        without["metadata"]["annotations"] = json!({names::INJECT_LABEL: "disabled"});
        tenant.run(&without).await?;
        let without = tenant.pod("without").await?;
        ensure!(without["spec"]["initContainers"].is_null(), "it opted out: {without}");
        ensure!(!knows_the_sidecar(&without["spec"]["containers"][0]), "it opted out: {without}");
        Ok(())
    })
    .await
}

/// A file of the kubelet's, gone with the value.
struct StaticPod(PathBuf);

impl Drop for StaticPod {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_of_a_static_pod_is_left_as_it_is() -> Result<()> {
    let platform = Platform::shared().await?;
    with_pods(platform, async |tenant| {
        let folder = node::static_pods(platform.host());
        if !folder.is_dir() {
            eprintln!("NOT PROVED: the kubelet is not one of ours");
            return Ok(());
        }
        let mut written = pod(&fresh("static-"), &["sleep"]);
        written["metadata"]["namespace"] = json!(tenant.namespace);
        let amount = json!({"cpu": "5m", "memory": "16Mi"});
        written["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
        let name = written["metadata"]["name"].as_str().context("a name")?;
        let file = StaticPod(folder.join(format!("{name}.json")));
        fs::write(&file.0, written.to_string())?;
        let mirror = eventually("the mirror pod runs", async || {
            let pod = tenant.pod(&format!("{name}-local")).await.ok();
            Ok(pod.filter(|pod| pod["status"]["phase"] == "Running"))
        })
        .await?;
        ensure!(
            !mirror["metadata"]["annotations"][names::MIRROR_ANNOTATION].is_null(),
            "no mirror: {mirror}"
        );
        let spec = &mirror["spec"];
        ensure!(spec["initContainers"].is_null() && spec["volumes"].is_null(), "{mirror}");
        ensure!(spec["containers"][0]["env"].is_null(), "{mirror}");
        drop(file);
        eventually("the mirror pod goes", async || {
            Ok(tenant.pod(&format!("{name}-local")).await.is_err().then_some(()))
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_the_sidecar_of_another_release_runs_with_this_ones() -> Result<()> {
    with_pods(Platform::shared().await?, async |tenant| {
        let version = tenant.put("threshold", json!(0.75)).await?;
        tenant.run(&pod("now", &["sleep"])).await?;
        let now = tenant.pod("now").await?;
        // As a backup brings it back: nobody has this image any more.
        let mut spec = now["spec"].clone();
        spec["initContainers"][0]["image"] = json!("localhost/agent-ready/sidecar:0");
        spec["initContainers"][0]["args"] = json!(["as", "it", "was"]);
        spec["nodeName"] = Value::Null;
        tenant
            .run(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "restored"}, "spec": spec}))
            .await?;
        let restored = tenant.pod("restored").await?;
        ensure!(restored["spec"]["initContainers"] == now["spec"]["initContainers"], "{restored}");
        ensure!(tenant.value("restored", "threshold").await? == (json!(0.75), version), "another value");
        Ok(())
    })
    .await
}
