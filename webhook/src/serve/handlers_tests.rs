use std::collections::BTreeMap;

use axum::body::Body;
use futures::future::{BoxFuture, FutureExt as _, ready};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use contract::proof::Defect;

use super::*;
use crate::{
    admission::{
        gate::{Namespace, NamespaceState},
        policy::Policy,
    },
    facts::{Facts, NamespaceKeys},
    serve::metrics,
};

/// Every namespace is in this state; the proof says this.
struct Fixed(Arc<NamespaceState>, Result<Vec<Defect>, String>);

impl Facts for Fixed {
    fn namespace(&self, _: &str) -> BoxFuture<'_, Arc<NamespaceState>> {
        ready(Arc::clone(&self.0)).boxed()
    }

    fn proof(&self, _: &str, _: NamespaceKeys) -> BoxFuture<'_, Result<Vec<Defect>, String>> {
        ready(self.1.clone()).boxed()
    }
}

fn application(facts: impl Facts, readiness: &Readiness) -> App {
    let mut registry = metrics::registry();
    let metrics = Metrics::register(&mut registry);
    App::new(Decider::new(Policy::new("image"), Arc::new(facts)), metrics, registry, readiness.clone())
}

fn app(labels: &[(&str, &str)], proof: Result<Vec<Defect>, String>) -> Router {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect::<BTreeMap<_, _>>();
    let state = NamespaceState::Found(Namespace { labels, ..Namespace::default() });
    router(application(Fixed(Arc::new(state), proof), &Readiness::default()))
}

fn review(resource: &str, operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": operation, "namespace": "shop", "name": "shop",
            "resource": {"group": "", "version": "v1", "resource": resource},
            "userInfo": {"username": "system:serviceaccount:agent-ready-system:provisioner"},
            "object": object, "oldObject": old,
        },
    })
}

async fn send(app: Router, path: &str, kind: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post(path).header("content-type", kind).body(body.into()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn allowed(app: Router, path: &str, review: &Value) -> bool {
    let (status, answer) = send(app, path, "application/json; charset=utf-8", review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["response"]["uid"], "u-1");
    answer["response"]["allowed"].as_bool().unwrap()
}

#[tokio::test]
async fn a_pod_is_decided_by_its_namespaces_state() {
    let pod = review("pods", "CREATE", &json!({}), &Value::Null);
    assert!(!allowed(app(&[], Ok(vec![])), "/validate", &pod).await);
    assert!(allowed(app(&[("isolation-ready", "true")], Ok(vec![])), "/validate", &pod).await);
}

#[tokio::test]
async fn a_label_is_decided_by_the_proof() {
    let ready = json!({"metadata": {"name": "shop", "labels": {"isolation-ready": "true"}}});
    let review = review("namespaces", "UPDATE", &ready, &json!({"metadata": {"name": "shop"}}));
    assert!(allowed(app(&[], Ok(vec![])), "/validate", &review).await);
    assert!(!allowed(app(&[], Ok(vec![Defect::LimitRangeMissing])), "/validate", &review).await);
    assert!(!allowed(app(&[], Err("timed out".into())), "/validate", &review).await);
}

#[tokio::test]
async fn what_no_rule_is_for_is_refused() {
    let ready = app(&[("isolation-ready", "true")], Ok(vec![]));
    for (path, resource, operation) in [
        ("/validate", "configmaps", "CREATE"),
        ("/validate", "pods", "DELETE"),
        ("/validate", "namespaces", "DELETE"),
        ("/mutate", "pods", "UPDATE"),
        ("/mutate", "namespaces", "CREATE"),
    ] {
        let review = review(resource, operation, &json!({}), &json!({}));
        assert!(!allowed(ready.clone(), path, &review).await, "{path} {operation} {resource}");
    }
    let mut other = review("pods", "CREATE", &json!({}), &Value::Null);
    other["request"]["subResource"] = json!("eviction");
    assert!(!allowed(ready.clone(), "/validate", &other).await);
    other["request"]["subResource"] = Value::Null;
    other["request"]["resource"]["group"] = json!("evil.io");
    assert!(!allowed(ready, "/validate", &other).await);
}

#[tokio::test]
async fn bad_input_gets_a_clear_error() {
    let good = review("pods", "CREATE", &json!({}), &Value::Null).to_string();
    let status = async |kind: &str, body: String| {
        let (status, answer) =
            send(app(&[("isolation-ready", "true")], Ok(vec![])), "/validate", kind, body).await;
        assert!(answer["detail"].is_string(), "{answer}");
        status.as_u16()
    };
    assert_eq!(status("text/plain", good.clone()).await, 415);
    assert_eq!(status("application/yaml", good.clone()).await, 415);
    assert_eq!(status("", good.clone()).await, 415);
    assert_eq!(status("application/json", good[..good.len() - 1].to_owned()).await, 400);
    assert_eq!(status("application/json", String::new()).await, 400);
    assert_eq!(status("application/json", good.replace("k8s.io/v1\"", "k8s.io/v1beta1\"")).await, 400);
    assert_eq!(status("application/json", " ".repeat(body::BODY_BYTES_MAX + 1)).await, 413);
}

#[tokio::test]
async fn a_long_pod_passes_and_a_longer_body_does_not() {
    let pod = json!({"metadata": {"annotations": {"long": "x".repeat(1_400_000)}}});
    let update = review("pods", "UPDATE", &pod, &pod);
    assert!(allowed(app(&[], Ok(vec![])), "/validate", &update).await);
    let longer = review("pods", "UPDATE", &json!({"x": "x".repeat(8_000_000)}), &Value::Null);
    let (status, _) = send(app(&[], Ok(vec![])), "/validate", "application/json", longer.to_string()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn health_readiness_and_metrics_answer_on_both_listeners() {
    let facts = Fixed(Arc::new(NamespaceState::Absent), Ok(vec![]));
    let readiness = Readiness::default();
    let part = readiness.part("a part", std::time::Duration::from_mins(1));
    let app = application(facts, &readiness);
    let status = async |router: Router, path: &str| {
        router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    for make in [router, plain_router] {
        assert_eq!(status(make(app.clone()), "/readyz").await, 503);
    }
    part.heard();
    for make in [router, plain_router] {
        for path in ["/readyz", "/healthz", "/metrics"] {
            assert_eq!(status(make(app.clone()), path).await, 200, "{path}");
        }
    }
    assert_eq!(status(plain_router(app.clone()), "/validate").await, 404);
    assert_eq!(status(router(app), "/validate").await, 405);
}

#[tokio::test]
async fn a_program_that_ends_is_not_ready_and_parts_from_each_connection_with_an_answer() {
    let readiness = Readiness::default();
    let app = application(Fixed(Arc::new(NamespaceState::Absent), Ok(vec![])), &readiness);
    let ask = async |request: Request<Body>| {
        let answer = router(app.clone()).oneshot(request).await.unwrap();
        (answer.status().as_u16(), answer.headers().get("connection").cloned())
    };
    let ready = || Request::get("/readyz").body(Body::empty()).unwrap();
    let review = || Request::post("/validate").body(Body::empty()).unwrap();
    assert_eq!((ask(ready()).await.0, ask(review()).await), (200, (415, None)));
    readiness.end();
    let close = Some(HeaderValue::from_static("close"));
    assert_eq!((ask(ready()).await.0, ask(review()).await), (503, (415, close)));
}
