//! The demonstration of `make up`: the main job in six lines, on the running platform.

mod reader;
mod screen;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api as KubeApi;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::api::{Api, Owned, Wanted};
use crate::kubectl::Kubectl;
use crate::platform::Platform;
use reader::Reader;
use screen::Screen;

/// How long a pod may take to run with its sidecar ready.
const POD_LIMIT: Duration = Duration::from_mins(1);

/// The demonstration's tenant, for `.local/env`.
#[derive(Clone, Debug)]
pub struct Demonstrated {
    /// The organization's id.
    pub tenant_id: String,
    /// Its namespace.
    pub namespace: String,
    /// The pod in it.
    pub pod: String,
    /// Who owns it.
    pub owner_email: String,
    /// The owner's password, generated.
    pub owner_password: String,
}

/// Shows all of it and gives what it made.
pub async fn run(platform: &Platform) -> Result<Demonstrated> {
    let screen = Screen::new();
    let random = uuid::Uuid::new_v4().simple().to_string();
    let suffix = &random[..6];
    let kubectl = platform.kubectl_command();

    refused(platform, &screen).await?;
    let (api, owner) = created(platform, &screen, suffix, &random).await?;
    let mut reader = admitted(platform, &screen, &kubectl, &owner).await?;

    let first = api.put("ai", "threshold", &json!(0.75)).await?;
    let read = reader.value("ai", "threshold", first - 1).await?;
    screen.step(4, "the pod reads it on localhost", None, &format!("ai/threshold = {}", read.body["value"]));

    let waiting = reader.wait("ai", "threshold", first).await?;
    let asked = Instant::now();
    let second = api.put("ai", "threshold", &json!(0.9)).await?;
    screen.step(5, "the API sets it to 0.90", Some(asked.elapsed()), &format!("version {second}"));

    let read = waiting.answer().await?;
    ensure!(read.body["value"] == json!(0.9), "the pod read {}", read.body);
    let committed: jiff::Timestamp = read.body["updated_at"].as_str().context("no updated_at")?.parse()?;
    let delay = read.at.duration_since(committed).unsigned_abs();
    let text = format!("ai/threshold = {}, version {}", read.body["value"], read.body["version"]);
    screen.step(6, "the pod reads 0.90 after the commit", Some(delay), &text);
    Ok(owner)
}

/// 1: a pod in a namespace that nobody isolated.
async fn refused(platform: &Platform, screen: &Screen) -> Result<()> {
    let namespace = platform.namespace("fresh").await?;
    let pods: KubeApi<Pod> = KubeApi::namespaced(platform.client().await?, &namespace.name);
    // Logged in before: what is measured is the refusal.
    pods.list(&ListParams::default()).await?;
    let asked = Instant::now();
    let refusal = match pods.create(&PostParams::default(), &serde_json::from_value(pod())?).await {
        Ok(_) => bail!("a pod was let into the fresh namespace {}", namespace.name),
        Err(kube::Error::Api(refusal)) => refusal.message.clone(),
        Err(error) => return Err(error.into()),
    };
    screen.step(1, "a pod in a fresh namespace is refused", Some(asked.elapsed()), &refusal);
    Ok(())
}

/// 2: a tenant by one call.
async fn created(
    platform: &Platform,
    screen: &Screen,
    suffix: &str,
    password: &str,
) -> Result<(Owned, Demonstrated)> {
    let wanted = Wanted {
        name: format!("Demo {suffix}"),
        email: format!("owner-{suffix}@demo.example"),
        password: Some(password.to_owned()),
    };
    let api = Api::at(platform.provisioner_url())?;
    let asked = Instant::now();
    let made = api.create(&wanted, Some(&format!("demo-{suffix}"))).await?.expect(201)?;
    let took = asked.elapsed();
    let owned = Owned::of(&api, &wanted, &made).await?;
    let owner = Demonstrated {
        tenant_id: owned.organization.clone(),
        namespace: owned.namespace.clone(),
        pod: "demo".into(),
        owner_email: wanted.email,
        owner_password: password.to_owned(),
    };
    let label = ["get", "namespace", &owner.namespace, "-o", "jsonpath={.metadata.labels.isolation-ready}"];
    let label = platform.kubectl(&label).await?.success()?;
    let steps = made.body["steps"].as_array().into_iter().flatten();
    let step = |step: &Value| {
        let name = step["name"].as_str().unwrap_or_default().replace('_', " ");
        format!("{name} {:.0}", step["milliseconds"].as_f64().unwrap_or_default())
    };
    let steps = steps.map(step).collect::<Vec<_>>().join(", ");
    let text = format!("namespace {}, isolation-ready={label}\nsteps in ms: {steps}", owner.namespace);
    screen.step(2, "a tenant is created by one call", Some(took), &text);
    Ok((owned, owner))
}

/// 3: the same pod in the tenant's namespace.
async fn admitted(
    platform: &Platform,
    screen: &Screen,
    kubectl: &Kubectl,
    owner: &Demonstrated,
) -> Result<Reader> {
    let asked = Instant::now();
    let create = ["--namespace", &owner.namespace, "create", "-f", "-"];
    kubectl.feed(&create, &pod().to_string()).await?.success().context("the tenant's pod was refused")?;
    if !platform.has_node() {
        let reader = Reader::process(platform, owner).await?;
        let text = "there is no node: its sidecar runs as a process of this machine";
        screen.step(3, "the same pod is admitted", Some(asked.elapsed()), text);
        return Ok(reader);
    }
    let limit = format!("--timeout={}s", POD_LIMIT.as_secs());
    let wait = [
        "--namespace",
        &owner.namespace,
        "wait",
        "--for=condition=Ready",
        &format!("pod/{}", owner.pod),
        &limit,
    ];
    kubectl.run(&wait).await?.success().context("the tenant's pod does not run")?;
    let took = asked.elapsed();
    let path = "jsonpath={range .status.initContainerStatuses[*]}{.name} ready={.ready}{end}";
    let sidecar = ["--namespace", &owner.namespace, "get", "pod", &owner.pod, "-o", path];
    let sidecar = kubectl.run(&sidecar).await?.success()?;
    let text = format!("pod {} is Running, injected sidecar {sidecar}", owner.pod);
    screen.step(3, "the same pod is admitted in the tenant's", Some(took), &text);
    Ok(Reader::pod(platform, owner))
}

/// A pod as a tenant writes it: it knows nothing of the sidecar.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "demo" },
        "spec": {
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app",
                "image": "localhost/agent-ready/probe:local",
                "imagePullPolicy": "Never",
                "args": ["sleep"],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}

/// Says what is running, how to log in and how to stop it.
pub fn farewell(platform: &Platform, owner: &Demonstrated) {
    Screen::new().farewell(platform, owner);
}
