//! An API server of a few lines, for tests: a function from method, path and body to status and body.

use std::{future::Future, sync::Arc};

use kube::client::Body;
use serde_json::{Value, json};

/// A client of an API server that answers by `answer`.
pub fn client<A, F>(answer: A) -> kube::Client
where
    A: Fn(String, String, Value) -> F + Send + Sync + 'static,
    F: Future<Output = (u16, Value)> + Send + 'static,
{
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let (status, value) = answer(parts.method.to_string(), parts.uri.path().to_owned(), body).await;
            let response =
                http::Response::builder().status(status).body(Body::from(value.to_string().into_bytes()));
            Ok::<_, kube::Error>(response.unwrap())
        }
    });
    kube::Client::new(service, "default")
}

/// A failure as Kubernetes words it.
pub fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code}),
    )
}
