//! G11: what is already there and should not be is found, told and reported: by the running gate and by `webhook audit`.

mod gate;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gate::{Gate, eventually, fresh, pod};
use serde_json::{Value, json};
use tokio::process::Command;

/// How long the audit may take to see a change, look which reports are served, and write.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs `webhook audit` as administrator; its exit status and its answer.
async fn audit(gate: &Gate, arguments: &[&str]) -> Result<(i32, Value)> {
    let (code, stdout) = audit_text(gate, &[arguments, &["--output", "json"]].concat()).await?;
    Ok((code, serde_json::from_str(&stdout)?))
}

async fn audit_text(gate: &Gate, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = Command::new(tests::workspace::binary("webhook")?);
    command.arg("audit").args(arguments).env("KUBECONFIG", gate.platform.kubectl_command().parts().1);
    let output = command.kill_on_drop(true).output().await?;
    let code = output.status.code().context("killed by a signal")?;
    ensure!(code != 2, "the audit could not read: {}", String::from_utf8_lossy(&output.stderr));
    Ok((code, String::from_utf8(output.stdout)?))
}

/// Kinds of the findings about a namespace and what lies in it, with the names of their objects.
fn of(answer: &Value, namespace: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = answer["findings"].as_array().into_iter().flatten();
    findings
        .filter(|finding| finding["object"]["namespace"] == namespace)
        .map(|finding| (text(&finding["kind"]), text(&finding["object"]["name"])))
        .collect()
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

async fn create(gate: &Gate, namespace: &str, object: &Value) -> Result<()> {
    gate.break_glass.may(&format!("create -f - --namespace={namespace}"), &object.to_string()).await.map(drop)
}

/// A namespace that warns, with pods in it.
async fn warned(gate: &Gate, pods: usize) -> Result<String> {
    let namespace = gate.namespace().await?;
    gate.break_glass.may(&format!("label namespace {namespace} agent-ready.io/gate=warn"), "").await?;
    gate.admin.may(&format!("wait serviceaccount/default --for=create --namespace={namespace}"), "").await?;
    let first = pod(&json!({"name": "pod-0"}));
    // The selector sees the mode a moment after it was set.
    eventually("the mode is in force", async || Ok(create(gate, &namespace, &first).await.ok())).await?;
    for number in 1..pods {
        create(gate, &namespace, &pod(&json!({"name": format!("pod-{number}")}))).await?;
    }
    Ok(namespace)
}

fn open_policy() -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "open"},
        "spec": {"podSelector": {}, "ingress": [{}]}})
}

