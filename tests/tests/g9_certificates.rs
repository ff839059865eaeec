//! G9: the webhook's own authority and certificate, replaced under it without a restart. Alone in its binary: while the
//! authority changes, nothing of other journeys would be admitted.

mod gate;

use anyhow::{Result, ensure};
use gate::{Gate, POD_GATE, eventually, pod};
use serde_json::{Value, json};

const SECRET: &str = "secret/webhook-tls --namespace=agent-ready-system";

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_certificate_is_renewed_and_a_lost_authority_made_anew() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let create = format!("create -f - --dry-run=server --namespace={namespace}");
    let manifest = pod(&json!({"name": "a"})).to_string();
    let replicas = replicas(&gate).await?;
    let first = gate.admin.get(SECRET).await?["data"].clone();

    // The serving certificate goes: a new one of the same authority, without one review that fails.
    gate.admin
        .may(&format!("patch {SECRET} --patch={}", json!({"data": {"tls.crt": "", "tls.key": ""}})), "")
        .await?;
    let renewed = eventually("a new serving certificate", async || {
        gate.admin.may_not(POD_GATE, &create, &manifest).await?;
        let data = gate.admin.get(SECRET).await?["data"].clone();
        Ok(data["tls.crt"].as_str().is_some_and(|text| !text.is_empty()).then_some(data))
    })
    .await?;
    ensure!(renewed["ca.crt"] == first["ca.crt"] && renewed["tls.crt"] != first["tls.crt"], "not a renewal");
    gate.admin.may_not(POD_GATE, &create, &manifest).await?;

    // The authority goes: a new one, which the API server is told of; refused all the while, for one reason or another.
    gate.admin.may(&format!("delete {SECRET}"), "").await?;
    eventually("a new authority that the API server trusts", async || {
        gate.admin.may_not("Error from server", &create, &manifest).await?;
        let secret = gate.admin.get(SECRET).await.unwrap_or_default();
        let bundles = bundles(&gate).await?;
        let authority = &secret["data"]["ca.crt"];
        Ok((authority.is_string()
            && *authority != first["ca.crt"]
            && bundles.iter().all(|bundle| bundle == authority))
        .then_some(()))
    })
    .await?;
    // Each replica follows within a moment of its own.
    for _ in 0..5 {
        eventually("the gate refuses for its own reason", async || {
            Ok(gate.admin.may_not(POD_GATE, &create, &manifest).await.ok())
        })
        .await?;
    }
    ensure!(self::replicas(&gate).await? == replicas, "a replica was started anew");
    gate.delete(&[&namespace]).await
}

/// The `caBundle` of every entry.
async fn bundles(gate: &Gate) -> Result<Vec<Value>> {
    let mut bundles = Vec::new();
    for configuration in
        ["validatingwebhookconfiguration/agent-ready-gate", "mutatingwebhookconfiguration/agent-ready-inject"]
    {
        let entries = gate.admin.get(configuration).await?["webhooks"].clone();
        bundles.extend(
            entries.as_array().into_iter().flatten().map(|entry| entry["clientConfig"]["caBundle"].clone()),
        );
    }
    Ok(bundles)
}

/// Names and restart counts of the webhook's pods; nothing where it is a process of the machine.
async fn replicas(gate: &Gate) -> Result<Vec<String>> {
    let pods = "pods --namespace=agent-ready-system --selector=app.kubernetes.io/name=webhook";
    let pods = gate.admin.get(pods).await?["items"].clone();
    Ok(pods
        .as_array()
        .into_iter()
        .flatten()
        .map(|pod| {
            format!("{} {}", pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        })
        .collect())
}
