//! A tenant's admin, outside of its own namespace and in its own pods.

use anyhow::{Result, ensure};
use contract::names;
use serde_json::{Value, json};
use tests::bypasses::Served;
use tests::bypasses::caller::Patch;
use tests::bypasses::classes::{Class, class};

use crate::Ways;
use crate::gate::pod;

/// Whether the owner may do this.
async fn may(ways: &Ways, attributes: &Value) -> Result<bool> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": ways.owner.name(), "groups": ["system:authenticated"], "resourceAttributes": attributes}});
    let answer =
        ways.admin.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await?;
    ensure!(answer.done(), "{answer:?}");
    Ok(answer.body["status"]["allowed"] == true)
}

/// What Kubernetes gives everybody: to ask about oneself.
fn is_a_question(served: &Served) -> bool {
    served.resource.starts_with("selfsubject")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_writes_nothing_outside_of_its_namespace() -> Result<()> {
    let ways = Ways::find().await?;
    for served in ways.served.iter().filter(|served| !is_a_question(served)) {
        let namespace = if served.namespaced { names::SYSTEM_NAMESPACE } else { "" };
        for verb in served.verbs.iter().filter(|verb| class(served, verb) != Some(Class::Read)) {
            let attributes = json!({"namespace": namespace, "group": served.group, "version": served.version,
                "resource": served.resource, "subresource": served.subresource, "verb": verb});
            ensure!(!may(&ways, &attributes).await?, "the owner may {verb} {served} in {namespace:?}");
        }
    }
    // Verbs that are no requests of their own.
    for (group, resource, verb) in [
        ("", "users", "impersonate"),
        ("", "groups", "impersonate"),
        ("", "serviceaccounts", "impersonate"),
        ("authentication.k8s.io", "userextras", "impersonate"),
        ("rbac.authorization.k8s.io", "clusterroles", "bind"),
        ("rbac.authorization.k8s.io", "clusterroles", "escalate"),
        ("certificates.k8s.io", "signers", "approve"),
        ("certificates.k8s.io", "signers", "sign"),
    ] {
        let namespace = if resource == "serviceaccounts" { names::SYSTEM_NAMESPACE } else { "" };
        let attributes = json!({"namespace": namespace, "group": group, "resource": resource, "verb": verb});
        ensure!(!may(&ways, &attributes).await?, "the owner may {verb} {resource}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_gives_itself_no_more_and_its_pods_become_no_worse() -> Result<()> {
    let ways = Ways::find().await?;
    let namespace = ways.gate.ready().await?;
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    let group = "rbac.authorization.k8s.io";
    let escalations = [
        (
            format!("{rbac}/rolebindings"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "more"},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"apiGroup": group, "kind": "User", "name": ways.owner.name()}]}),
        ),
        (
            format!("{rbac}/roles"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "more"},
                "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
        ),
        (
            format!("/api/v1/namespaces/{}/serviceaccounts/provisioner/token", names::SYSTEM_NAMESPACE),
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
        ),
    ];
    for (path, body) in escalations {
        let answer = ways.owner.ask("POST", &path, &body).await?;
        ensure!(answer.code == 403, "{path}: {answer:?}");
    }
    // A pod that was let in takes no container that would not have been.
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let answer = ways.owner.ask("POST", &pods, &pod(&json!({"name": "a"}))).await?;
    ensure!(answer.done(), "{answer:?}");
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "localhost/agent-ready/probe:local",
        "securityContext": {"privileged": true}}]}});
    let path = format!("{pods}/a/ephemeralcontainers");
    let answer = ways.admin.patch(Patch::Strategic, &path, &debug).await?;
    ensure!(answer.code == 403 && answer.body.to_string().contains("PodSecurity"), "{answer:?}");
    // Kubernetes' role `admin` has no right to debug containers at all.
    let answer = ways.owner.patch(Patch::Strategic, &path, &debug).await?;
    ensure!(answer.code == 403, "{answer:?}");
    ways.gate.delete(&[&namespace]).await
}
