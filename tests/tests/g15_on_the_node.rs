//! G15: when an injected pod's app starts, and what it reads, on a real node.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::names;
use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use tests::Platform;
use tests::pods::{Inhabited, pod, with_pods};

/// How long an app that must not start is watched.
const WATCHED: Duration = Duration::from_secs(4);

fn sidecar(pod: &Value) -> &Value {
    &pod["status"]["initContainerStatuses"][0]
}

fn app(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_pod_runs_with_the_sidecar_ready_and_reads_its_value_on_localhost() -> Result<()> {
    with_pods(Platform::shared().await?, async |tenant| {
        let version = tenant.put("threshold", json!(0.75)).await?;
        tenant.run(&pod("plain", &["sleep"])).await?;
        let plain = tenant.pod("plain").await?;
        ensure!(plain["status"]["phase"] == "Running", "{}", plain["status"]);
        ensure!(sidecar(&plain)["name"] == names::SIDECAR_CONTAINER, "{}", plain["status"]);
        ensure!(sidecar(&plain)["ready"] == true, "{}", plain["status"]);
        ensure!(tenant.value("plain", "threshold").await? == (json!(0.75), version), "another value");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_waits_for_the_warm_load_unless_it_says_go() -> Result<()> {
    with_pods(Platform::shared().await?, async |tenant| {
        let version = tenant.put("threshold", json!(0.75)).await?;
        let address = database_url(tenant).await?;
        // Nobody listens there: the sidecar runs and cannot load.
        let (login, _) = address.rsplit_once('@').context("a login")?;
        set_database_url(tenant, &format!("{login}@127.0.0.1:1/agent_ready?sslmode=verify-full")).await?;
        tenant.make(&pod("waits", &["sleep"])).await?;
        let mut goes = pod("goes", &["sleep"]);
        goes["metadata"]["annotations"] = json!({names::START_ANNOTATION: "go"});
        tenant.run(&goes).await?;

        ensure!(tenant.read("goes", "/status").await?["ready"] == false, "the sidecar cannot have loaded");
        let refused = tenant.read("goes", "/v1/config").await;
        ensure!(refused.is_err_and(|error| format!("{error:#}").contains("503")), "nothing is there to read");
        tenant.wait("pod/waits --for=jsonpath={.status.initContainerStatuses[0].state.running}").await?;
        tokio::time::sleep(WATCHED).await;
        let waits = tenant.pod("waits").await?;
        ensure!(sidecar(&waits)["started"] == false, "{}", waits["status"]);
        ensure!(app(&waits)["state"]["waiting"]["reason"] == "PodInitializing", "{}", waits["status"]);

        // Kubernetes tells whole seconds.
        let repaired = Timestamp::now().round(Unit::Second)? - Duration::from_secs(1);
        set_database_url(tenant, &address).await?;
        // The kubelet looks at a Secret once a minute, and when its pod changes.
        tenant.kubectl("annotate pod waits goes look=again").await?;
        tenant.wait("pod/waits --for=condition=Ready").await?;
        let (waits, goes) = (tenant.pod("waits").await?, tenant.pod("goes").await?);
        ensure!(started(&waits)? >= repaired, "started before the load: {}", waits["status"]);
        ensure!(started(&goes)? < repaired, "{}", goes["status"]);
        ensure!(sidecar(&waits)["restartCount"] == 0, "it waits, and does not crash: {}", waits["status"]);
        ensure!(tenant.value("waits", "threshold").await? == (json!(0.75), version), "another value");
        Ok(())
    })
    .await
}

/// When the app was started.
fn started(pod: &Value) -> Result<Timestamp> {
    let at = app(pod)["state"]["running"]["startedAt"].as_str().context("the app does not run")?;
    at.parse().context("a time")
}

async fn database_url(tenant: &Inhabited) -> Result<String> {
    let secret = tenant.kubectl(&format!("get secret {} -o json", names::SECRET_NAME)).await?;
    let secret: Value = serde_json::from_str(&secret)?;
    let url = secret["data"]["database-url"].as_str().context("a URL")?;
    String::from_utf8(STANDARD.decode(url)?).context("a URL in UTF-8")
}

async fn set_database_url(tenant: &Inhabited, url: &str) -> Result<()> {
    let patch = json!({"stringData": {"database-url": url}});
    tenant
        .kubectl(&format!("patch secret {} --type=merge --patch={patch}", names::SECRET_NAME))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_pod_runs_in_a_restricted_namespace() -> Result<()> {
    let platform = Platform::shared().await?;
    with_pods(platform, async |tenant| {
        let version = tenant.put("threshold", json!(0.75)).await?;
        let provisioner = platform.service_account_kubeconfig("provisioner").await?;
        let restrict = format!("{}enforce=restricted", names::POD_SECURITY_PREFIX);
        let label = ["label", "namespace", &tenant.namespace, &restrict, "--overwrite"];
        platform.kubectl_command().with(provisioner).run(&label).await?.success()?;
        let mut strict = pod("strict", &["sleep"]);
        let refused = tenant.make(&strict).await;
        ensure!(refused.is_err_and(|error| format!("{error:#}").contains("restricted")), "not restricted");
        strict["spec"]["securityContext"] = json!({
            "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
        });
        strict["spec"]["containers"][0]["securityContext"] =
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        tenant.run(&strict).await?;
        ensure!(tenant.value("strict", "threshold").await? == (json!(0.75), version), "another value");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_runs_once_ends_and_its_sidecar_with_it() -> Result<()> {
    with_pods(Platform::shared().await?, async |tenant| {
        tenant.put("threshold", json!(0.75)).await?;
        let mut once = pod("once", &["get", "$(AGENT_READY_CONFIG_URL)/v1/config/journey/threshold"]);
        once["spec"]["restartPolicy"] = json!("Never");
        tenant.make(&once).await?;
        tenant.wait("pod/once --for=jsonpath={.status.phase}=Succeeded").await?;
        let once = tenant.pod("once").await?;
        ensure!(sidecar(&once)["state"]["terminated"]["exitCode"] == 0, "{}", once["status"]);
        let printed: Value = serde_json::from_str(&tenant.kubectl("logs once -c app").await?)?;
        ensure!(printed["value"] == 0.75, "{printed}");
        Ok(())
    })
    .await
}