fn static_pod() -> Value {
    let mut pod = pod(&json!({"name": "static", "annotations": {"kubernetes.io/config.mirror": "abc"}}));
    pod["spec"]["nodeName"] = json!("a-node-that-is-gone");
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn one_read_finds_what_is_wrong_and_the_exit_status_says_so() -> Result<()> {
    let gate = Gate::shared().await?;
    let (ready, warned) = tokio::try_join!(gate.ready(), warned(&gate, 1))?;
    let (_, before) = audit(&gate, &["--no-powers"]).await?;
    ensure!(of(&before, &ready).is_empty(), "a proved namespace has no finding: {:?}", of(&before, &ready));
    create(&gate, &ready, &open_policy()).await?;
    gate.break_glass.may(&format!("delete limitrange --all --namespace={ready}"), "").await?;
    gate.break_glass.may(&format!("label namespace {warned} agent-ready.io/inject=enabled"), "").await?;
    create(&gate, &warned, &static_pod()).await?;
    let (code, after) = audit(&gate, &["--no-powers"]).await?;
    ensure!(code == 1, "findings are exit status 1: {code}");
    let expected = [pair("ready-without-proof", &ready), pair("opens-everything", "open")];
    ensure!(of(&after, &ready) == expected, "{:?}", of(&after, &ready));
    let expected = [
        pair("pod-in-unready-namespace", "pod-0"),
        pair("static-pod", "static"),
        pair("pod-without-sidecar", "pod-0"),
    ];
    ensure!(of(&after, &warned) == expected, "{:?}", of(&after, &warned));
    let (_, text) = audit_text(&gate, &["--no-powers"]).await?;
    for part in [
        format!("critical ready-without-proof      Namespace {ready}"),
        format!("critical opens-everything         NetworkPolicy {ready}/open"),
        "no LimitRange with default requests".to_owned(),
    ] {
        ensure!(text.contains(&part), "{part:?} is not in: {text}");
    }
    gate.break_glass
        .may(&format!("label namespace {warned} agent-ready.io/gate=exempt --overwrite"), "")
        .await?;
    let (_, exempt) = audit(&gate, &["--no-powers"]).await?;
    ensure!(of(&exempt, &warned).is_empty(), "{:?}", of(&exempt, &warned));
    gate.delete(&[&ready, &warned]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_guard_is_found() -> Result<()> {
    let gate = Gate::shared().await?;
    let guards = |answer: &Value| -> Vec<String> {
        let findings = answer["findings"].as_array().into_iter().flatten();
        let guard = findings.filter(|finding| finding["kind"] == "guard");
        guard.map(|finding| finding["message"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let (_, answer) = audit(&gate, &["--no-powers"]).await?;
    ensure!(guards(&answer).is_empty(), "as installed: {:?}", guards(&answer));
    // The same configurations are an edit to who expects others.
    let (code, answer) = audit(&gate, &["--no-powers", "--exempt-namespaces", "somewhere-else"]).await?;
    let found = guards(&answer);
    ensure!(code == 1 && found.len() == 2, "{found:?}");
    let says = "pods.gate.agent-ready.io: its namespaceSelector lacks a term";
    ensure!(found.iter().any(|message| message.contains(says)), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_pass_the_gate_is_named() -> Result<()> {
    let gate = Gate::shared().await?;
    let eve = fresh("eve-");
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": eve}, "rules": [
        {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["delete"]},
    ]});
    let of = |name: &str| json!([{"apiGroup": group, "kind": "User", "name": name}]);
    let role_ref = json!({"apiGroup": group, "kind": "ClusterRole", "name": eve});
    let (everywhere, here) = (format!("{eve}-everywhere"), format!("{eve}-here"));
    let cluster = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": eve},
        "roleRef": role_ref, "subjects": of(&everywhere)});
    let local = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "roleRef": role_ref,
        "metadata": {"name": eve, "namespace": "agent-ready-system"}, "subjects": of(&here)});
    gate.admin
        .may("create -f -", &[role, cluster, local].map(|object| object.to_string()).join("\n---\n"))
        .await?;
    let (_, answer) = audit(&gate, &[]).await?;
    let powers = |subject: &str| -> Vec<String> {
        let subject = format!("User {subject}");
        let powers = answer["powers"].as_array().into_iter().flatten();
        let has = |power: &&Value| {
            power["holders"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|holder| holder["subject"] == subject.as_str())
        };
        powers.filter(has).map(|power| power["power"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let all = ["impersonate", "mint-tokens", "enter-pods", "edit-guards"];
    ensure!(powers(&everywhere) == all, "{:?}", powers(&everywhere));
    ensure!(powers(&here) == ["mint-tokens", "enter-pods"], "{:?}", powers(&here));
    let (_, text) = audit_text(&gate, &[]).await?;
    let way = format!("User {here}  (RoleBinding agent-ready-system/{eve} -> ClusterRole {eve})");
    ensure!(text.contains(&way), "{way} is not in: {text}");
    gate.admin.may(&format!("delete clusterrole,clusterrolebinding {eve}"), "").await?;
    gate.admin.may(&format!("delete rolebinding {eve} --namespace=agent-ready-system"), "").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn before_anything_is_enforced_one_knows_what_would_be_hit() -> Result<()> {
    let gate = Gate::shared().await?;
    let (ready, warned) = tokio::try_join!(gate.ready(), warned(&gate, 3))?;
    let (code, answer) = audit(&gate, &["--as-if-enforced"]).await?;
    let hits: Vec<&Value> = answer["namespaces"].as_array().context("no list")?.iter().collect();
    let hit = hits.iter().find(|hit| hit["namespace"] == warned.as_str()).context("it is not named")?;
    ensure!(code == 1 && hit["pods"] == 3 && hit["makers"] == json!({"no controller": 3}), "{hit}");
    ensure!(hit["missing"].to_string().contains("no NetworkPolicy denies ingress to all pods"), "{hit}");
    ensure!(!hits.iter().any(|hit| hit["namespace"] == ready.as_str()), "a ready namespace is not hit");
    gate.delete(&[&ready, &warned]).await
}

/// Value of a metric of the running gate, by its whole name.
async fn metric(gate: &Gate, name: &str) -> Result<f64> {
    let url = format!("{}/metrics", gate.platform.webhook_url());
    let text = tests::http::unverified()?.get(url).send().await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().parse()?)
}

/// Waits until `seen` says something.
async fn seen<T>(what: &str, mut seen: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(value) = seen().await? {
            return Ok(value);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    bail!("{what} did not happen within {PATIENCE:?}")
}

/// The audit's Events of a namespace: reason and object.
async fn events(gate: &Gate, namespace: &str) -> Result<Vec<Value>> {
    let events = gate.admin.get(&format!("events --namespace={namespace}")).await?;
    let all = events["items"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().filter(|event| event["reportingComponent"] == "agent-ready.io/gate").collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_gate_tells_by_metrics_and_events_without_a_flood() -> Result<()> {
    let gate = Gate::shared().await?;
    let (few, many) = tokio::try_join!(warned(&gate, 2), warned(&gate, 12))?;
    let told = seen("an event for each of few pods", async || {
        let events = events(&gate, &few).await?;
        Ok((events.len() == 2).then_some(events))
    })
    .await?;
    for event in &told {
        ensure!(event["reason"] == "PodInUnreadyNamespace", "{event:#}");
        ensure!(event["involvedObject"]["kind"] == "Pod" && event["type"] == "Warning", "{event:#}");
        ensure!(event["message"].as_str().is_some_and(|text| text.contains("To do:")), "{event:#}");
    }
    let one = seen("one event for many pods", async || {
        let events = events(&gate, &many).await?;
        let joined =
            |event: &&Value| event["message"].as_str().is_some_and(|text| text.starts_with("12 Pods"));
        Ok(events.iter().find(joined).cloned())
    })
    .await?;
    ensure!(one["involvedObject"]["kind"] == "Namespace", "{one:#}");
    // While they were made there were fewer: up to five were told one by one, and no more ever will be.
    let count = events(&gate, &many).await?.len();
    ensure!(count <= 6, "{count} events for 12 pods");
    let found = "agent_ready_webhook_audit_findings{kind=\"pod-in-unready-namespace\"}";
    let counted = metric(&gate, found).await?;
    ensure!(counted >= 14.0, "{counted}");
    gate.admin
        .may(&format!("delete pods --all --wait=false --grace-period=0 --namespace={many}"), "")
        .await?;
    gate.delete(&[&few, &many]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_came_in_after_the_label_went_is_told() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.ready().await?;
    // The selector's lag made certain: a mode that lets pods in.
    gate.break_glass.may(&format!("label namespace {namespace} agent-ready.io/gate=warn"), "").await?;
    create(&gate, &namespace, &pod(&json!({"name": "before"}))).await?;
    // Creation times have seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    gate.provisioner.may(&format!("label namespace {namespace} isolation-ready-"), "").await?;
    create(&gate, &namespace, &pod(&json!({"name": "after"}))).await?;
    let told = seen("an event for the pod that came in after", async || {
        let events = events(&gate, &namespace).await?;
        let late = |event: &&Value| event["reason"] == "PodAfterRevocation";
        let late: Vec<Value> = events.iter().filter(late).cloned().collect();
        Ok((!late.is_empty()).then_some(late))
    })
    .await?;
    let names: Vec<&Value> = told.iter().map(|event| &event["involvedObject"]["name"]).collect();
    ensure!(names == ["after"], "{names:?}");
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_baseline_is_noticed_and_reported_where_reports_are_served() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.ready().await?;
    let definitions =
        std::fs::read_to_string(tests::workspace::root().join("tests/tests/crds/policyreports.yaml"))?;
    gate.admin.may("apply -f -", &definitions).await?;
    gate.admin.may("wait --for=condition=Established crd/policyreports.wgpolicyk8s.io", "").await?;
    let report = format!("policyreport agent-ready-gate --namespace={namespace}");
    ensure!(gate.admin.get(&report).await.is_err(), "no report is made of nothing");
    gate.break_glass.may(&format!("delete limitrange --all --namespace={namespace}"), "").await?;
    let written = seen("a report of the namespace", async || {
        let report = gate.admin.get(&report).await.ok();
        Ok(report.filter(|report| report["summary"]["fail"] == 1))
    })
    .await?;
    let result = &written["results"][0];
    ensure!(result["rule"] == "ready-without-proof" && result["severity"] == "critical", "{written:#}");
    ensure!(result["resources"][0]["name"] == namespace.as_str(), "{written:#}");
    let told = events(&gate, &namespace).await?;
    ensure!(told.iter().any(|event| event["reason"] == "ReadyWithoutProof"), "{told:#?}");
    // What happens beside it is no reason to write.
    create(&gate, &namespace, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}))
        .await?;
    gate.admin.may(&format!("annotate namespace {namespace} note=a"), "").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let later = gate.admin.get(&report).await?;
    ensure!(
        later["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"],
        "written again without a change: {later:#}"
    );
    let limits = contract::baseline::limit_range(&namespace);
    gate.provisioner.may("apply --server-side -f -", &serde_json::to_string(&limits)?).await?;
    seen("the report is emptied", async || {
        Ok(gate.admin.get(&report).await.ok().filter(|report| report["summary"]["fail"] == 0))
    })
    .await?;
    gate.admin.may("delete crd policyreports.wgpolicyk8s.io clusterpolicyreports.wgpolicyk8s.io", "").await?;
    gate.delete(&[&namespace]).await
}
