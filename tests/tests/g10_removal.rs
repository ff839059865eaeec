//! G10: a removal leaves no webhook configuration behind, and a cluster where pods start: under load, and with every replica
//! dead. Alone in its binary: it takes the whole suite away, and puts it back.

mod gate;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use gate::{Actor, Gate, eventually, pod};
use serde_json::{Value, json};
use tests::{
    deploy,
    load::{Load, Namespaces, Outcome},
};

const CONFIGURATIONS: [&str; 2] =
    ["validatingwebhookconfiguration/agent-ready-gate", "mutatingwebhookconfiguration/agent-ready-inject"];

#[tokio::test(flavor = "multi_thread")]
async fn delete_k_under_load_leaves_nothing_that_refuses() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespaces = Namespaces {
        bare: vec![gate.namespace().await?],
        ready: vec![gate.ready().await?],
        ..Namespaces::default()
    };
    let client = gate.platform.client().await?;
    let load = Load::start(&client, &client, &namespaces);
    // The overlay has no configurations of its own: what the replicas registered is collected with its owner.
    let overlay = tests::workspace::root().join("manifests/overlays/local");
    let delete = format!("delete -k {} --ignore-not-found --timeout=120s", overlay.display());
    let outcome = async {
        gate.admin.may(&delete, "").await?;
        nothing_refuses(&gate, &namespaces.bare[0]).await
    }
    .await;
    let report = load.end().await?;
    deploy::deploy(gate.platform, &|line| eprintln!("{line}")).await?;
    outcome?;
    ensure!(report.of(Outcome::ReadyFailed) == 0 && report.of(Outcome::Ready) > 10, "{report}");
    ensure!(report.of(Outcome::LetIn) > 0, "the gate is still shut: {report}");
    installed(&gate).await?;
    gate.delete(&[&namespaces.bare[0], &namespaces.ready[0]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_end_a_half_removal_with_every_replica_dead() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.platform.has_node() {
        eprintln!("NOT PROVED: no pods run here ({})", gate.platform.no_node());
        return Ok(());
    }
    let namespace = gate.namespace().await?;
    let outcome = async {
        gate.admin.may("delete namespace agent-ready-system --timeout=120s", "").await?;
        let (create, manifest) = ask(&namespace);
        gate.admin.may_not("failed calling webhook", &create, &manifest).await.context("the gate is open")?;
        for command in documented()? {
            gate.admin.may(&command, "").await?;
        }
        nothing_refuses(&gate, &namespace).await
    }
    .await;
    deploy::deploy(gate.platform, &|line| eprintln!("{line}")).await?;
    outcome?;
    installed(&gate).await?;
    gate.delete(&[&namespace]).await
}

/// The commands at the end of the section on removal, without `kubectl`.
fn documented() -> Result<Vec<String>> {
    let text = fs::read_to_string(tests::workspace::root().join("docs/reference/gate.md"))?;
    let section = text.split("\n## ").find(|section| section.starts_with("Install and removal"));
    let block = section.and_then(|section| section.split("```sh\n").last()).context("no commands")?;
    let commands = block.lines().map_while(|line| line.strip_prefix("kubectl "));
    let commands: Vec<String> = commands.map(str::to_owned).collect();
    ensure!(commands.len() == 3, "{commands:?}");
    Ok(commands)
}

fn ask(namespace: &str) -> (String, String) {
    let name = gate::fresh("after-");
    (format!("create -f - --namespace={namespace}"), pod(&json!({"name": name})).to_string())
}

/// No configuration is left or comes back, and a pod runs where none could.
async fn nothing_refuses(gate: &Gate, namespace: &str) -> Result<()> {
    for configuration in CONFIGURATIONS {
        eventually("the end of a configuration", async || {
            Ok(absent(&gate.admin, configuration).await?.then_some(()))
        })
        .await
        .context(configuration)?;
    }
    let (create, manifest) = ask(namespace);
    let name = serde_json::from_str::<Value>(&manifest)?["metadata"]["name"].clone();
    let name = name.as_str().context("a name")?;
    gate.admin.may(&create, &manifest).await?;
    if gate.platform.has_node() {
        let running = format!("wait pod/{name} --namespace={namespace} --for=condition=Ready --timeout=60s");
        gate.admin.may(&running, "").await?;
    }
    for configuration in CONFIGURATIONS {
        ensure!(absent(&gate.admin, configuration).await?, "{configuration} came back");
    }
    Ok(())
}

async fn absent(actor: &Actor, what: &str) -> Result<bool> {
    Ok(actor.may(&format!("get {what} --ignore-not-found -o name"), "").await?.trim().is_empty())
}

/// The gate is shut again, by its own replicas.
async fn installed(gate: &Gate) -> Result<()> {
    let namespace = gate.namespace().await?;
    let (create, manifest) = ask(&namespace);
    eventually("the gate refuses", async || {
        Ok(gate.admin.may_not(gate::POD_GATE, &create, &manifest).await.ok())
    })
    .await?;
    gate.delete(&[&namespace]).await
}
