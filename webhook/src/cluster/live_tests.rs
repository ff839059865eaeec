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

/// The queries of all lists that `read` makes.
async fn queries<F: Future<Output = ()>>(read: impl FnOnce(Live) -> F) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lists = Arc::clone(&seen);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let uri = request.uri();
        if !uri.path().ends_with("/shop") {
            lists.lock().unwrap().push(uri.query().unwrap_or_default().trim_matches('&').to_owned());
        }
        let body = if uri.path().ends_with("/shop") {
            namespace(&json!({})).1
        } else {
            json!({"metadata": {}, "items": []})
        };
        let body = kube::client::Body::from(body.to_string().into_bytes());
        async move { Ok::<_, kube::Error>(http::Response::new(body)) }
    });
    read(Live::new(Client::new(service, "default"), Policy::new("image"))).await;
    let seen = seen.lock().unwrap();
    seen.clone()
}

#[tokio::test]
async fn verdicts_ask_for_what_is_and_messages_for_what_is_at_hand() {
    let proof = queries(async |live| drop(live.proof("shop", NamespaceKeys::default()).await.unwrap())).await;
    assert_eq!(proof, [""; 4]);
    let tenant = queries(async |live| drop(live.tenant("shop").await.unwrap())).await;
    assert_eq!(tenant, [""; 4]);
    let message = queries(async |live| drop(live.namespace("shop").await)).await;
    assert_eq!(message, ["resourceVersion=0&resourceVersionMatch=NotOlderThan"; 4]);
}

fn known() -> store::Namespace {
    let wire = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    <store::Namespace as store::Record>::from_wire(wire)
}

#[tokio::test]
async fn the_audit_asks_for_what_its_watches_have_heard_of() {
    let heard = Heard::default();
    heard.note("networkpolicies", "7");
    heard.note("networkpolicies", "9");
    let prove = async |live: Live| drop(live.prove_heard(&known(), &heard).await.unwrap());
    let mut asked = queries(prove).await;
    asked.sort();
    assert_eq!(asked, ["", "", "", "resourceVersion=9&resourceVersionMatch=NotOlderThan"]);
    heard.forget("networkpolicies");
    assert_eq!(queries(prove).await, [""; 4]);
}

#[tokio::test]
async fn where_that_cannot_be_had_the_audit_asks_for_what_is() {
    let service = tower::service_fn(|request: http::Request<kube::client::Body>| {
        let heard = request.uri().query().unwrap_or_default().contains("NotOlderThan");
        let (code, body) =
            if heard { failure(504, "Timeout") } else { (200, json!({"metadata": {}, "items": []})) };
        let body = kube::client::Body::from(body.to_string().into_bytes());
        async move { Ok::<_, kube::Error>(http::Response::builder().status(code).body(body).unwrap()) }
    });
    let heard = Heard::default();
    heard.note("limitranges", "9000");
    let live = Live::new(Client::new(service, "default"), Policy::new("image"));
    assert_eq!(live.prove_heard(&known(), &heard).await.unwrap().len(), 7);
}
