//! G15: injected pods of a real tenant on a real node, run by each kind of controller.

mod gate;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{Gate, eventually};
use serde_json::{Value, json};
use tests::api::{Api, Wanted};

/// A tenant's namespace with its credentials, made by the provisioner.
struct Tenant {
    gate: Gate,
    namespace: String,
}

impl Tenant {
    /// None where no pods run.
    async fn on_a_node() -> Result<Option<Self>> {
        let gate = Gate::shared().await?;
        if !gate.platform.has_node() {
            eprintln!("no node: no pods run here, so that this journey is left out");
            return Ok(None);
        }
        let wanted = Wanted::fresh("Injected");
        let answer =
            Api::at(gate.platform.provisioner_url())?.create(&wanted, Some(&wanted.namespace()?)).await?;
        let namespace = answer.expect(201)?.body["namespace"].as_str().context("a namespace")?.to_owned();
        Ok(Some(Self { gate, namespace }))
    }

    async fn create(&self, manifest: &Value) -> Result<()> {
        let command = format!("create -f - --namespace={}", self.namespace);
        self.gate.admin.may(&command, &manifest.to_string()).await.map(drop)
    }

    async fn wait(&self, what: &str) -> Result<()> {
        let command = format!("wait {what} --timeout=90s --namespace={}", self.namespace);
        self.gate.admin.may(&command, "").await.map(drop)
    }

    /// Every pod has the sidecar, started before its app.
    async fn are_injected(&self, selector: &str) -> Result<()> {
        let pods = format!("pods --namespace={} --selector={selector}", self.namespace);
        let pods = self.gate.admin.get(&pods).await?["items"].clone();
        let pods = pods.as_array().filter(|pods| !pods.is_empty()).context("no pods")?.clone();
        for pod in pods {
            let first = &pod["spec"]["initContainers"][0];
            ensure!(first["name"] == names::SIDECAR_CONTAINER, "not injected: {pod}");
            ensure!(pod["status"]["initContainerStatuses"][0]["started"] == true, "{}", pod["status"]);
        }
        Ok(())
    }

    async fn end(self) -> Result<()> {
        self.gate.delete(&[&self.namespace]).await
    }
}

/// A container that reads a value's address of the sidecar, or waits.
fn container(name: &str, arguments: &[&str]) -> Value {
    json!({"name": name, "image": "localhost/agent-ready/probe:local", "imagePullPolicy": "Never", "args": arguments})
}

const READS: [&str; 2] = ["get", "$(AGENT_READY_CONFIG_URL)/v1/config"];

fn template(app: &str, restart: &str, containers: &[Value], init: &[Value]) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"restartPolicy": restart, "terminationGracePeriodSeconds": 1, "containers": containers,
            "initContainers": init},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_controllers_pods_run_with_the_sidecar_ready() -> Result<()> {
    let Some(tenant) = Tenant::on_a_node().await? else { return Ok(()) };
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let app = kind.to_lowercase();
        let pods = template(&app, "Always", &[container("app", &["sleep"])], &[]);
        let mut spec = json!({"selector": {"matchLabels": {"app": app}}, "template": pods});
        if kind == "StatefulSet" {
            spec["serviceName"] = json!("none");
        }
        tenant
            .create(&json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app}, "spec": spec}))
            .await?;
    }
    for app in ["deployment", "statefulset", "daemonset"] {
        let timeout = format!("rollout status {app}/{app} --timeout=90s --namespace={}", tenant.namespace);
        tenant.gate.admin.may(&timeout, "").await?;
        tenant.are_injected(&format!("app={app}")).await?;
    }
    tenant.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_complete_and_read_their_configuration_from_the_first_line() -> Result<()> {
    let Some(tenant) = Tenant::on_a_node().await? else { return Ok(()) };
    // Started after the warm load, so that both its init container and itself read on their first try.
    let pods = template("job", "Never", &[container("app", &READS)], &[container("first", &READS)]);
    let spec = json!({"backoffLimit": 0, "template": pods});
    tenant
        .create(&json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec}))
        .await?;
    let cron = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}});
    tenant
        .create(
            &json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"}, "spec": cron}),
        )
        .await?;
    let run = format!("create job of-cron --from=cronjob/cron --namespace={}", tenant.namespace);
    tenant.gate.admin.may(&run, "").await?;
    for job in ["job/job", "job/of-cron"] {
        tenant.wait(&format!("{job} --for=condition=complete")).await?;
    }

    let bare = template("bare", "Never", &[container("app", &READS)], &[]);
    tenant
        .create(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": bare["spec"]}),
        )
        .await?;
    tenant.wait("pod/bare --for=jsonpath={.status.phase}=Succeeded").await?;
    tenant.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_the_sidecar_is_debugged_and_copied_as_any_other() -> Result<()> {
    let Some(tenant) = Tenant::on_a_node().await? else { return Ok(()) };
    let namespace = &tenant.namespace;
    let mut pod = template("bare", "Always", &[container("app", &["sleep"])], &[]);
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("bare");
    pod["metadata"]["annotations"] = json!({names::START_ANNOTATION: "go"});
    tenant.create(&pod).await?;
    tenant.wait("pod/bare --for=condition=Ready").await?;

    let image = "localhost/agent-ready/probe:local";
    let debug = format!(
        "debug bare --image={image} --image-pull-policy=Never --profile=baseline --container=look --namespace={namespace}"
    );
    tenant.gate.admin.may(&format!("{debug} -- /probe get http://127.0.0.1:7070/healthz"), "").await?;
    let exit = eventually("the end of the debug container", async || {
        let pod = tenant.gate.admin.get(&format!("pod bare --namespace={namespace}")).await?;
        Ok(pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64())
    })
    .await?;
    ensure!(exit == 0, "the debug container cannot reach the sidecar");

    let copy = format!(
        "debug bare --copy-to=copy --profile=baseline --image={image} --image-pull-policy=Never --namespace={namespace}"
    );
    tenant.gate.admin.may(&format!("{copy} --container=look -- /probe sleep"), "").await?;
    tenant.wait("pod/copy --for=condition=Ready").await?;
    let copy = tenant.gate.admin.get(&format!("pod copy --namespace={namespace}")).await?;
    let sidecars = copy["spec"]["initContainers"].as_array().map_or(0, |containers| {
        containers.iter().filter(|container| container["name"] == names::SIDECAR_CONTAINER).count()
    });
    ensure!(sidecars == 1, "{copy}");
    tenant.end().await
}
