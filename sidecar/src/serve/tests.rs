use std::time::{Duration, Instant};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};
use tower::ServiceExt;

use super::*;
use crate::store::{Position, Row};

fn row(key: &str, version: u64, value: Option<&str>) -> Row {
    Row {
        service: "ai".parse().unwrap(),
        key: key.parse().unwrap(),
        value: value.map(|text| RawValue::from_string(text.into()).unwrap()),
        version,
        at: Position { epoch: 1, revision: version },
        updated_at: Timestamp::from_second(1_000).unwrap(),
    }
}

fn empty() -> App {
    let shared = Arc::new(Shared::new("0191f0c0-0000-7000-8000-00000000000a".parse().unwrap()));
    App::new(shared.clone(), Arc::new(Metrics::new(&shared)), CancellationToken::new())
}

fn loaded() -> App {
    let app = empty();
    app.shared
        .publish(Snapshot::default().merge(vec![row("gone", 2, None), row("threshold", 3, Some("0.75"))]));
    app
}

fn change(app: &App, row: Row) {
    app.shared.publish(app.shared.snapshot().unwrap().merge(vec![row]));
}

async fn get_with(
    app: &App,
    path: &str,
    name: header::HeaderName,
    value: &str,
) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    request.headers_mut().insert(header::HOST, "localhost:7070".parse().unwrap());
    request.headers_mut().insert(name, value.parse().unwrap());
    let response = local_router(app.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get_path(app: &App, path: &str) -> (StatusCode, HeaderMap, Value) {
    get_with(app, path, header::ACCEPT, "*/*").await
}

#[tokio::test]
async fn a_value_keeps_its_type_and_carries_its_version() {
    let (status, headers, body) = get_path(&loaded(), "/v1/config/ai/threshold").await;
    assert_eq!(
        (status, &headers[header::ETAG]),
        (StatusCode::OK, &header::HeaderValue::from_static("\"1.3\""))
    );
    let expected = json!({"service": "ai", "key": "threshold", "value": 0.75, "version": 3, "updated_at": "1970-01-01T00:16:40Z"});
    assert_eq!(body, expected);
    assert!(!headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn lists_hold_what_is_not_deleted() {
    for path in ["/v1/config", "/v1/config/ai"] {
        let (status, headers, body) = get_path(&loaded(), path).await;
        assert_eq!((status, body["revision"].as_u64()), (StatusCode::OK, Some(3)), "{path}");
        assert_eq!(body["configs"].as_array().unwrap().len(), 1);
        let tag = headers[header::ETAG].to_str().unwrap();
        assert_eq!(get_with(&loaded(), path, header::IF_NONE_MATCH, tag).await.0, StatusCode::NOT_MODIFIED);
    }
    let (_, _, body) = get_path(&loaded(), "/v1/config/other").await;
    assert_eq!(body["configs"], json!([]));
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let known = get_with(&loaded(), "/v1/config/ai/threshold", header::IF_NONE_MATCH, "\"1.3\"").await;
    assert_eq!((known.0, known.2), (StatusCode::NOT_MODIFIED, Value::Null));
    let newer = get_with(&loaded(), "/v1/config/ai/threshold", header::IF_NONE_MATCH, "\"1.2\"").await;
    assert_eq!(newer.0, StatusCode::OK);
}

#[tokio::test]
async fn errors_are_problem_documents() {
    for (path, status) in [
        ("/v1/config/ai/none", StatusCode::NOT_FOUND),
        ("/v1/config/ai/gone", StatusCode::NOT_FOUND),
        ("/v1/config/AI/threshold", StatusCode::BAD_REQUEST),
        ("/v1/config/ai/a*", StatusCode::BAD_REQUEST),
        ("/v1/config/ai/threshold?wait=1s", StatusCode::BAD_REQUEST),
        ("/v1/config/ai/threshold?after_version=1&wait=forever", StatusCode::BAD_REQUEST),
        ("/v2", StatusCode::NOT_FOUND),
    ] {
        let (found, headers, body) = get_path(&loaded(), path).await;
        assert_eq!((found, body["status"].as_u64()), (status, Some(u64::from(status.as_u16()))), "{path}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
    }
    assert_eq!(get_path(&loaded(), "/v1/config/ai/gone").await.2["version"], 2);
}

#[tokio::test]
async fn before_the_load_nothing_is_served_but_the_health() {
    let app = empty();
    for path in ["/v1/config", "/v1/config/ai", "/v1/config/ai/threshold", "/v1/events", "/readyz"] {
        let (status, headers, _) = get_path(&app, path).await;
        assert_eq!(
            (status, &headers[header::RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
        );
    }
    assert_eq!(get_path(&app, "/healthz").await.0, StatusCode::OK);
    let (status, _, body) = get_path(&app, "/status").await;
    assert_eq!((status, &body["ready"], &body["age_seconds"]), (StatusCode::OK, &json!(false), &Value::Null));
}

#[tokio::test]
async fn a_long_poll_ends_with_the_change_or_the_time() {
    let app = loaded();
    let path = "/v1/config/ai/threshold?after_version=3&wait=10s";
    let start = Instant::now();
    let (poller, changer) = tokio::join!(get_path(&app, path), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        change(&app, row("other", 4, Some("1")));
        tokio::time::sleep(Duration::from_millis(20)).await;
        change(&app, row("threshold", 5, Some("0.9")));
        Instant::now()
    });
    assert_eq!((poller.0, &poller.2["value"]), (StatusCode::OK, &json!(0.9)));
    assert!(changer.elapsed() < Duration::from_secs(1) && start.elapsed() >= Duration::from_millis(40));
    for known in [5, 9] {
        let path = format!("/v1/config/ai/threshold?after_version={known}&wait=20ms");
        assert_eq!(
            get_path(&app, &path).await.0,
            StatusCode::NOT_MODIFIED,
            "nothing newer, and nothing older"
        );
    }
    let path = "/v1/config/ai/threshold?after_version=4&wait=10s";
    assert_eq!(get_path(&app, path).await.2["version"], 5);
}

#[tokio::test]
async fn a_long_poll_ends_with_the_program_and_waits_for_what_is_not_there_yet() {
    let app = loaded();
    let (poller, ()) = tokio::join!(get_path(&app, "/v1/config/ai/new?after_version=0"), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        change(&app, row("new", 6, Some("1")));
    });
    assert_eq!(poller.2["version"], 6);
    let (poller, ()) = tokio::join!(get_path(&app, "/v1/config/ai/new?after_version=6&wait=5m"), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        app.stop.cancel();
    });
    assert_eq!(poller.0, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_long_poll_follows_a_restored_database_backwards() {
    let app = loaded();
    let (poller, ()) = tokio::join!(get_path(&app, "/v1/config/ai/threshold?after_version=3"), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut restored = row("threshold", 1, Some("0.5"));
        restored.at.epoch = 2;
        app.shared.publish(app.shared.snapshot().unwrap().follow(vec![restored]));
    });
    assert_eq!((poller.0, &poller.2["version"]), (StatusCode::OK, &json!(1)));
}

#[tokio::test]
async fn waiting_requests_are_bounded() {
    let app = loaded();
    let places: Vec<_> = (0..WAITING_MAX).map(|_| app.wait().unwrap()).collect();
    let path = "/v1/config/ai/threshold?after_version=3&wait=1s";
    assert_eq!(get_path(&app, path).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get_path(&app, "/v1/config/ai/threshold").await.0, StatusCode::OK);
    drop(places);
    assert_eq!(
        get_path(&app, "/v1/config/ai/threshold?after_version=3&wait=1ms").await.0,
        StatusCode::NOT_MODIFIED
    );
}

/// All that a stream says until the program ends.
async fn events(app: &App, last_event_id: &str, changes: Vec<Row>) -> String {
    let mut request =
        Request::get("/v1/events").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    if !last_event_id.is_empty() {
        request.headers_mut().insert("last-event-id", last_event_id.parse().unwrap());
    }
    let response = local_router(app.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (text, ()) = tokio::join!(to_bytes(response.into_body(), 1 << 20), async {
        for row in changes {
            tokio::time::sleep(Duration::from_millis(10)).await;
            change(app, row);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        app.stop.cancel();
    });
    String::from_utf8(text.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn events_tell_what_changes_and_never_a_value() {
    let text =
        events(&loaded(), "", vec![row("threshold", 4, Some("\"s3cret\"")), row("threshold", 5, None)]).await;
    assert_eq!(
        text,
        "id: 1.4\nevent: change\ndata: {\"key\":\"threshold\",\"service\":\"ai\",\"version\":4}\n\n\
         id: 1.5\nevent: change\ndata: {\"deleted\":true,\"key\":\"threshold\",\"service\":\"ai\",\"version\":5}\n\n"
    );
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_cut() {
    let text = events(&loaded(), "1.2", vec![]).await;
    assert!(text.starts_with("id: 1.3\n") && text.matches("id: ").count() == 1, "{text}");
}

#[tokio::test]
async fn a_foreign_host_gets_nothing_whatever_the_path() {
    for path in ["/v1/config", "/healthz", "/status", "/metrics", "/none"] {
        let request =
            Request::get(path).header(header::HOST, "evil.example:7070").body(Body::empty()).unwrap();
        let response = local_router(loaded()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn writing_is_not_allowed() {
    let request = Request::put("/v1/config/ai/threshold")
        .header(header::HOST, "localhost")
        .body(Body::empty())
        .unwrap();
    let response = local_router(loaded()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_pods_address_has_probes_and_metrics_and_no_values() {
    for (path, status) in [
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::OK),
        ("/metrics", StatusCode::OK),
        ("/status", StatusCode::NOT_FOUND),
        ("/v1/config", StatusCode::NOT_FOUND),
        ("/v1/events", StatusCode::NOT_FOUND),
    ] {
        let request = Request::get(path).header(header::HOST, "10.244.0.7:7071").body(Body::empty()).unwrap();
        assert_eq!(pod_router(loaded()).oneshot(request).await.unwrap().status(), status, "{path}");
    }
}
