//! G10: the webhook configurations heal from any replica, within seconds and without fights. Alone in its binary, because it
//! opens the gate for everyone for a moment.

mod gate;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use gate::{Actor, DEPLOYMENT, Gate, POD_GATE, eventually, fresh, pod};
use serde_json::{Value, json};
use tests::program::Program;

const GATE: &str = "validatingwebhookconfiguration/agent-ready-gate";
const INJECT: &str = "mutatingwebhookconfiguration/agent-ready-inject";
/// Within this a configuration is right again.
const HEALED: Duration = Duration::from_secs(5);
/// Two looks of every replica fit into this.
const TWO_LOOKS: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_or_edited_is_right_again_within_5_s() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let mut longest = Duration::ZERO;
    for configuration in [GATE, INJECT] {
        let good = content(&settled(&gate, configuration).await?);
        gate.admin.may(&format!("delete {configuration}"), "").await?;
        longest = longest.max(healed(&gate, configuration, &good, "deleted").await?);
        for (what, patch) in edits(&good)? {
            edit(&gate, configuration, &patch).await.context(what)?;
            longest = longest.max(healed(&gate, configuration, &good, what).await?);
        }
    }
    println!("deleted or edited, right again after at most {longest:?}");
    let create = format!("create -f - --dry-run=server --namespace={namespace}");
    eventually("the gate refuses", async || {
        Ok(gate.admin.may_not(POD_GATE, &create, &pod(&json!({"name": "a"})).to_string()).await.ok())
    })
    .await?;
    gate.delete(&[&namespace]).await
}

/// What opens the gate, or brings it under another's control.
fn edits(good: &Value) -> Result<Vec<(&'static str, Value)>> {
    let terms = &good["webhooks"][0]["namespaceSelector"]["matchExpressions"];
    let mut let_out = terms.as_array().context("terms")?.clone();
    let_out.push(json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["evil"]}));
    let condition = json!([{"name": "never", "expression": "false"}]);
    let mut foreign = good["webhooks"][0].clone();
    foreign["name"] = json!("foreign.example.com");
    let replace = |path: &str, value: Value| json!([{"op": "add", "path": format!("/webhooks/0/{path}"), "value": value}]);
    Ok(vec![
        ("fails otherwise", replace("failurePolicy", flip(&good["webhooks"][0]["failurePolicy"]))),
        ("a namespace is let out", replace("namespaceSelector/matchExpressions", json!(let_out))),
        ("objects are let out", replace("objectSelector", json!({"matchLabels": {"a": "b"}}))),
        ("a condition that never holds", replace("matchConditions", condition)),
        ("another authority", replace("clientConfig/caBundle", Value::Null)),
        ("no entries", json!([{"op": "remove", "path": "/webhooks"}])),
        ("an entry more", json!([{"op": "add", "path": "/webhooks/-", "value": foreign}])),
    ])
}

