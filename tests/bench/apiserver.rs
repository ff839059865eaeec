//! An API server of a few lines that says it has as many namespaces and pods as one likes: filling a real one with fifty
//! thousand pods takes longer than all other sections together. What the webhook reads of it is as large as the real thing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use contract::baseline::{self, PodSecurity, Tenant};
use contract::{OrganizationId, Owner, Quota, Slug};
use futures::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

/// Pods of each namespace.
pub const PODS_EACH: usize = 5;

/// How many there are, and what was written.
struct Cluster {
    namespaces: usize,
    pod: String,
    written: Mutex<BTreeMap<String, Value>>,
}

/// Serves a cluster of `namespaces` (a number) at `address`.
pub fn run(address: SocketAddr, namespaces: &str) -> Result<()> {
    let cluster =
        Cluster { namespaces: namespaces.parse()?, pod: pod()?.to_string(), written: Mutex::default() };
    let routes = Router::new().fallback(answer).with_state(Arc::new(cluster));
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, routes).await.context("serve")
    })
}

type Parameters = Query<BTreeMap<String, String>>;

async fn answer(
    State(cluster): State<Arc<Cluster>>,
    method: Method,
    uri: Uri,
    Query(parameters): Parameters,
    body: Bytes,
) -> Response {
    let path = uri.path();
    if method != Method::GET {
        let mut object: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        object["metadata"]["resourceVersion"] = json!("1");
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let place = if path.ends_with(name) { path.to_owned() } else { format!("{path}/{name}") };
        cluster.written.lock().unwrap_or_else(PoisonError::into_inner).insert(place, object.clone());
        return json_of(StatusCode::OK, object.to_string());
    }
    if parameters.contains_key("watch") {
        return silence();
    }
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<usize>().ok());
    let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["api", "v1", "namespaces"] => {
            page(cluster.namespaces, from, limit, |number| namespace(&name(number)))
        }
        ["api", "v1", "pods"] => page(cluster.namespaces * PODS_EACH, from, limit, |number| {
            let namespace = name(number / PODS_EACH);
            cluster.pod.replace("NAMESPACE", &namespace).replace("NUMBER", &format!("{number:05}"))
        }),
        ["api", "v1", "namespaces", name] => json_of(StatusCode::OK, namespace(name)),
        [.., "namespaces", namespace, plural] => {
            let items = of_tenant(namespace, plural).unwrap_or_default();
            json_of(StatusCode::OK, list(&items, None))
        }
        _ => {
            let written = cluster.written.lock().unwrap_or_else(PoisonError::into_inner);
            match written.get(path) {
                Some(object) => json_of(StatusCode::OK, object.to_string()),
                None if path.starts_with("/apis/") && segments.len() == 4 => {
                    json_of(StatusCode::OK, list(&[], None))
                }
                None => {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found",
                        "reason": "NotFound", "code": 404});
                    json_of(StatusCode::NOT_FOUND, status.to_string())
                }
            }
        }
    }
}

fn json_of(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A watch in which nothing happens.
fn silence() -> Response {
    let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": "1", "creationTimestamp": null}}});
    let first = futures::stream::once(async move { Ok::<_, std::io::Error>(format!("{bookmark}\n")) });
    let body = Body::from_stream(first.chain(futures::stream::pending()));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn page(count: usize, from: usize, limit: usize, object: impl Fn(usize) -> String) -> Response {
    let end = from.saturating_add(limit).min(count);
    let items: Vec<String> = (from.min(end)..end).map(object).collect();
    json_of(StatusCode::OK, list(&items, (end < count).then_some(end)))
}

fn list(items: &[String], next: Option<usize>) -> String {
    let next = next.map(|next| next.to_string()).unwrap_or_default();
    format!(
        r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"1","continue":"{next}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

fn name(number: usize) -> String {
    format!("org-{number:05}")
}

fn tenant(namespace: &str) -> Result<Tenant> {
    let slug = namespace.strip_prefix("org-").unwrap_or(namespace);
    Ok(Tenant {
        organization: OrganizationId(Uuid::nil()),
        slug: Slug::from_name(slug)?,
        owner: Owner::from_email("agent-ready:", "ann@acme.example")?,
        quota: Quota::default(),
        operation: Uuid::nil(),
        pod_security: PodSecurity::default(),
    })
}

/// A namespace; each is a tenant's and ready, but for those that the load is about.
fn namespace(name: &str) -> String {
    let Ok(tenant) = tenant(name) else { return "{}".to_owned() };
    let mut object = serde_json::to_value(baseline::namespace(&tenant)).unwrap_or_default();
    object["metadata"]["name"] = json!(name);
    object["metadata"]["uid"] =
        json!(format!("0df28fbd-5f5f-11e8-bc74-{:0>12}", name.trim_start_matches("org-")));
    object["metadata"]["resourceVersion"] = json!("1");
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
    if name.starts_with("org-") {
        object["metadata"]["labels"]["isolation-ready"] = json!("true");
    }
    object["metadata"]["managedFields"] = json!([{"manager": "provisioner", "operation": "Apply", "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {}}}}]);
    object.to_string()
}

/// The objects of a kind in a tenant's namespace.
fn of_tenant(namespace: &str, plural: &str) -> Option<Vec<String>> {
    let tenant = tenant(namespace).ok()?;
    let object = match plural {
        "resourcequotas" => {
            let mut quota = serde_json::to_value(baseline::resource_quota(&tenant)).ok()?;
            let hard = quota["spec"]["hard"].clone();
            quota["status"] = json!({"hard": hard, "used": hard});
            quota
        }
        "limitranges" => serde_json::to_value(baseline::limit_range(namespace)).ok()?,
        "networkpolicies" => serde_json::to_value(baseline::default_deny(namespace)).ok()?,
        "rolebindings" => serde_json::to_value(baseline::owner_binding(&tenant)).ok()?,
        _ => return None,
    };
    Some(vec![object.to_string()])
}

/// A running pod of a Deployment as an API server has it, 5.6 KiB with its managed fields and status.
fn pod() -> Result<Value> {
    let review: Value = serde_json::from_str(&crate::admission::pod_review("NAMESPACE"))?;
    let mut pod = review["request"]["object"].clone();
    pod["metadata"]["name"] = json!("web-7d4b9c6f5d-NUMBER");
    pod["metadata"]["uid"] = json!("5f0a4cbb-6f3f-4a8e-9a54-0a8f5a1NUMBER");
    pod["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod["metadata"]["resourceVersion"] = json!("1");
    pod["spec"]["nodeName"] = json!("node-1");
    pod["spec"]["initContainers"] =
        json!([{"name": "agent-ready-config", "image": "sidecar", "restartPolicy": "Always"}]);
    pod["status"] = json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    Ok(pod)
}
