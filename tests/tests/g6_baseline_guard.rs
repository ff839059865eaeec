//! G6: what a namespace's isolation rests on cannot be taken apart, by the tenant's admin or the cluster's.

mod gate;

use anyhow::{Result, ensure};
use gate::{Actor, BASELINE_GUARD, Gate, eventually, manifest};
use serde_json::{Value, json};

/// One object of the baseline: where it is served, and how it is made worse.
struct Part {
    kind: &'static str,
    name: &'static str,
    collection: &'static str,
    /// Merge patches that weaken it.
    weaker: Vec<Value>,
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn parts() -> Vec<Part> {
    // The garbage collector deletes it in a moment: that owner was never there.
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "none",
        "uid": "0198b1f2-0000-7000-8000-000000000001"}]}});
    let part = |kind, name, collection, mut weaker: Vec<Value>| {
        weaker.push(owner.clone());
        Part { kind, name, collection, weaker }
    };
    vec![
        part(
            "networkpolicy",
            "default-deny",
            "/apis/networking.k8s.io/v1/namespaces/NS/networkpolicies",
            vec![
                json!({"spec": {"policyTypes": ["Ingress"]}}),
                json!({"spec": {"egress": [{}]}}),
                json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
            ],
        ),
        part(
            "resourcequota",
            "tenant-quota",
            "/api/v1/namespaces/NS/resourcequotas",
            vec![
                json!({"spec": {"hard": {"requests.cpu": "1000"}}}),
                json!({"spec": {"hard": {"requests.storage": null}}}),
            ],
        ),
        part(
            "limitrange",
            "tenant-limits",
            "/api/v1/namespaces/NS/limitranges",
            vec![json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "64"}}]}})],
        ),
        part(
            "rolebinding",
            "tenant-owner",
            "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings",
            vec![
                json!({"subjects": []}),
                json!({"subjects": [{"apiGroup": RBAC, "kind": "User", "name": "eve"}]}),
                json!({"subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "system:authenticated"}]}),
            ],
        ),
    ]
}

/// RFC 7386, for `replace` and `apply`.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|object| object.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Every way to take this part away or to weaken it: command and input.
async fn ways(gate: &Gate, namespace: &str, part: &Part) -> Result<Vec<(String, String)>> {
    let Part { kind, name, collection, weaker } = part;
    let (scope, collection) = (format!("--namespace={namespace}"), collection.replace("NS", namespace));
    let present = gate.admin.get(&format!("{kind} {name} {scope}")).await?;
    let mut ways = vec![
        (format!("delete {kind} {name} {scope}"), String::new()),
        (format!("delete {kind} {name} {scope} --dry-run=server"), String::new()),
        (format!("delete --raw {collection}"), String::new()),
        (format!("delete --raw {collection}?labelSelector=!none"), String::new()),
    ];
    for patch in weaker {
        let mut weak = present.clone();
        merge(&mut weak, patch);
        ways.push((format!("patch {kind} {name} {scope} --type=merge --patch={patch}"), String::new()));
        ways.push((format!("replace -f - {scope}"), weak.to_string()));
        ways.push((format!("replace --raw {collection}/{name} -f -"), weak.to_string()));
        if let Some(metadata) = weak["metadata"].as_object_mut() {
            metadata.retain(|key, _| ["name", "namespace", "ownerReferences"].contains(&key.as_str()));
        }
        // An owner is added by apply; other parts of a spec would stay beside the new ones.
        if !weak["metadata"]["ownerReferences"].is_null() {
            ways.push((format!("apply --server-side --force-conflicts -f - {scope}"), weak.to_string()));
        }
    }
    let test = json!([{"op": "add", "path": "/metadata/ownerReferences", "value":
        part.weaker.last().map(|owner| &owner["metadata"]["ownerReferences"])}]);
    ways.push((format!("patch {kind} {name} {scope} --type=json --patch={test}"), String::new()));
    Ok(ways)
}