fn flip(policy: &Value) -> Value {
    json!(if policy == "Fail" { "Ignore" } else { "Fail" })
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_and_metadata_of_a_managed_cluster_stay() -> Result<()> {
    let gate = Gate::shared().await?;
    let before = settled(&gate, GATE).await?;
    ensure!(before["metadata"]["annotations"]["admissions.enforcer/disabled"] == "true", "{before:#}");
    let term = json!({"key": "control-plane", "operator": "DoesNotExist"});
    let patch = json!([
        {"op": "add", "path": "/webhooks/0/namespaceSelector/matchExpressions/0", "value": term},
        {"op": "add", "path": "/metadata/labels/added-by", "value": "the-cloud"},
    ]);
    edit(&gate, GATE, &patch).await?;
    let after = unchanged(&gate, GATE).await?;
    ensure!(after["metadata"]["labels"]["added-by"] == "the-cloud", "{after:#}");
    ensure!(after["webhooks"][0]["namespaceSelector"]["matchExpressions"][0] == term, "{after:#}");
    // Gone again, as it would be with the next write of who added it.
    let patch = json!([
        {"op": "remove", "path": "/webhooks/0/namespaceSelector/matchExpressions/0"},
        {"op": "remove", "path": "/metadata/labels/added-by"},
    ]);
    edit(&gate, GATE, &patch).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_versions_the_newer_registers_and_neither_fights() -> Result<()> {
    let gate = Gate::shared().await?;
    let good = content(&settled(&gate, GATE).await?);
    let mut newer = Newer::start(&gate).await?;
    let exempts = |object: &Value| object.to_string().contains(&newer.exempt);
    eventually("the newer version's registration", async || {
        let present = gate.admin.get(GATE).await?;
        Ok(exempts(&present).then_some(()))
    })
    .await?;
    let present = unchanged(&gate, GATE).await?;
    ensure!(exempts(&present), "an older version wrote over a newer: {present:#}");
    // While the newer version is there, it is the one that puts right.
    gate.admin.may(&format!("delete {GATE}"), "").await?;
    let theirs = content(&present);
    healed(&gate, GATE, &theirs, "deleted under two versions").await?;
    let end = newer.program.terminate().await?;
    ensure!(end.success(), "the replica ended with {end}");
    ensure!(
        content(&unchanged(&gate, GATE).await?) == theirs,
        "a replica that ends touched the registration"
    );
    // The last of the newer version is gone for good: a deletion lets the others register.
    for configuration in [INJECT, GATE] {
        gate.admin.may(&format!("delete {configuration}"), "").await?;
    }
    healed(&gate, GATE, &good, "deleted after the newer version").await?;
    eventually("the injection's registration", async || Ok(gate.admin.get(INJECT).await.ok())).await.map(drop)
}

/// A replica of a later start whose settings register something else, as a process of this machine.
struct Newer {
    program: Program,
    exempt: String,
}

impl Newer {
    async fn start(gate: &Gate) -> Result<Self> {
        let kubeconfig = gate.platform.service_account_kubeconfig("webhook").await?;
        let exempt = fresh("other-");
        let (https, plain) = (free_port()?, free_port()?);
        let mut environment: BTreeMap<String, String> = [
            ("KUBECONFIG", kubeconfig.to_string_lossy().into_owned()),
            ("LISTEN", format!("127.0.0.1:{https}")),
            ("PLAIN_LISTEN", format!("127.0.0.1:{plain}")),
            ("EXEMPT_NAMESPACES", format!("kube-system,kube-public,kube-node-lease,{exempt}")),
            ("DRAIN_DELAY_SECONDS", "0".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if !gate.platform.has_node() {
            environment.insert("WEBHOOK_URL".to_owned(), gate.platform.webhook_url());
        }
        let mut program = Program::spawn("webhook", &["serve"], &environment)?;
        program.ready(&format!("http://127.0.0.1:{plain}/readyz"), Duration::from_secs(30)).await?;
        Ok(Self { program, exempt })
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn edit(gate: &Gate, configuration: &str, patch: &Value) -> Result<()> {
    let command = format!("patch {configuration} --type=json --patch-file=/dev/stdin");
    gate.admin.may(&command, &patch.to_string()).await.map(drop)
}

/// What we own of a configuration.
fn content(object: &Value) -> Value {
    json!({"webhooks": object["webhooks"], "owners": object["metadata"]["ownerReferences"]})
}

/// The configuration once it has everything that a replica writes.
async fn settled(gate: &Gate, configuration: &str) -> Result<Value> {
    eventually("a whole registration", async || {
        let object = gate.admin.get(configuration).await?;
        let whole = object["metadata"]["ownerReferences"].is_array()
            && object["webhooks"][0]["clientConfig"]["caBundle"].is_string();
        Ok(whole.then_some(object))
    })
    .await
}

/// Waits until the content is this again; how long it took.
async fn healed(gate: &Gate, configuration: &str, good: &Value, what: &str) -> Result<Duration> {
    let started = Instant::now();
    loop {
        if gate.admin.get(configuration).await.is_ok_and(|object| content(&object) == *good) {
            return Ok(started.elapsed());
        }
        if started.elapsed() > HEALED {
            bail!("{configuration}, {what}, was not right again within {HEALED:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The configuration, which nobody has written for two looks of every replica.
async fn unchanged(gate: &Gate, configuration: &str) -> Result<Value> {
    let before = gate.admin.get(configuration).await?;
    let started = Instant::now();
    while started.elapsed() < TWO_LOOKS {
        let now = gate.admin.get(configuration).await?;
        let (was, is) = (&before["metadata"]["resourceVersion"], &now["metadata"]["resourceVersion"]);
        ensure!(was == is, "{configuration} was written again: {now:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    gate.admin.get(configuration).await
}

/// The account's rights are those of its role: an actor of it can be made.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_may_not_delete_what_it_looks_after() -> Result<()> {
    let gate = Gate::shared().await?;
    let webhook = Actor::account(gate.platform, "webhook").await?;
    for configuration in [GATE, INJECT] {
        webhook.may_not("is forbidden", &format!("delete {configuration}"), "").await?;
    }
    Ok(())
}

/// Revisions begin anew with a Deployment that is made again: what it registers must count all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_made_again_registers_its_own() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.platform.has_node() {
        println!("NOT PROVED here: without a node there is no Deployment");
        return Ok(());
    }
    gate.admin.may(&format!("rollout restart {DEPLOYMENT}"), "").await?;
    gate.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await?;
    let mut present = gate.admin.get(DEPLOYMENT).await?;
    present["status"] = Value::Null;
    for field in ["uid", "resourceVersion", "managedFields", "creationTimestamp", "generation"] {
        present["metadata"][field] = Value::Null;
    }
    let writer = fresh("writer-");
    let mut other = present.clone();
    let writers = format!("system:serviceaccount:agent-ready-system:provisioner,{writer}");
    let environment = &mut other["spec"]["template"]["spec"]["containers"][0]["env"];
    let environment = environment.as_array_mut().context("the settings are in the environment")?;
    environment.retain(|variable| variable["name"] != "LABEL_WRITERS");
    environment.push(json!({"name": "LABEL_WRITERS", "value": writers}));
    let changed = made_again(&gate, &other, &writer, true).await;
    let back = made_again(&gate, &present, &writer, false).await;
    changed.and(back)
}

/// Makes the Deployment again, and waits until what is registered names this writer, or does not.
async fn made_again(gate: &Gate, deployment: &Value, writer: &str, named: bool) -> Result<()> {
    gate.admin.may(&format!("delete {DEPLOYMENT}"), "").await?;
    gate.admin.may("create -f -", &deployment.to_string()).await?;
    gate.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await?;
    eventually("the registration of the Deployment made again", async || {
        Ok((gate.admin.get(GATE).await?.to_string().contains(writer) == named).then_some(()))
    })
    .await
}
