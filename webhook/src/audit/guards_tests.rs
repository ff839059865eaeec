use serde_json::json;

use super::*;
use crate::{
    admission::{gate::Mode, policy::Policy},
    cluster::{
        configurations::{Carrier, Registration, Target},
        second_lock::SecondLock,
    },
};

fn expected() -> Value {
    let target = Target::Url("https://10.0.0.1:8443".to_owned());
    let registration = Registration {
        target,
        exempt: vec!["kube-system".to_owned(), "gate".to_owned()],
        default_mode: Mode::Deny,
        label_writers: Vec::new(),
        carrier: Carrier::Webhook,
        release_account: "system:serviceaccount:agent-ready-system:webhook".to_owned(),
        ca_bundle: None,
    };
    serde_json::to_value(registration.validating()).unwrap()
}

/// As the API server stores what was written: with the authority and its defaults.
fn stored() -> Value {
    let mut stored = expected();
    for entry in stored["webhooks"].as_array_mut().unwrap() {
        entry["clientConfig"]["caBundle"] = json!("UEVN");
        entry["objectSelector"] = json!({});
        if entry["namespaceSelector"].is_null() {
            entry["namespaceSelector"] = json!({});
        }
    }
    stored
}

fn seen(found: Option<Value>) -> Option<String> {
    let finding = configuration(&Configuration {
        kind: "ValidatingWebhookConfiguration",
        name: "agent-ready-gate",
        expected: expected(),
        found,
    });
    finding.map(|finding| finding.message)
}

#[test]
fn what_the_gate_writes_is_in_order_whatever_the_api_server_fills_in() {
    assert_eq!(seen(Some(stored())), None);
}

#[test]
fn terms_of_managed_clusters_are_tolerated() {
    let mut found = stored();
    let terms = found.pointer_mut("/webhooks/0/namespaceSelector/matchExpressions").unwrap();
    terms.as_array_mut().unwrap().push(json!({"key": "control-plane", "operator": "DoesNotExist"}));
    assert_eq!(seen(Some(found)), None);
}

#[test]
fn every_edit_that_lets_something_through_is_named() {
    assert!(seen(None).unwrap().contains("is not there"));
    for (pointer, value, says) in [
        ("/webhooks", json!([]), "entry pods.gate.agent-ready.io is not there"),
        (
            "/webhooks/0/failurePolicy",
            json!("Ignore"),
            "pods.gate.agent-ready.io: failurePolicy is \"Ignore\"",
        ),
        ("/webhooks/0/matchPolicy", json!("Exact"), "matchPolicy is \"Exact\""),
        ("/webhooks/0/rules/0/operations", json!(["UPDATE"]), "rules is"),
        ("/webhooks/0/objectSelector", json!({"matchLabels": {"a": "b"}}), "an objectSelector was added"),
        ("/webhooks/0/namespaceSelector", json!({}), "its namespaceSelector lacks a term"),
        (
            "/webhooks/0/namespaceSelector/matchLabels",
            json!({"a": "b"}),
            "its namespaceSelector has matchLabels",
        ),
        (
            "/webhooks/0/namespaceSelector/matchExpressions/3",
            json!({"key": "x", "operator": "Exists"}),
            "a term more, on x",
        ),
        (
            "/webhooks/0/matchConditions",
            json!([{"name": "no", "expression": "false"}]),
            "matchConditions were added",
        ),
        ("/webhooks/0/clientConfig/url", json!("https://evil.example/validate"), "it is sent somewhere else"),
        ("/webhooks/0/clientConfig/caBundle", json!(""), "it has no caBundle"),
    ] {
        let mut found = stored();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match found.pointer_mut(parent).unwrap() {
            Value::Array(list) => list.push(value),
            object => object[field] = value,
        }
        let message = seen(Some(found)).unwrap_or_default();
        assert!(message.contains(says), "{pointer}: {message}");
    }
}

#[test]
fn the_second_lock_is_looked_for_under_its_names() {
    let lock = SecondLock { policy: Policy::new("image") };
    let names: Vec<(Option<String>, Option<String>)> = lock
        .locks()
        .into_iter()
        .map(|lock| {
            (lock.policy.metadata.name, lock.bindings.into_iter().next().and_then(|of| of.metadata.name))
        })
        .collect();
    let expected = SECOND_LOCK.map(|(policy, binding)| (Some(policy.to_owned()), Some(binding.to_owned())));
    assert_eq!(names, expected);
}

#[test]
fn messages_say_what_it_is_and_what_to_do() {
    insta::assert_snapshot!("guard_absent", seen(None).unwrap());
    let mut found = stored();
    found["webhooks"][0]["failurePolicy"] = json!("Ignore");
    insta::assert_snapshot!("guard_edited", seen(Some(found)).unwrap());
    assert_eq!(second_lock(&[]), None);
    let absent = ["agent-ready-lock-pods", "agent-ready-lock-pods-deny"];
    insta::assert_snapshot!("guard_no_lock", second_lock(&absent).unwrap().message);
}
