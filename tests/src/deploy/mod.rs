//! Our programs on a platform: as pods from `manifests/overlays/local`, or, without a node, as components.
//!
//! Either way they have their own service accounts and the real RBAC; the administrator's credential only applies.

mod manifests;
pub mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::images::{self, IMAGES};
use crate::platform::{Platform, Say};
use crate::process::{Component, Ready};

/// Where our programs are.
pub const NAMESPACE: &str = contract::names::SYSTEM_NAMESPACE;
/// Our programs, by the names of their Deployments and service accounts.
pub const PROGRAMS: [&str; 2] = ["webhook", "provisioner"];

const LIMIT: Duration = Duration::from_mins(2);

/// Brings the programs on the platform up to date.
pub async fn deploy(platform: &Platform, say: Say<'_>) -> Result<()> {
    settings::write_keys(platform)?;
    migrate(platform).await?;
    if platform.has_node() {
        for image in &IMAGES {
            images::import(platform.host(), platform.kind().as_deref(), image).await?;
        }
        apply(platform, &as_pods(platform, &crate::workspace::root())?).await?;
        roll_out(platform, say).await?;
        return answers(platform).await;
    }
    apply(platform, &without_workloads(platform)?).await?;
    for program in PROGRAMS {
        start_component(platform, program).await.with_context(|| format!("start {program}"))?;
    }
    Ok(())
}

/// Puts the version before this one in its place: the manifests of the commit before, if there is one, with other
/// `settings` of the webhook, so that it is another rollout which registers something else.
///
/// The program is this version's, the only one that is built: it keeps this version's rights.
pub async fn deploy_before(platform: &Platform, settings: &[(&str, &str)], say: Say<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let found = manifests::before(folder.path())?;
    say(if found { "the version before: HEAD~1" } else { "no history here: this version's manifests twice" });
    let root = if found { folder.path().to_owned() } else { crate::workspace::root() };
    let mut objects = as_pods(platform, &root)?;
    let workloads = ["Namespace", "Secret", "Service", "Deployment", "PodDisruptionBudget"];
    objects.retain(|object| workloads.contains(&object["kind"].as_str().unwrap_or_default()));
    let is_webhook =
        |object: &Value| object["kind"] == "Deployment" && object["metadata"]["name"] == "webhook";
    let webhook = objects.iter_mut().find(|object| is_webhook(object)).context("no webhook in it")?;
    let container = &mut webhook["spec"]["template"]["spec"]["containers"][0];
    let environment = container["env"].as_array_mut().context("no settings")?;
    environment.retain(|variable| settings.iter().all(|(name, _)| variable["name"] != *name));
    environment.extend(settings.iter().map(|(name, value)| json!({ "name": name, "value": value })));
    apply(platform, &objects).await?;
    roll_out(platform, say).await
}

