use contract::{
    OrganizationId, Owner, Quota, Slug,
    baseline::{self, PodSecurity, Tenant},
};
use uuid::Uuid;

use super::*;
use crate::offline::{read::read, report};

const PROVISIONER: &str = "system:serviceaccount:agent-ready-system:provisioner";

fn pod(namespace: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]}})
    .to_string()
}

/// Namespace and baseline of a tenant as one input; the namespace with these labels on top.
fn tenant(labels: &[(&str, &str)]) -> String {
    let tenant = Tenant {
        organization: OrganizationId(Uuid::nil()),
        slug: Slug::from_name("acme").unwrap(),
        owner: Owner::from_email("agent-ready:", "a@b.example").unwrap(),
        quota: Quota::default(),
        operation: Uuid::nil(),
        pod_security: PodSecurity::default(),
    };
    let mut namespace = serde_json::to_value(baseline::namespace(&tenant)).unwrap();
    for (key, value) in labels {
        namespace["metadata"]["labels"][key] = json!(value);
    }
    let name = tenant.namespace();
    let objects = [
        namespace,
        serde_json::to_value(baseline::resource_quota(&tenant)).unwrap(),
        serde_json::to_value(baseline::limit_range(&name)).unwrap(),
        serde_json::to_value(baseline::default_deny(&name)).unwrap(),
        serde_json::to_value(baseline::owner_binding(&tenant)).unwrap(),
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}

async fn decided_by(user: &str, input: &str, labels: Option<&[(&str, &str)]>) -> Vec<Outcome> {
    let given = labels
        .map(|labels| labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    let known = Known { given, ..Known::default() };
    let asker = Asker {
        user: user.to_owned(),
        groups: Vec::new(),
        namespace: "default".to_owned(),
        endpoint: Endpoint::Validate,
    };
    decide(read(input.as_bytes()).unwrap(), known, &Policy::new("registry/sidecar:1"), &asker).await
}

async fn answer(user: &str, input: &str, labels: Option<&[(&str, &str)]>) -> String {
    report::text(&decided_by(user, input, labels).await)
}

#[tokio::test]
async fn a_pod_is_decided_by_the_labels_of_its_namespace() {
    insta::assert_snapshot!("pod_of_unknown", answer("ann", &pod("shop"), None).await);
    insta::assert_snapshot!("pod_of_unready", answer("ann", &pod("shop"), Some(&[("a", "b")])).await);
    insta::assert_snapshot!(
        "pod_of_ready",
        answer("ann", &pod("shop"), Some(&[("isolation-ready", "true")])).await
    );
    insta::assert_snapshot!(
        "pod_of_warn",
        answer("ann", &pod("shop"), Some(&[("agent-ready.io/gate", "warn")])).await
    );
    insta::assert_snapshot!("pod_of_exempt", answer("ann", &pod("kube-system"), None).await);
}

#[tokio::test]
async fn a_namespace_is_a_creation_unless_its_labels_are_given() {
    insta::assert_snapshot!("tenant_by_a_user", answer("ann", &tenant(&[]), None).await);
    insta::assert_snapshot!(
        "tenant_with_a_pod",
        answer(PROVISIONER, &format!("{}\n---\n{}", pod("org-acme"), tenant(&[])), None).await
    );
    let ready = tenant(&[("isolation-ready", "true")]);
    insta::assert_snapshot!(
        "ready_at_creation",
        answer(PROVISIONER, &format!("{ready}\n---\n{}", pod("org-acme")), None).await
    );
}

#[tokio::test]
async fn the_proof_reads_the_baseline_of_the_same_input() {
    let ready = tenant(&[("isolation-ready", "true")]);
    let existing: &[(&str, &str)] =
        &[("agent-ready.io/organization", "00000000-0000-0000-0000-000000000000")];
    insta::assert_snapshot!(
        "proved",
        answer(PROVISIONER, &format!("{ready}\n---\n{}", pod("org-acme")), Some(existing)).await
    );
    let open = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": "org-acme"}, "spec": {"podSelector": {}, "ingress": [{}]}});
    insta::assert_snapshot!(
        "not_proved",
        answer(PROVISIONER, &format!("{ready}\n---\n{open}"), Some(existing)).await
    );
    let alone = ready.split("\n---\n").next().unwrap();
    insta::assert_snapshot!("nothing_to_prove_with", answer(PROVISIONER, alone, Some(existing)).await);
}

#[tokio::test]
async fn a_pod_is_injected_where_its_namespace_asks_for_it() {
    let labels: &[(&str, &str)] = &[("isolation-ready", "true"), ("agent-ready.io/inject", "enabled")];
    let outcomes = decided_by("ann", &pod("shop"), Some(labels)).await;
    let json = report::json(&outcomes);
    assert_eq!(json["admitted"], true);
    assert_eq!(json["decisions"][0]["patch"].as_array().unwrap().len(), 3, "{json:#}");
    let foreign = pod("shop").replace("\"name\":\"app\"", "\"name\":\"agent-ready-config\"");
    insta::assert_snapshot!("foreign", answer("ann", &foreign, Some(labels)).await);
}

#[tokio::test]
async fn a_review_is_answered_as_the_api_server_is() {
    let review = json!({"apiVersion": API_VERSION, "kind": KIND, "request": {
        "uid": "u-1", "operation": "CREATE", "namespace": "shop", "name": "web",
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": {"metadata": {}},
    }});
    let outcomes = decided_by("ann", &review.to_string(), Some(&[])).await;
    insta::assert_json_snapshot!("review", report::json(&outcomes));
}
