use serde_json::{json, value::RawValue};

use super::*;
use crate::admission::review::{GroupVersionResource, UserInfo};

const PROVISIONER: &str = "system:serviceaccount:agent-ready-system:provisioner";
const ADMIN: &str = "kubernetes-admin";
const TENANT: (&str, &str) = ("agent-ready.io/organization", "0198b1f2-0000-7000-8000-000000000001");

fn namespace(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Box<RawValue> {
    let map = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>()
    };
    let object =
        json!({"metadata": {"name": "shop", "labels": map(labels), "annotations": map(annotations)}});
    RawValue::from_string(object.to_string()).unwrap()
}

fn ask(user: (&'static str, &'static str), old: Option<&RawValue>, new: &RawValue) -> GuardVerdict {
    let request = request(user, old, new);
    decide(&Policy::new("image"), &request)
}

fn request<'a>(
    user: (&'static str, &'static str),
    old: Option<&'a RawValue>,
    new: &'a RawValue,
) -> Request<'a> {
    Request {
        uid: "u".into(),
        resource: GroupVersionResource {
            group: "".into(),
            version: "v1".into(),
            resource: "namespaces".into(),
        },
        sub_resource: None,
        name: Some("shop".into()),
        namespace: Some("shop".into()),
        operation: if old.is_some() { Operation::Update } else { Operation::Create },
        user_info: UserInfo { username: user.0.into(), groups: vec![user.1.into()] },
        object: Some(new),
        old_object: old,
        dry_run: None,
    }
}

fn reason(verdict: GuardVerdict) -> &'static str {
    match verdict {
        GuardVerdict::Decided(verdict) => verdict.reason,
        GuardVerdict::Prove => "prove",
    }
}

/// The reasons given to a cluster administrator, break-glass and the provisioner.
fn reasons(old: Option<&RawValue>, new: &RawValue) -> [&'static str; 3] {
    [(ADMIN, "system:masters"), (ADMIN, "agent-ready:break-glass"), (PROVISIONER, "")]
        .map(|user| reason(ask(user, old, new)))
}

#[test]
fn unguarded_keys_are_everyones() {
    let old = namespace(&[("team", "a"), TENANT], &[("note", "1")]);
    let new = namespace(&[("team", "b"), TENANT], &[("note", "2"), ("agent-ready.io", "x")]);
    assert_eq!(reasons(Some(&old), &new), ["unguarded"; 3]);
    assert_eq!(
        reasons(None, &namespace(&[("pod-security.kubernetes.io/enforce", "baseline")], &[])),
        ["unguarded"; 3]
    );
}

#[test]
fn guarded_keys_are_the_writers() {
    let bare = namespace(&[], &[]);
    let guarded = [
        namespace(&[TENANT], &[]),
        namespace(&[("agent-ready.io/gate", "exempt")], &[]),
        namespace(&[("agent-ready.io/inject", "enabled")], &[]),
        namespace(&[], &[("agent-ready.io/owner", "User:a")]),
        namespace(&[("isolation-ready", "false")], &[]),
    ];
    for other in &guarded {
        let expected = ["not-a-writer", "break-glass", "writer"];
        assert_eq!(reasons(Some(&bare), other), expected, "set {other}");
        assert_eq!(reasons(Some(other), &bare), expected, "remove {other}");
    }
    let changed = namespace(&[("agent-ready.io/gate", "warn")], &[]);
    assert_eq!(reasons(Some(&guarded[1]), &changed)[0], "not-a-writer");
}

#[test]
fn pod_security_is_guarded_in_tenant_namespaces() {
    let strict = namespace(&[TENANT, ("pod-security.kubernetes.io/enforce", "restricted")], &[]);
    let loose = namespace(&[TENANT, ("pod-security.kubernetes.io/enforce", "privileged")], &[]);
    let without = namespace(&[("pod-security.kubernetes.io/enforce", "privileged")], &[]);
    assert_eq!(reasons(Some(&strict), &loose), ["not-a-writer", "break-glass", "writer"]);
    assert_eq!(reasons(Some(&strict), &without)[0], "not-a-writer");
}

#[test]
fn pod_security_is_guarded_in_ready_namespaces_of_no_tenant() {
    let ready = ("isolation-ready", "true");
    let strict = namespace(&[ready, ("pod-security.kubernetes.io/enforce", "restricted")], &[]);
    let loose = namespace(&[ready, ("pod-security.kubernetes.io/enforce", "privileged")], &[]);
    assert_eq!(reasons(Some(&strict), &loose), ["not-a-writer", "prove", "prove"]);
    assert_eq!(reasons(Some(&strict), &namespace(&[], &[]))[0], "not-a-writer");
    let not_ready = namespace(&[("isolation-ready", "false")], &[]);
    let labelled =
        namespace(&[("isolation-ready", "false"), ("pod-security.kubernetes.io/enforce", "privileged")], &[]);
    assert_eq!(reasons(Some(&not_ready), &labelled), ["unguarded"; 3]);
}