/// Waits until the programs answer at their addresses: kube-proxy learns of ready pods a moment after the Deployment.
async fn answers(platform: &Platform) -> Result<()> {
    let client = crate::http::unverified()?;
    let end = std::time::Instant::now() + LIMIT;
    // Several answers in a row: a Service spreads connections over its pods.
    for url in [platform.provisioner_url(), platform.webhook_url()] {
        let mut in_a_row = 0;
        while in_a_row < 5 {
            let fresh = client.get(format!("{url}/readyz")).header("connection", "close");
            let ready = fresh.send().await.is_ok_and(|answer| answer.status().is_success());
            in_a_row = if ready { in_a_row + 1 } else { 0 };
            if !ready {
                if std::time::Instant::now() > end {
                    bail!("{url} does not answer though its pods are ready")
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    Ok(())
}

/// The kubeconfig of a service account of ours, with a token of its own.
pub async fn service_account_kubeconfig(platform: &Platform, account: &str) -> Result<PathBuf> {
    let arguments = ["create", "token", account, "--namespace", NAMESPACE, "--duration", "24h"];
    let token = platform.kubectl(&arguments).await?.success().context("ask for a token")?;
    platform.write_kubeconfig(account, token.trim())
}

/// Brings the schema up to date, under the role that may.
async fn migrate(platform: &Platform) -> Result<()> {
    let mut command = tokio::process::Command::new(crate::workspace::binary("provisioner")?);
    command.arg("migrate").envs(settings::migration(platform));
    let output = command.output().await.context("run provisioner migrate")?;
    if !output.status.success() {
        bail!("provisioner migrate: {}", String::from_utf8_lossy(&output.stderr))
    }
    Ok(())
}

/// The overlay with what it asks for: the namespace's Secrets; a changed image or setting rolls the pods.
fn as_pods(platform: &Platform, root: &Path) -> Result<Vec<Value>> {
    let mut objects = manifests::local(platform, root)?;
    let (settings, keys) = (settings::provisioner(platform), settings::keys(platform)?);
    objects.insert(1, secret("provisioner-settings", &json!(settings)));
    objects.insert(2, secret("provisioner-keys", &json!(keys)));
    for object in &mut objects {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if object["kind"] == "Deployment" && PROGRAMS.contains(&name.as_str()) {
            let stamp = json!({
                "local.agent-ready.io/image": images::imported(platform.host(), &name),
                "local.agent-ready.io/settings": images::hex_digest(json!([settings, keys]).to_string().as_bytes()),
            });
            object["spec"]["template"]["metadata"]["annotations"] = stamp;
        }
    }
    Ok(objects)
}

/// Without a node there is nothing to run pods or to forward to them.
fn without_workloads(platform: &Platform) -> Result<Vec<Value>> {
    let workloads = ["Deployment", "Service", "PodDisruptionBudget"];
    let mut objects = manifests::local(platform, &crate::workspace::root())?;
    objects.retain(|object| !workloads.contains(&object["kind"].as_str().unwrap_or_default()));
    Ok(objects)
}

fn secret(name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "stringData": data,
    })
}

async fn apply(platform: &Platform, objects: &[Value]) -> Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
    let arguments =
        ["apply", "--server-side", "--force-conflicts", "--field-manager=local-platform", "-f", "-"];
    platform.kubectl_command().feed(&arguments, &list).await?.success().context("apply manifests")?;
    Ok(())
}

async fn roll_out(platform: &Platform, say: Say<'_>) -> Result<()> {
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    for program in PROGRAMS {
        let deployment = format!("deployment/{program}");
        let arguments = ["--namespace", NAMESPACE, "rollout", "status", &deployment, &timeout];
        let output = platform.kubectl(&arguments).await?;
        if output.code != 0 {
            say(&state_of_pods(platform, &deployment).await?);
        }
        output.success().with_context(|| format!("{program} does not become ready"))?;
    }
    Ok(())
}

/// What is to be seen of a Deployment that does not become ready.
async fn state_of_pods(platform: &Platform, deployment: &str) -> Result<String> {
    let pods = platform.kubectl(&["--namespace", NAMESPACE, "get", "pods"]).await?;
    let logs = ["--namespace", NAMESPACE, "logs", deployment, "--tail=20", "--all-pods", "--prefix"];
    let events = ["--namespace", NAMESPACE, "get", "events", "--field-selector=type=Warning"];
    let (logs, events) = (platform.kubectl(&logs).await?, platform.kubectl(&events).await?);
    Ok(format!("{}{}{}{}", pods.stdout, events.stdout, logs.stdout, logs.stderr))
}

/// Starts a program as a component, with its service account's kubeconfig; again if its program has changed.
async fn start_component(platform: &Platform, program: &str) -> Result<()> {
    let binary = crate::workspace::binary(program)?;
    let host = platform.host();
    let digest = images::hex_digest(&fs::read(&binary)?);
    let stamp = host.state().join(format!("{program}.sha256"));
    if host.status().await?.iter().any(|status| status.name == program) {
        if fs::read_to_string(&stamp).is_ok_and(|known| known == digest) {
            return Ok(());
        }
        host.stop(program, false).await?;
    }
    let kubeconfig = service_account_kubeconfig(platform, program).await?;
    let (environment, ready) = match program {
        "webhook" => (settings::webhook_process(platform), host.address(8081)),
        _ => (settings::provisioner_process(platform), host.address(8080)),
    };
    let mut component = Component::new(program, [binary.to_string_lossy().as_ref(), "serve"]);
    component.env = environment;
    let component = component.env("KUBECONFIG", kubeconfig.to_string_lossy());
    host.start(component, &Ready::Http(format!("http://{ready}/readyz")), LIMIT).await?;
    fs::write(&stamp, digest)?;
    Ok(())
}

/// The environment of a process that is told only what `pairs` say.
fn environment<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
