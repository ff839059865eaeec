//! G10: a removal leaves no webhook configuration behind, and a cluster where pods start: under load, and with every replica
//! dead. Alone in its binary: it takes the whole suite away, and puts it back.

mod gate;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use gate::{Gate, pod};
use serde_json::json;
use tests::{
    deploy,
    load::{Load, Namespaces, Outcome},
};

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
    let outcome = async {
        gate.remove(&overlay).await?;
        gate.nothing_refuses(&namespaces.bare[0]).await
    }
    .await;
    let report = load.end().await?;
    deploy::deploy(gate.platform, &|line| eprintln!("{line}")).await?;
    outcome?;
    ensure!(report.of(Outcome::ReadyFailed) == 0 && report.of(Outcome::Ready) > 10, "{report}");
    ensure!(report.of(Outcome::LetIn) > 0, "the gate is still shut: {report}");
    gate.installed().await?;
    gate.delete(&[&namespaces.bare[0], &namespaces.ready[0]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_commands_end_a_half_removal_with_every_replica_dead() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.runs_pods() {
        return Ok(());
    }
    let namespace = gate.namespace().await?;
    let outcome = async {
        gate.admin.may("delete namespace agent-ready-system --timeout=120s", "").await?;
        let create = format!("create -f - --namespace={namespace}");
        let manifest = pod(&json!({"name": "a"})).to_string();
        gate.admin.may_not("failed calling webhook", &create, &manifest).await.context("the gate is open")?;
        for command in documented()? {
            gate.admin.may(&command, "").await?;
        }
        gate.nothing_refuses(&namespace).await
    }
    .await;
    deploy::deploy(gate.platform, &|line| eprintln!("{line}")).await?;
    outcome?;
    gate.installed().await?;
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
