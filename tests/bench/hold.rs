//! From the label to the pod: what a workload that came too early waits for in mode `deny`, where its controller tries again
//! in its own time, and in mode `hold`, where it is released; and how fast a thousand held pods are released.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contract::{baseline, names};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod, ResourceQuota};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{wait::await_condition, watcher};
use kube::{Api, Client};
use rand::RngExt as _;
use serde_json::json;
use tests::Platform;
use tests::held::{is_held, released};
use tests::platform::client_of;

use crate::report::{Aim, against, figure, section};
use crate::stats::Samples;
use crate::tenant;

/// Workloads that wait in each mode.
const ROUNDS: u32 = 20;
/// How long they have waited when the label comes, in milliseconds: by then a controller's pauses are seconds long.
const WAITED: std::ops::Range<u64> = 2_000..8_000;
/// Held pods of one namespace.
const HELD: usize = 1000;
/// Pods made at once.
const AT_ONCE: usize = 16;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who writes labels, and who deploys.
struct Actors {
    writer: Client,
    admin: Client,
}

/// Runs the section.
pub async fn run(platform: &Platform) -> Result<()> {
    section(
        "From isolation-ready=true to the pod running: a Deployment that came before its namespace was ready",
    );
    let actors = Actors {
        writer: client_of(&platform.service_account_kubeconfig("provisioner").await?).await?,
        admin: platform.client().await?,
    };
    let mut all = Vec::new();
    for mode in ["deny", "hold"] {
        // A few at a time: none has to wait for the node because of another.
        let waits: Vec<Duration> =
            stream::iter(0..ROUNDS).map(|_| actors.waited(mode)).buffer_unordered(4).try_collect().await?;
        all.push((mode, Samples::new(waits)));
    }
    for (mode, samples) in &all {
        figure(&format!("mode {mode}"), samples);
    }
    section("A thousand held pods of one namespace, from the label on");
    let (first, last) = actors.thousand().await?;
    against("first released, s", first.as_secs_f64(), Aim::AtMost(1.0));
    against("all released, s", last.as_secs_f64(), Aim::AtMost(5.0));
    Ok(())
}

impl Actors {
    /// A namespace with a whole baseline, in this mode and not ready.
    async fn namespace(&self, mode: &str) -> Result<String> {
        let tenant = tenant::fresh()?;
        let name = tenant.namespace();
        let mut namespace: Namespace = baseline::namespace(&tenant);
        let labels = namespace.metadata.labels.get_or_insert_default();
        labels.insert(names::MODE_LABEL.to_owned(), mode.to_owned());
        labels.remove(names::INJECT_LABEL);
        self.namespaces().create(&PostParams::default(), &namespace).await?;
        tenant::complete(&self.admin, &tenant).await?;
        let quotas: Api<ResourceQuota> = Api::namespaced(self.admin.clone(), &name);
        tokio::time::timeout(PATIENCE, await_condition(quotas, names::QUOTA_NAME, tenant::filled)).await??;
        // The API server's selectors lag behind the labels.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(name)
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.writer.clone())
    }

    /// Calls the namespace ready; when the API server had taken it.
    async fn label(&self, name: &str) -> Result<Instant> {
        let label = Patch::Merge(json!({"metadata": {"labels": {names::GATE_LABEL: names::GATE_OPEN}}}));
        self.namespaces().patch(name, &PatchParams::default(), &label).await?;
        Ok(Instant::now())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        namespaces.delete(name, &DeleteParams::background()).await?;
        Ok(())
    }

    /// How long after the label a pod of a Deployment runs that was made some seconds before it.
    async fn waited(&self, mode: &str) -> Result<Duration> {
        let name = self.namespace(mode).await?;
        let deployments: Api<Deployment> = Api::namespaced(self.admin.clone(), &name);
        let spec = tests::pods::pod("web", &["sleep"])["spec"].clone();
        let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec}}});
        deployments.create(&PostParams::default(), &serde_json::from_value(deployment)?).await?;
        self.met(&name, mode).await?;
        let waited = rand::rng().random_range(WAITED);
        tokio::time::sleep(Duration::from_millis(waited)).await;
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), &name);
        let running = tokio::spawn(running(pods));
        let from = self.label(&name).await?;
        let at = tokio::time::timeout(PATIENCE, running).await.context("the pod does not run")???;
        self.delete(&name).await?;
        Ok(at.saturating_duration_since(from))
    }

    /// Waits until the gate has refused or held the Deployment's pod.
    async fn met(&self, name: &str, mode: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), name);
        let events: Api<Event> = Api::namespaced(self.admin.clone(), name);
        let refused = ListParams::default().fields("reason=FailedCreate");
        let met = async {
            loop {
                let met = if mode == "hold" {
                    pods.list(&ListParams::default()).await?.items.iter().any(is_held)
                } else {
                    !events.list(&refused).await?.items.is_empty()
                };
                if met {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, met).await.context("the gate was not met")?
    }

    async fn thousand(&self) -> Result<(Duration, Duration)> {
        let name = self.namespace("hold").await?;
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), &name);
        let mut pod = tests::pods::pod("x", &["sleep"]);
        pod["metadata"] = json!({"generateName": "held-"});
        let amount = json!({"cpu": "1m", "memory": "4Mi"});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
        // No node takes them: it is the release that is measured.
        pod["spec"]["nodeSelector"] = json!({"nowhere": "true"});
        let (pod, params): (Pod, _) = (serde_json::from_value(pod)?, PostParams::default());
        stream::iter(0..HELD)
            .map(|_| pods.create(&params, &pod))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let times = released(pods, HELD, self.label(&name)).await?;
        self.delete(&name).await?;
        Ok(times)
    }
}

/// When a pod of the namespace was seen to run.
async fn running(pods: Api<Pod>) -> Result<Instant> {
    let mut events = watcher(pods, watcher::Config::default()).boxed();
    while let Some(event) = events.try_next().await? {
        if let watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) = event
            && pod.status.and_then(|status| status.phase).as_deref() == Some("Running")
        {
            return Ok(Instant::now());
        }
    }
    anyhow::bail!("the watch ended")
}
