//! G9: the webhook's own authority and certificate, replaced under it without a restart. Alone in its binary: while the
//! authority changes, nothing of other journeys would be admitted.

mod gate;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gate::{Gate, POD_GATE, eventually, pod};
use serde_json::{Value, json};
use tests::load::{Load, Namespaces, Outcome, Webhook};

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
        let (authority, bundle) = (&secret["data"]["ca.crt"], &secret["data"]["ca-bundle.crt"]);
        Ok((authority.is_string()
            && *authority != first["ca.crt"]
            && bundles.iter().all(|registered| registered == bundle))
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
    let pods = gate::replicas::PODS;
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

/// Lives so short that a journey sees whole ones: the authority is replaced 40 s after it was made, the leaf every 13 s.
const SHORT: &str = "CA_LIFE_SECONDS=60 CERT_LIFE_SECONDS=20 CA_OVERLAP_SECONDS=4";

#[tokio::test(flavor = "multi_thread")]
async fn rotations_under_load_fail_no_admission() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.runs_pods() {
        return Ok(());
    }
    let namespaces = Namespaces {
        bare: vec![gate.namespace().await?],
        complete: vec![gate.baseline().await?],
        ..Namespaces::default()
    };
    let webhook = Webhook::on(gate.platform);
    webhook.set(2, SHORT).await?;
    // The present certificates are of a long life.
    gate.admin.may(&format!("delete {SECRET}"), "").await?;
    let made = eventually("short-lived certificates", async || Ok(gate.admin.get(SECRET).await.ok())).await?;
    // The old authority is trusted no more before the count begins.
    eventually("one authority", async || Ok(stages(&gate).await?.filter(|stage| stage.trusted == 1))).await?;
    let client = gate.platform.client().await?;
    let load = Load::start(&client, &client, &namespaces);
    let rotated = whole_rotation(&gate, &made["data"]["ca.crt"]).await;
    let report = load.end().await?;
    let reset = webhook.set(2, "CA_LIFE_SECONDS- CERT_LIFE_SECONDS- CA_OVERLAP_SECONDS-").await;
    gate.admin.may(&format!("delete {SECRET}"), "").await?;
    let leaves = rotated?;
    reset?;
    println!("one authority after the other, {leaves} serving certificates:\n{report}");
    ensure!(report.violations().is_empty(), "{:?}", report.violations());
    for outcome in [Outcome::Unreachable, Outcome::Unknown] {
        ensure!(report.of(outcome) == 0, "{outcome:?}: {}", report.of(outcome));
    }
    ensure!(report.of(Outcome::Refused) > 50, "no load");
    gate.delete(&[&namespaces.bare[0], &namespaces.complete[0]]).await
}

/// What the Secret has at a moment.
struct Stage {
    authority: Value,
    leaf: Value,
    trusted: usize,
}

async fn stages(gate: &Gate) -> Result<Option<Stage>> {
    let Ok(secret) = gate.admin.get(SECRET).await else { return Ok(None) };
    let data = &secret["data"];
    let bundle = STANDARD.decode(data["ca-bundle.crt"].as_str().unwrap_or_default())?;
    let trusted = String::from_utf8(bundle)?.matches("BEGIN CERTIFICATE").count();
    Ok(Some(Stage { authority: data["ca.crt"].clone(), leaf: data["tls.crt"].clone(), trusted }))
}

/// Waits until another authority than `first` is the only one; sees two trusted at once before, and says how many leaves.
async fn whole_rotation(gate: &Gate, first: &Value) -> Result<usize> {
    let (started, mut leaves, mut both) = (Instant::now(), BTreeSet::new(), false);
    loop {
        if let Some(stage) = stages(gate).await? {
            leaves.insert(stage.leaf.to_string());
            ensure!(stage.trusted <= 2, "{} authorities are trusted", stage.trusted);
            both |= stage.trusted == 2;
            if stage.authority != *first && stage.trusted == 1 {
                ensure!(both && leaves.len() >= 3, "two at once: {both}; {} leaves", leaves.len());
                return Ok(leaves.len());
            }
        }
        ensure!(started.elapsed() < Duration::from_mins(2), "the authority is not replaced");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
