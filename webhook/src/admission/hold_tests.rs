use serde_json::{Value, value::to_raw_value};

use super::*;
use crate::admission::{
    gate::Namespace,
    review::{GroupVersionResource, Operation, UserInfo},
};

const OURS: &str = "agent-ready.io/isolation";

fn pod(gates: Option<&[&str]>) -> Value {
    let mut pod = json!({"metadata": {"generateName": "web-"}, "spec": {"containers": []}});
    if let Some(gates) = gates {
        pod["spec"]["schedulingGates"] = gates.iter().map(|gate| json!({"name": gate})).collect();
    }
    pod
}

fn state(labels: &[(&str, &str)]) -> NamespaceState {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NamespaceState::Found(Namespace { labels, ..Namespace::default() })
}

fn held() -> NamespaceState {
    state(&[("agent-ready.io/gate", "hold")])
}

/// Asks `decide` about this pod, changed from that one, by that user.
fn ask<T>(user: &str, old: Option<&Value>, new: &Value, decide: impl Fn(&Policy, &Request<'_>) -> T) -> T {
    let raw = |value: &Value| to_raw_value(value).unwrap();
    let (old, new) = (old.map(raw), raw(new));
    let request = Request {
        uid: "u".into(),
        resource: GroupVersionResource { group: "".into(), version: "v1".into(), resource: "pods".into() },
        sub_resource: None,
        name: Some("web-1".into()),
        namespace: Some("shop".into()),
        operation: if old.is_some() { Operation::Update } else { Operation::Create },
        user_info: UserInfo { username: user.into(), groups: Vec::new() },
        object: Some(&new),
        old_object: old.as_deref(),
        dry_run: None,
    };
    decide(&Policy::new("image"), &request)
}

fn added(pod: &Value, state: &NamespaceState) -> Verdict {
    ask("ann", None, pod, |policy, request| add(policy, request, state))
}

/// The pod as it is after the patch.
fn patched(pod: &Value) -> Value {
    let mut patched = pod.clone();
    if let Some(patch) = added(pod, &held()).patch {
        json_patch::patch(&mut patched, &serde_json::from_slice::<Patch>(&patch).unwrap()).unwrap();
    }
    patched
}

#[test]
fn the_gate_comes_beside_those_of_others_and_once() {
    for gates in [None, Some(&[][..]), Some(&["other/gate"][..]), Some(&[OURS][..])] {
        let once = patched(&pod(gates));
        let names: Vec<&str> = once["spec"]["schedulingGates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gate| gate["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.iter().filter(|name| **name == OURS).count(), 1, "{gates:?}");
        assert!(gates.into_iter().flatten().all(|gate| names.contains(gate)), "{names:?}");
        assert_eq!(patched(&once), once, "asked once more");
        assert!(ask("ann", None, &once, |_, request| admit(request, "why")).allowed());
    }
}

#[test]
fn only_namespaces_in_hold_mode_hold() {
    let plain = pod(None);
    for labels in [
        &[("agent-ready.io/gate", "hold"), ("isolation-ready", "true")][..],
        &[("agent-ready.io/gate", "deny")][..],
        &[("agent-ready.io/gate", "audit")][..],
        &[][..],
    ] {
        let verdict = added(&plain, &state(labels));
        assert!(verdict.allowed() && verdict.patch.is_none(), "{labels:?}");
    }
    assert!(added(&plain, &NamespaceState::Unknown("no answer".into())).patch.is_some());
    assert!(added(&plain, &NamespaceState::Absent).patch.is_none());
}

#[test]
fn what_cannot_carry_the_gate_is_refused_by_both() {
    let mut bound = pod(None);
    bound["spec"]["nodeName"] = json!("node-1");
    let mut mirror = bound.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    for pod in [&bound, &mirror] {
        assert_eq!(added(pod, &held()).reason, "cannot-be-held");
        assert_eq!(ask("ann", None, pod, |_, request| admit(request, "why")).reason, "cannot-be-held");
    }
    insta::assert_snapshot!("node_name", added(&bound, &held()).refusal.unwrap().message);
    insta::assert_snapshot!("mirror", added(&mirror, &held()).refusal.unwrap().message);
}

#[test]
fn without_the_gate_nothing_comes_in() {
    for pod in [pod(None), pod(Some(&["other/gate"])), json!({}), json!({"spec": {"schedulingGates": null}})]
    {
        let verdict = ask("ann", None, &pod, |_, request| admit(request, "why"));
        assert_eq!(verdict.reason, "gate-missing", "{pod}");
    }
    let verdict = ask("ann", None, &pod(None), |_, request| admit(request, "why"));
    insta::assert_snapshot!("gate_missing", verdict.refusal.unwrap().message);
    assert_eq!(ask("ann", None, &json!("pod"), |_, request| admit(request, "why")).reason, "unreadable");
}

#[test]
fn only_the_release_controller_takes_it_off() {
    let ours = "system:serviceaccount:agent-ready-system:webhook";
    let (with, without) = (pod(Some(&["other/gate", OURS])), pod(Some(&["other/gate"])));
    for user in ["system:admin", "system:kube-scheduler", "system:serviceaccount:other:webhook", ""] {
        let verdict = ask(user, Some(&with), &without, keep);
        assert_eq!(verdict.reason, "held", "{user}");
    }
    assert_eq!(ask(ours, Some(&with), &without, keep).reason, "released");
    for (old, new) in [(&with, &with), (&without, &without), (&without, &with)] {
        assert_eq!(ask("ann", Some(old), new, keep).reason, "update");
    }
    insta::assert_snapshot!("held", ask("ann", Some(&with), &without, keep).refusal.unwrap().message);
}
