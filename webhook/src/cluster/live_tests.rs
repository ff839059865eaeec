use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::{client, failure};

/// Reads namespace `shop` from an API server that answers for it, and with no objects for everything in it.
async fn read<F>(answer: impl Fn() -> F + Send + Sync + 'static) -> NamespaceState
where
    F: Future<Output = (u16, Value)> + Send + 'static,
{
    let client = client(move |_, path, _| {
        let namespace = (path == "/api/v1/namespaces/shop").then(&answer);
        async move {
            match namespace {
                Some(answer) => answer.await,
                None => (200, json!({"metadata": {}, "items": []})),
            }
        }
    });
    (*Live::new(client, Policy::new("image")).namespace("shop").await).clone()
}

fn namespace(labels: &Value) -> (u16, Value) {
    (200, json!({"metadata": {"name": "shop", "labels": labels, "annotations": {}}}))
}

#[tokio::test]
async fn what_the_api_server_says_is_what_is_found() {
    let NamespaceState::Found(found) = read(async || namespace(&json!({"team": "a"}))).await else {
        panic!()
    };
    assert_eq!(found.labels["team"], "a");
    assert!(matches!(found.missing, Missing::Parts(parts) if parts.len() == 7));
    let NamespaceState::Found(ready) = read(async || namespace(&json!({"isolation-ready": "true"}))).await
    else {
        panic!()
    };
    assert_eq!(ready.missing, Missing::default());
    assert_eq!(read(async || failure(404, "NotFound")).await, NamespaceState::Absent);
}

#[tokio::test]
async fn errors_are_unknown() {
    for code in [401, 403, 429, 500, 503] {
        let state = read(move || async move { failure(code, "Broken") }).await;
        assert!(matches!(state, NamespaceState::Unknown(why) if why.contains("Broken")), "{code}");
    }
    assert!(matches!(read(async || (200, json!([1]))).await, NamespaceState::Unknown(_)));
}

#[tokio::test]
async fn silence_is_unknown_after_the_deadline() {
    let started = tokio::time::Instant::now();
    let state = read(std::future::pending).await;
    assert!(matches!(state, NamespaceState::Unknown(why) if why.contains("did not answer within 1.8s")));
    assert_eq!(started.elapsed().as_secs(), READ_TIME_MAX.as_secs());
}

#[tokio::test]
async fn a_baseline_that_cannot_be_read_is_no_proof() {
    let broken = client(|_, path, _| async move {
        if path.ends_with("/limitranges") {
            failure(500, "Broken")
        } else {
            (200, json!({"metadata": {}, "items": []}))
        }
    });
    assert!(
        Live::new(broken, Policy::new("image"))
            .proof("shop", NamespaceKeys::default())
            .await
            .unwrap_err()
            .contains("Broken")
    );
    let empty = client(|_, _, _| async { (200, json!({"metadata": {}, "items": []})) });
    assert_eq!(
        Live::new(empty, Policy::new("image")).proof("shop", NamespaceKeys::default()).await.unwrap().len(),
        7
    );
}

#[tokio::test]
async fn a_tenant_is_read_whole_or_not_at_all() {
    for broken in ["/namespaces/shop", "/networkpolicies", "/rolebindings", "/resourcequotas", "/limitranges"]
    {
        let client = client(move |_, path, _| async move {
            if path.ends_with(broken) {
                failure(500, "Broken")
            } else if path.ends_with("/namespaces/shop") {
                namespace(&json!({"team": "a"}))
            } else {
                (200, json!({"metadata": {}, "items": []}))
            }
        });
        let read = Live::new(client, Policy::new("image")).tenant("shop").await;
        assert!(read.unwrap_err().contains("Broken"), "{broken}");
    }
    let gone = client(|_, path, _| async move {
        if path.ends_with("/namespaces/shop") {
            failure(404, "NotFound")
        } else {
            (200, json!({"metadata": {}, "items": []}))
        }
    });
    assert!(Live::new(gone, Policy::new("image")).tenant("shop").await.unwrap().is_none());
}
