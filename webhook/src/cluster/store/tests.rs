use std::sync::Mutex;

use kube::client::Body;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, gates: &[&str]) -> Value {
    let gates: Vec<Value> = gates.iter().map(|gate| json!({"name": gate})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7",
            "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "m", "fieldsV1": {"f:a": {}}}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "u"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u", "controller": true}]},
        "spec": {"containers": [{"name": "app", "image": "a"}], "schedulingGates": gates},
        "status": {"phase": "Pending", "conditions": []},
    })
}

fn wire(value: Value) -> <Pod as Record>::Wire {
    serde_json::from_value(value).unwrap()
}

fn names(store: &Store<Pod>) -> Vec<String> {
    let mut names: Vec<String> = store.of("shop").iter().map(|pod| pod.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_pod_is_kept_as_far_as_somebody_asks() {
    let mut held = pod("a", &["agent-ready.io/isolation", "other/gate"]);
    held["metadata"]["annotations"] =
        json!({"agent-ready.io/inject": "disabled", "kubernetes.io/config.mirror": "x"});
    held["spec"]["initContainers"] = json!([{"name": "agent-ready-config"}]);
    held["spec"]["hostNetwork"] = json!(true);
    let kept = Pod::from_wire(wire(held));
    let expected = Pod {
        namespace: "shop".into(),
        name: "a".into(),
        uid: "uid-a".into(),
        phase: Phase::Pending,
        node: None,
        created: 1_767_323_045,
        gates: ["agent-ready.io/isolation".into(), "other/gate".into()].into(),
        sidecar: true,
        opted_out: true,
        host_network: true,
        windows: false,
        owner: Some(Owner { kind: "ReplicaSet".into(), name: "web-1".into() }),
        mirror: true,
        terminating: false,
    };
    assert_eq!(kept, expected);
    assert!(kept.is_held() && !kept.may_run());
}

#[test]
fn what_lacks_everything_is_known_all_the_same() {
    for odd in [json!({}), json!({"metadata": {}, "spec": {}, "status": {"phase": "Dreaming"}})] {
        let kept = Pod::from_wire(wire(odd));
        assert_eq!((kept.name.as_ref(), kept.phase, kept.owner), ("", Phase::Unknown, None));
    }
}

#[test]
fn a_namespace_keeps_what_is_ours() {
    let object = json!({
        "metadata": {"name": "shop", "uid": "u", "deletionTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"isolation-ready": "true", "team": "x", "agent-ready.io/gate": "hold",
                "pod-security.kubernetes.io/enforce": "restricted"},
            "annotations": {"agent-ready.io/owner": "User:ann", "note": "long"}},
    });
    let kept = Namespace::from_wire(serde_json::from_value(object).unwrap());
    assert!(kept.is_ready() && kept.terminating);
    assert_eq!((kept.labels.iter().count(), kept.annotations.iter().count()), (3, 1));
    assert_eq!(kept.label("agent-ready.io/gate"), Some("hold"));
    assert_eq!(kept.annotation("agent-ready.io/owner"), Some("User:ann"));
}

#[test]
fn a_list_replaces_what_was_known_only_when_it_is_complete() {
    let store = Store::<Pod>::default();
    assert!(!store.is_synced() && !store.usable());
    store.apply(Event::Init);
    store.apply(Event::InitApply(wire(pod("a", &[]))));
    store.apply(Event::InitApply(wire(pod("b", &[]))));
    assert!(!store.is_synced());
    store.apply(Event::InitDone);
    assert!(store.is_synced() && store.usable());
    store.apply(Event::Apply(wire(pod("c", &[]))));
    store.apply(Event::Delete(wire(pod("a", &[]))));
    assert_eq!(names(&store), ["b", "c"]);

    let mut changes = store.changes();
    store.apply(Event::Init);
    store.apply(Event::InitApply(wire(pod("b", &[]))));
    assert_eq!(names(&store), ["b", "c"], "known until the list says otherwise");
    // A list that broke off says nothing about what it did not come to.
    store.apply(Event::Init);
    store.apply(Event::InitApply(wire(pod("c", &[]))));
    store.apply(Event::InitApply(wire(pod("d", &[]))));
    store.apply(Event::InitDone);
    assert_eq!(names(&store), ["c", "d"]);
    let change = |name: &str, gone| Change { namespace: "shop".into(), name: name.into(), gone };
    assert_eq!(changes.try_recv(), Ok(change("d", false)));
    assert_eq!(changes.try_recv(), Ok(change("b", true)));
    assert!(changes.try_recv().is_err(), "what is as before is no change");
}

#[test]
fn only_what_is_kept_makes_a_change() {
    let store = Store::<Pod>::default();
    let mut changes = store.changes();
    store.apply(Event::Apply(wire(pod("a", &["agent-ready.io/isolation"]))));
    let mut noise = pod("a", &["agent-ready.io/isolation"]);
    noise["metadata"]["resourceVersion"] = json!("8");
    noise["status"]["conditions"] = json!([{"type": "PodScheduled"}]);
    store.apply(Event::Apply(wire(noise)));
    store.apply(Event::Apply(wire(pod("a", &[]))));
    store.apply(Event::Delete(wire(pod("never-seen", &[]))));
    assert_eq!([changes.try_recv().is_ok(), changes.try_recv().is_ok()], [true, true]);
    assert!(changes.try_recv().is_err());
    assert!(!store.get("shop", "a").unwrap().is_held());
    assert!(store.get("other", "a").is_none());
}

#[test]
fn the_metrics_are_read_when_asked() {
    let stores = Stores::default();
    stores.pods.apply(Event::Apply(wire(pod("a", &[]))));
    let mut registry = prometheus_client::registry::Registry::with_prefix("agent_ready_webhook");
    register(&stores, &mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(r#"agent_ready_webhook_watch_objects{resource="pods"} 1"#), "{text}");
    assert!(text.contains(r#"agent_ready_webhook_watch_age_seconds{resource="namespaces"} 0.0"#), "{text}");
}

/// An API server of scripted answers: each request takes the next, and is noted.
fn scripted(answers: Vec<(u16, String)>) -> (kube::Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, seen) = (Arc::new(Mutex::new(answers.into_iter())), Arc::clone(&asked));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        seen.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
        let next = answers.lock().unwrap().next();
        async move {
            let Some((status, body)) = next else { return std::future::pending().await };
            Ok::<_, kube::Error>(
                http::Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap(),
            )
        }
    });
    (kube::Client::new(service, "default"), asked)
}

fn lines(events: &[Value]) -> String {
    events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn it_lists_in_pages_watches_on_and_lists_again_when_too_old() {
    let list = |names: &[&str], token: &str, version: &str| {
        let items: Vec<Value> = names.iter().map(|name| pod(name, &[])).collect();
        let metadata = json!({"resourceVersion": version, "continue": token});
        (
            200,
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}).to_string(),
        )
    };
    let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": "20"}}});
    let expired = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "too old", "reason": "Expired", "code": 410}});
    let (client, asked) = scripted(vec![
        list(&["a"], "next", "10"),
        list(&["b"], "", "10"),
        (200, lines(&[json!({"type": "ADDED", "object": pod("c", &[])}), bookmark])),
        (200, lines(&[json!({"type": "DELETED", "object": pod("a", &[])}), expired])),
        list(&["c", "d"], "", "30"),
    ]);
    let store = Store::<Pod>::default();
    let following = tokio::spawn(follow(client, store.clone()));
    store.synced().await;
    while asked.lock().unwrap().len() < 6 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(names(&store), ["c", "d"]);
    let asked = asked.lock().unwrap().clone();
    let says = |at: usize, part: &str| assert!(asked[at].contains(part), "{at}: {asked:?}");
    says(0, "limit=500");
    says(1, "continue=next");
    says(2, "resourceVersion=10");
    says(2, "allowWatchBookmarks=true");
    says(2, "timeoutSeconds=200");
    says(3, "resourceVersion=20");
    says(4, "limit=500");
    says(5, "resourceVersion=30");
    following.abort();
}
