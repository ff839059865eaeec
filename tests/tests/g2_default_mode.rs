//! G2: with `--default-mode=audit` the gate cannot block an existing cluster, not even dead. Alone in its binary, because it
//! changes the gate for everyone.

mod gate;

use anyhow::{Result, ensure};
use contract::names;
use gate::{Gate, POD_GATE, eventually, pod};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_cluster_starts_with_audit_and_cannot_be_blocked() -> Result<()> {
    let gate = Gate::shared().await?;
    let (plain, strict) = (gate.namespace().await?, gate.namespace().await?);
    let label = format!("label namespace {strict} {}=deny", names::MODE_LABEL);
    gate.break_glass.may(&label, "").await?;
    let mut lenient = gate.with("DEFAULT_MODE", "audit").await?;
    let outcome = async {
        eventually("pods come in", async || Ok(gate.admin.may(&create(&plain), &manifest()).await.ok()))
            .await?;
        let message = gate.admin.may_not(POD_GATE, &create(&strict), &manifest()).await?;
        ensure!(message.contains("is not proved isolated"), "{message}");
        lenient.kill().await?;
        eventually("the webhook is out of reach", async || {
            Ok(gate.admin.may_not("failed calling webhook", &create(&strict), &manifest()).await.ok())
        })
        .await?;
        gate.admin.may(&create(&plain), &manifest()).await
    }
    .await;
    lenient.back().await?;
    outcome?;
    eventually("the default is deny again", async || {
        Ok(gate.admin.may_not(POD_GATE, &create(&plain), &manifest()).await.ok())
    })
    .await?;
    gate.delete(&[&plain, &strict]).await
}

fn create(namespace: &str) -> String {
    format!("create -f - --dry-run=server --namespace={namespace}")
}

fn manifest() -> String {
    pod(&json!({"generateName": "a-"})).to_string()
}
