use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::{client, failure};

/// One Secret, with versions; conflicts as Kubernetes makes them.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Option<Value>>>);

impl Server {
    fn answer(&self, method: &str, mut body: Value) -> (u16, Value) {
        let mut present = self.0.lock().unwrap();
        let version = present.as_ref().map(|secret| secret["metadata"]["resourceVersion"].clone());
        match (method, version) {
            ("GET" | "PUT", None) => failure(404, "NotFound"),
            ("GET", Some(_)) => (200, present.clone().unwrap()),
            ("POST", Some(_)) => failure(409, "AlreadyExists"),
            ("PUT", Some(version)) if body["metadata"]["resourceVersion"] != version => {
                failure(409, "Conflict")
            }
            _ => {
                body["metadata"]["resourceVersion"] = json!(uuid::Uuid::new_v4().to_string());
                *present = Some(body.clone());
                (200, body)
            }
        }
    }

    fn store(&self, name: &str) -> Store {
        let server = self.clone();
        let client = client(move |method, _, body| {
            let server = server.clone();
            async move {
                // Others get their turn between any two calls.
                tokio::task::yield_now().await;
                server.answer(&method, body)
            }
        });
        Store::new(client, "system", "webhook-tls", vec![name.to_owned()])
    }
}

#[tokio::test]
async fn replicas_that_start_at_once_serve_the_same_certificate() {
    let server = Server::default();
    let starts = (0..8).map(|_| {
        let store = server.store("webhook.system.svc");
        tokio::spawn(async move { store.ensure().await.unwrap() })
    });
    let all = futures::future::join_all(starts.collect::<Vec<_>>()).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|material| material.as_ref().unwrap() == first));
}

#[tokio::test]
async fn a_replica_with_another_name_adds_it() {
    let server = Server::default();
    let first = server.store("a.svc").ensure().await.unwrap();
    let second = server.store("b.svc").ensure().await.unwrap();
    assert_eq!(first.ca, second.ca);
    assert!(server.store("a.svc").ensure().await.unwrap() == second);
}

#[tokio::test]
async fn a_secret_of_nonsense_is_replaced() {
    let server = Server::default();
    *server.0.lock().unwrap() =
        Some(json!({"metadata": {"resourceVersion": "1"}, "data": {"ca.crt": "bm9uc2Vuc2U="}}));
    let made = server.store("a.svc").ensure().await.unwrap();
    assert!(server.store("a.svc").ensure().await.unwrap() == made);
}

#[tokio::test]
async fn a_refusal_of_kubernetes_is_told() {
    let client = client(|_, _, _| async { failure(403, "Forbidden") });
    let error = Store::new(client, "system", "webhook-tls", Vec::new()).ensure().await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "Secret webhook-tls: ApiError: Forbidden: Forbidden (Status { status: Some(Failure), code: 403, message: \"Forbidden\", metadata: None, reason: \"Forbidden\", details: None })"
    );
}