#[test]
fn an_opening_beside_is_refused_or_reported() {
    let (old, new) = (namespace(&[], &[]), namespace(&[("isolation-ready", "true")], &[]));
    let request = request((PROVISIONER, ""), Some(&old), &new);
    let mut policy = Policy::new("image");
    let open = || vec![Defect::OpenNetworkPolicy("open".into())];
    assert!(!after_proof(&policy, &request, open()).allowed());
    policy.open_beside = crate::admission::policy::OpenBeside::Report;
    let reported = after_proof(&policy, &request, open());
    assert!(reported.allowed() && reported.audit[0].0 == "open-beside");
    insta::assert_snapshot!(reported.warnings[0], @"NetworkPolicy open allows everything to everyone; the namespace is less isolated than it says");
    let missing = [open(), vec![Defect::LimitRangeMissing]].concat();
    assert!(!after_proof(&policy, &request, missing).allowed());
}

#[test]
fn the_ready_label_is_never_set_at_creation() {
    for value in ["true", "false", ""] {
        let new = namespace(&[("isolation-ready", value)], &[]);
        assert_eq!(reasons(None, &new), ["ready-at-creation"; 3], "{value:?}");
    }
}

#[test]
fn becoming_or_staying_ready_with_other_guarded_keys_needs_the_proof() {
    let bare = namespace(&[TENANT], &[]);
    let ready = namespace(&[TENANT, ("isolation-ready", "true")], &[]);
    let owned = namespace(&[TENANT, ("isolation-ready", "true")], &[("agent-ready.io/owner", "User:b")]);
    assert_eq!(reasons(Some(&bare), &ready), ["not-a-writer", "prove", "prove"]);
    assert_eq!(reasons(Some(&ready), &owned), ["not-a-writer", "prove", "prove"]);
    assert_eq!(reasons(Some(&ready), &ready), ["unguarded"; 3]);
    assert_eq!(reasons(Some(&ready), &bare), ["not-a-writer", "break-glass", "writer"]);
}

#[test]
fn the_proof_decides_for_every_identity() {
    let (old, new) = (namespace(&[], &[]), namespace(&[("isolation-ready", "true")], &[]));
    let policy = Policy::new("image");
    for user in [(PROVISIONER, ""), (ADMIN, "agent-ready:break-glass")] {
        let request = request(user, Some(&old), &new);
        assert!(after_proof(&policy, &request, vec![]).allowed());
        assert!(!after_proof(&policy, &request, vec![Defect::LimitRangeMissing]).allowed());
    }
}

#[test]
fn an_object_that_cannot_be_read_is_refused() {
    let broken = RawValue::from_string(r#"{"metadata":{"labels":{"isolation-ready":true}}}"#.into()).unwrap();
    let good = namespace(&[], &[]);
    assert_eq!(reasons(None, &broken), ["unreadable"; 3]);
    assert_eq!(reasons(Some(&broken), &good), ["unreadable"; 3]);
    let request = Request { object: None, ..request((PROVISIONER, ""), None, &good) };
    assert_eq!(reason(decide(&Policy::new("image"), &request)), "unreadable");
}

#[test]
fn messages_say_what_happened_why_and_what_to_do() {
    let text = |verdict| match verdict {
        GuardVerdict::Decided(Verdict { refusal: Some(refusal), .. }) => refusal.message,
        other => panic!("not refused: {other:?}"),
    };
    let admin = (ADMIN, "system:masters");
    let bare = namespace(&[TENANT], &[("agent-ready.io/quota", "{}")]);
    let ready = namespace(&[TENANT, ("isolation-ready", "true")], &[]);
    insta::assert_snapshot!("label", text(ask(admin, Some(&bare), &ready)));
    insta::assert_snapshot!("tenant_at_creation", text(ask(admin, None, &bare)));
    insta::assert_snapshot!("ready_at_creation", text(ask((PROVISIONER, ""), None, &ready)));
    let long = namespace(&[], &[("agent-ready.io/owner", &"ä".repeat(1000))]);
    assert!(text(ask(admin, None, &long)).len() < 800);
    let request = request((PROVISIONER, ""), Some(&bare), &ready);
    let refused = after_proof(
        &Policy::new("image"),
        &request,
        vec![Defect::LimitRangeMissing, Defect::PodSecurity(None)],
    );
    insta::assert_snapshot!("not_proved", refused.refusal.unwrap().message);
}
