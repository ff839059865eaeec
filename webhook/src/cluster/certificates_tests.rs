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
        self.store_of(name, Source::Own)
    }

    fn store_of(&self, name: &str, source: Source) -> Store {
        let server = self.clone();
        let client = client(move |method, _, body| {
            let server = server.clone();
            async move {
                // Others get their turn between any two calls.
                tokio::task::yield_now().await;
                server.answer(&method, body)
            }
        });
        Store::new(client, "system", "webhook-tls", vec![name.to_owned()], source, Lives::default())
    }
}

#[tokio::test]
async fn replicas_that_start_at_once_serve_the_same_certificate() {
    let server = Server::default();
    let starts = (0..8).map(|_| {
        let store = server.store("webhook.system.svc");
        tokio::spawn(async move { store.ensure(None).await.unwrap() })
    });
    let all = futures::future::join_all(starts.collect::<Vec<_>>()).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|material| material.as_ref().unwrap() == first));
}

#[tokio::test]
async fn a_replica_with_another_name_adds_it() {
    let server = Server::default();
    let first = server.store("a.svc").ensure(None).await.unwrap();
    let second = server.store("b.svc").ensure(None).await.unwrap();
    assert_eq!(first.bundle, second.bundle);
    assert!(server.store("a.svc").ensure(None).await.unwrap() == second);
}

#[tokio::test]
async fn a_secret_of_nonsense_is_replaced() {
    let server = Server::default();
    *server.0.lock().unwrap() =
        Some(json!({"metadata": {"resourceVersion": "1"}, "data": {"ca.crt": "bm9uc2Vuc2U="}}));
    let made = server.store("a.svc").ensure(None).await.unwrap();
    assert!(server.store("a.svc").ensure(None).await.unwrap() == made);
}

#[tokio::test]
async fn what_another_program_writes_is_read_and_never_written() {
    let server = Server::default();
    let store = server.store_of("a.svc", Source::Secret);
    let absent = store.ensure(None).await.err().unwrap().to_string();
    assert_eq!(
        absent,
        "Secret webhook-tls is not there: its writer (cert-manager) has not made it, or writes another"
    );
    let made = server.store("a.svc").ensure(None).await.unwrap();
    // cert-manager keeps the authority's key to itself.
    let mut secret = server.0.lock().unwrap().clone().unwrap();
    for key in ["ca.key", "ca-bundle.crt"] {
        secret["data"].as_object_mut().unwrap().remove(key);
    }
    *server.0.lock().unwrap() = Some(secret.clone());
    assert!(store.ensure(None).await.unwrap().certificate == made.certificate);
    let other = server.store_of("b.svc", Source::Secret).ensure(None).await.err().unwrap().to_string();
    assert!(other.contains("its certificate does not serve b.svc"), "{other}");
    assert_eq!(server.0.lock().unwrap().clone().unwrap(), secret);
}

#[tokio::test]
async fn a_lost_secret_is_made_anew_and_the_old_authority_stays_trusted() {
    let server = Server::default();
    let store = server.store("a.svc");
    let first = store.ensure(None).await.unwrap();
    *server.0.lock().unwrap() = None;
    let second = store.ensure(None).await.unwrap();
    assert!(second.authority != first.authority);
    assert!(crate::cluster::material::contains(&second.bundle, &first.authority.certificate));
}

#[tokio::test]
async fn a_refusal_of_kubernetes_is_told() {
    let client = client(|_, _, _| async { failure(403, "Forbidden") });
    let error = Store::new(client, "system", "webhook-tls", Vec::new(), Source::Own, Lives::default())
        .ensure(None)
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "Secret webhook-tls: ApiError: Forbidden: Forbidden (Status { status: Some(Failure), code: 403, message: \"Forbidden\", metadata: None, reason: \"Forbidden\", details: None })"
    );
}
