//! G16: what is long. The longest pods that etcd holds pass the gate in every way that it decides about pods, and a body that
//! is longer than any review is answered as such.

mod gate;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{Gate, POD_GATE, eventually, pod};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use reqwest::{Client, Response, header::CONTENT_TYPE};
use serde_json::{Value, json};

/// Bytes of a long pod: etcd takes 1.5 MiB at once.
const POD_BYTES: usize = 1_400_000;
/// Bytes of a body that no apiserver sends.
const BODY_BYTES: usize = 8 * 1024 * 1024;
/// Such bodies sent at once: more than the gate holds at a time.
const AT_ONCE: usize = 8;

/// A pod of so many bytes that no node takes.
fn long() -> Result<Pod> {
    let mut pod = pod(&json!({"name": "long"}));
    pod["spec"]["nodeSelector"] = json!({"nowhere": "true"});
    pod["spec"]["containers"][0]["env"] = json!([{"name": "LONG", "value": ""}]);
    let rest = POD_BYTES - pod.to_string().len();
    pod["spec"]["containers"][0]["env"][0]["value"] = json!("x".repeat(rest));
    Ok(serde_json::from_value(pod)?)
}

fn is_held(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| gates.iter().any(|gate| gate.name == names::HOLD_GATE))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_1_4_mb_is_held_injected_changed_and_released() -> Result<()> {
    let gate = Gate::shared().await?;
    let name = gate.baseline().await?;
    gate.provisioner.may(&format!("label namespace {name} {}=hold", names::MODE_LABEL), "").await?;
    let dry = format!("create -f - --dry-run=server -o json --namespace={name}");
    let short = pod(&json!({"name": "short"})).to_string();
    // The apiserver's selector lags behind the label.
    eventually("pods are held", async || {
        Ok(gate.admin.ask(&dry, &short).await?.stdout.contains(names::HOLD_GATE).then_some(()))
    })
    .await?;

    let pods: Api<Pod> = Api::namespaced(gate.platform.client().await?, &name);
    let params = PostParams::default();
    let mut stored = pods.create(&params, &long()?).await.context("CREATE")?;
    let first = stored.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()?.first());
    ensure!(first.is_some_and(|first| first.name == names::SIDECAR_CONTAINER), "not injected");
    ensure!(is_held(&stored), "not held");
    stored.metadata.labels = Some([("note".to_owned(), "a".to_owned())].into());
    let stored = pods.replace("long", &params, &stored).await.context("UPDATE")?;

    // A review of both: the pod before and the pod after.
    let mut free = stored.clone();
    free.spec.as_mut().context("a spec")?.scheduling_gates = None;
    let refused = pods.replace("long", &params, &free).await;
    let why = "only the gate's own release controller takes it off";
    ensure!(refused.is_err_and(|error| error.to_string().contains(why)), "not refused for its reason");

    gate.provisioner.may(&format!("label namespace {name} {}=true", names::GATE_LABEL), "").await?;
    let released =
        eventually("its release", async || Ok(pods.get_opt("long").await?.filter(|pod| !is_held(pod))))
            .await?;
    ensure!(released.metadata.uid == stored.metadata.uid, "made anew");
    println!("a pod of {} bytes was held, changed and released", serde_json::to_vec(&released)?.len());
    gate.delete(&[&name]).await
}

async fn post(client: &Client, gate: &Gate, body: Vec<u8>) -> Result<Response> {
    let url = format!("{}/validate", gate.platform.webhook_url());
    let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
    request.timeout(Duration::from_secs(20)).send().await.context("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_no_apiserver_sends_is_too_large_and_the_gate_goes_on() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let client = tests::http::unverified()?;
    let mut review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "operation": "CREATE",
        "namespace": namespace, "userInfo": {"username": "ann"}, "object": pod(&json!({"name": "a"})),
    }});
    let short = review.to_string().into_bytes();
    review["request"]["object"]["metadata"]["annotations"] = json!({"a": "x".repeat(BODY_BYTES)});
    let long = review.to_string().into_bytes();
    let posts = (0..AT_ONCE).map(|_| post(&client, &gate, long.clone()));
    for answer in futures::future::try_join_all(posts).await? {
        let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
        let problem: Value = answer.json().await?;
        ensure!(status == 413 && problem["status"] == 413, "{status}: {problem}");
        ensure!(kind.is_some_and(|kind| kind == "application/problem+json"), "{problem}");
        ensure!(problem["detail"].as_str().is_some_and(|text| text.contains("at most")), "{problem}");
    }
    let decided: Value = post(&client, &gate, short).await?.json().await?;
    ensure!(decided["response"]["uid"] == "1" && decided["response"]["allowed"] == false, "{decided}");
    let manifest = pod(&json!({"name": "a"})).to_string();
    gate.admin.may_not(POD_GATE, &format!("create -f - --namespace={namespace}"), &manifest).await?;
    gate.delete(&[&namespace]).await
}