/// What lies in the namespace, without what changes by itself, and without `allow-platform`: it denies nothing that
/// another would allow, so that a tenant may take away what it alone would miss.
async fn baseline(gate: &Gate, namespace: &str) -> Result<Value> {
    let kinds = "networkpolicies,resourcequotas,limitranges,rolebindings";
    let all = gate.admin.get(&format!("{kinds} --namespace={namespace}")).await?;
    let items = all["items"].as_array().cloned().unwrap_or_default();
    Ok(items
        .iter()
        .filter(|item| item["metadata"]["name"] != "allow-platform")
        .map(|item| json!([item["kind"], item["metadata"]["name"], item["spec"], item["subjects"]]))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_admin_can_delete_or_weaken_it_in_any_way() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.ready().await?;
    let before = baseline(&gate, &namespace).await?;
    for part in parts() {
        let ways = ways(&gate, &namespace, &part).await?;
        for (command, input) in &ways {
            let message = gate.admin.may_not(BASELINE_GUARD, command, input).await?;
            ensure!(message.contains("is isolated by its baseline"), "{command}: {message}");
            ensure!(message.contains("To do:"), "{command}: {message}");
        }
        // Kubernetes' role `admin` may not write quotas and limits at all.
        let may_write = ["networkpolicy", "rolebinding"].contains(&part.kind);
        let refused = if may_write { BASELINE_GUARD } else { "is forbidden: User" };
        for (command, input) in ways.iter().take(6) {
            gate.owner.may_not(refused, command, input).await?;
        }
    }
    ensure!(baseline(&gate, &namespace).await? == before, "the baseline has changed");
    gate.delete(&[&namespace]).await
}

fn policy(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

fn binding(name: &str, kind: &str, subject: &str) -> String {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": RBAC, "kind": kind, "name": subject}]})
    .to_string()
}

/// Objects that open the namespace to everyone.
fn openings() -> Vec<String> {
    vec![
        policy("open", &json!({"podSelector": {}, "ingress": [{}]})),
        policy(
            "open",
            &json!({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Egress"], "egress": [{}]}),
        ),
        policy(
            "open",
            &json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}),
        ),
        policy("open", &json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]})),
        binding("open", "Group", "system:authenticated"),
        binding("open", "Group", "system:unauthenticated"),
        binding("open", "Group", "system:serviceaccounts"),
        binding("open", "User", "system:anonymous"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_opens_it_beside_the_baseline_and_narrower_is_the_tenants_right() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.ready().await?;
    let scope = format!("--namespace={namespace}");
    for opening in openings() {
        for actor in [&gate.admin, &gate.owner] {
            for command in ["create -f -", "apply --server-side -f -", "create --dry-run=server -f -"] {
                let message = actor.may_not(BASELINE_GUARD, &format!("{command} {scope}"), &opening).await?;
                ensure!(message.contains("whatever is narrower is yours to make"), "{message}");
            }
        }
    }
    // A PUT makes a binding that is not there.
    let put = format!(
        "replace --raw /apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/open -f -"
    );
    gate.admin.may_not(BASELINE_GUARD, &put, &binding("open", "Group", "system:authenticated")).await?;

    let create = format!("create -f - {scope}");
    let narrow = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.1.0.0/16"}}]}]});
    gate.owner.may(&create, &policy("own", &narrow)).await?;
    gate.owner.may(&create, &binding("own", "User", "bob")).await?;
    gate.owner
        .may(&format!("apply --server-side --force-conflicts -f - {scope}"), &binding("own", "User", "eve"))
        .await?;
    // What was narrow cannot be widened.
    let widen = json!({"spec": {"ingress": [{}]}});
    let widen = format!("patch networkpolicy own {scope} --type=merge --patch={widen}");
    gate.owner.may_not(BASELINE_GUARD, &widen, "").await?;
    gate.owner.may(&format!("delete networkpolicy/own rolebinding/own {scope}"), "").await?;

    // A second default-deny makes the first one dispensable, and is then what may not go.
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    gate.owner.may(&create, &policy("second", &deny)).await?;
    gate.owner.may(&format!("delete networkpolicy default-deny {scope}"), "").await?;
    gate.owner.may_not(BASELINE_GUARD, &format!("delete networkpolicy second {scope}"), "").await?;

    // Kubernetes collects a tenant's garbage.
    let mut garbage: Value = serde_json::from_str(&policy("garbage", &deny))?;
    garbage["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "none",
        "uid": "0198b1f2-0000-7000-8000-000000000001"}]);
    gate.owner.may(&create, &garbage.to_string()).await?;
    eventually("the garbage is gone", async || {
        let left = gate.admin.may(&format!("get networkpolicies {scope} -o name"), "").await?;
        Ok((!left.contains("garbage")).then_some(()))
    })
    .await?;
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_kubernetes_counts_what_a_quota_has_used() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.ready().await?;
    let scope = format!("--namespace={namespace}");
    for status in
        [json!({"used": {"requests.cpu": "0"}}), json!({"hard": {"requests.cpu": "1000"}}), json!(null)]
    {
        // Something is used, so that nothing used would be a lie.
        if status["used"].is_object() {
            gate.owner
                .may(&format!("create -f - {scope}"), &gate::pod(&json!({"name": "a"})).to_string())
                .await?;
        }
        let patch = json!({"status": status});
        let patch = format!(
            "patch resourcequota tenant-quota {scope} --subresource=status --type=merge --patch={patch}"
        );
        let message = gate.admin.may_not(BASELINE_GUARD, &patch, "").await?;
        ensure!(message.contains("only Kubernetes may write it"), "{message}");
    }
    let used = gate.admin.get(&format!("resourcequota tenant-quota {scope}")).await?;
    ensure!(used["status"]["used"]["requests.cpu"] != "0", "the pod is not counted: {used}");
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn before_it_is_whole_it_is_free_and_from_then_on_it_is_not() -> Result<()> {
    let gate = Gate::shared().await?;
    let (namespace, (object, children)) = Gate::tenant()?;
    let scope = format!("--namespace={namespace}");
    gate.provisioner.may("create -f -", &object).await?;
    let deny = manifest(&contract::baseline::default_deny(&namespace))?.to_string();
    gate.admin.may("create -f -", &deny).await?;
    gate.admin.may(&format!("delete networkpolicy default-deny {scope}"), "").await?;
    // Whole, and not yet called ready: the label's proof must not be overtaken by a deletion.
    gate.provisioner.may("apply --server-side -f -", &children).await?;
    gate.quota_is_enforced(&namespace).await?;
    let delete = format!("delete networkpolicy default-deny {scope}");
    gate.admin.may_not(BASELINE_GUARD, &delete, "").await?;
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_break_glass_repair_and_what_is_broken_gets_no_worse() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.ready().await?;
    let scope = format!("--namespace={namespace}");
    let printed = gate.break_glass.may(&format!("delete limitrange tenant-limits {scope}"), "").await?;
    ensure!(printed.contains("Warning: break-glass was used"), "{printed}");
    // The proof does not hold now; the namespace is called ready all the same, and keeps the rest.
    for actor in [&gate.admin, &gate.owner] {
        actor.may_not(BASELINE_GUARD, &format!("delete networkpolicy default-deny {scope}"), "").await?;
    }
    let limits = manifest(&contract::baseline::limit_range(&namespace))?.to_string();
    gate.provisioner.may("apply --server-side -f -", &limits).await?;
    let delete = format!("delete limitrange tenant-limits {scope}");
    gate.admin.may_not(BASELINE_GUARD, &delete, "").await?;
    gate.break_glass.may(&delete, "").await?;
    // Anybody may make it better.
    gate.admin.may("create -f -", &limits).await?;
    gate.admin.may_not(BASELINE_GUARD, &delete, "").await?;

    // The namespace's end is nobody's business but Kubernetes'.
    gate.admin.may(&format!("delete namespace {namespace} --timeout=60s"), "").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_of_nobody_are_not_looked_at() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let actor: &Actor = &gate.admin;
    for opening in openings() {
        actor
            .may(&format!("apply --server-side --force-conflicts -f - --namespace={namespace}"), &opening)
            .await?;
    }
    gate.delete(&[&namespace]).await
}
