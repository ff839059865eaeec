use super::*;
use testing::{namespace, pod};

const READY: (&str, &str) = ("isolation-ready", "true");
const INJECT: (&str, &str) = ("agent-ready.io/inject", "enabled");

fn seen(labels: &[(&str, &str)], change: impl FnOnce(&mut Pod), revoked: Option<i64>) -> Vec<Kind> {
    let mut pod = pod("shop", "web");
    change(&mut pod);
    let findings = examine(&Policy::new("image"), &namespace("shop", labels), &pod, revoked);
    findings.into_iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_pod_that_may_run_in_an_unready_namespace_is_found() {
    use crate::cluster::store::Phase;
    assert_eq!(seen(&[], |_| {}, None), [Kind::PodInUnreadyNamespace]);
    assert_eq!(seen(&[("isolation-ready", "false")], |_| {}, None), [Kind::PodInUnreadyNamespace]);
    for mode in ["warn", "audit", "deny", "hold"] {
        assert_eq!(seen(&[("agent-ready.io/gate", mode)], |_| {}, None), [Kind::PodInUnreadyNamespace]);
    }
    assert_eq!(seen(&[READY], |_| {}, None), []);
    assert_eq!(seen(&[("agent-ready.io/gate", "exempt")], |_| {}, None), []);
    assert_eq!(seen(&[], |pod| pod.phase = Phase::Succeeded, None), []);
    assert_eq!(seen(&[], |pod| pod.gates = ["agent-ready.io/isolation".into()].into(), None), [], "held");
}

#[test]
fn exempt_by_name_is_not_looked_at() {
    let findings =
        examine(&Policy::new("image"), &namespace("kube-system", &[]), &pod("kube-system", "coredns"), None);
    assert_eq!(findings, []);
}

#[test]
fn a_static_pod_is_found_in_ready_namespaces_too() {
    assert_eq!(seen(&[READY], |pod| pod.mirror = true, None), [Kind::StaticPod]);
    assert_eq!(seen(&[READY, INJECT], |pod| pod.mirror = true, None), [Kind::StaticPod]);
}

#[test]
fn a_pod_that_came_in_after_the_label_went_is_found() {
    let made = |created| move |pod: &mut Pod| pod.created = created;
    let both = [Kind::PodInUnreadyNamespace, Kind::PodAfterRevocation];
    assert_eq!(seen(&[], made(100), Some(100)), both);
    assert_eq!(seen(&[], made(99), Some(100)), both, "creation times are cut to seconds");
    assert_eq!(seen(&[], made(90), Some(100)), [Kind::PodInUnreadyNamespace], "it was there before");
    assert_eq!(seen(&[READY], made(100), Some(100)), [], "the label is back");
}

#[test]
fn a_pod_without_its_sidecar_is_found() {
    assert_eq!(seen(&[READY, INJECT], |_| {}, None), [Kind::PodWithoutSidecar]);
    assert_eq!(seen(&[READY, INJECT], |pod| pod.sidecar = true, None), []);
    assert_eq!(seen(&[READY, INJECT], |pod| pod.opted_out = true, None), []);
    assert_eq!(seen(&[READY, INJECT], |pod| pod.host_network = true, None), []);
    assert_eq!(seen(&[READY, INJECT], |pod| pod.windows = true, None), []);
    assert_eq!(seen(&[READY], |_| {}, None), []);
}

#[test]
fn messages_say_what_it_is_and_what_to_do() {
    let policy = Policy::new("image");
    let mut static_pod = pod("shop", "web");
    static_pod.mirror = true;
    let ready = namespace("shop", &[READY, INJECT]);
    let all = [
        examine(&policy, &namespace("shop", &[]), &pod("shop", "web"), Some(0)),
        examine(&policy, &ready, &pod("shop", "web"), None),
        examine(&policy, &ready, &static_pod, None),
    ];
    for finding in all.into_iter().flatten() {
        insta::assert_snapshot!(format!("pod_{}", finding.kind.code()), finding.message);
    }
}
