use proptest::prelude::*;

use super::*;
use crate::admission::review::{self, decode};

fn ask(pod: &Value) -> Verdict {
    let review = json!({
        "apiVersion": review::API_VERSION, "kind": "AdmissionReview",
        "request": {"uid": "u", "operation": "CREATE", "namespace": "shop",
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": pod},
    });
    let body = review.to_string();
    decide(&Policy::new("registry/sidecar:1"), &decode(body.as_bytes()).unwrap())
}

/// The pod as the API server would store it.
fn injected(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(patch) = ask(&pod).patch {
        json_patch::patch(&mut pod, &serde_json::from_slice::<Patch>(&patch).unwrap()).unwrap();
    }
    pod
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}})
}

#[test]
fn a_plain_pod_gets_the_sidecar_first_and_its_address() {
    insta::assert_json_snapshot!(injected(&pod()));
}

#[test]
fn what_the_pod_has_stays_and_comes_after() {
    let mut pod = pod();
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "env": [{"name": "A", "value": "1"}]}]);
    pod["spec"]["containers"][0]["env"] = json!([{"name": names::CONFIG_URL_ENV, "value": "http://mine"}]);
    let injected = injected(&pod);
    let names = |pointer: &str| -> Vec<String> {
        let items = injected.pointer(pointer).unwrap().as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/spec/initContainers"), [names::SIDECAR_CONTAINER, "migrate"]);
    assert_eq!(names("/spec/initContainers/1/env"), [names::CONFIG_URL_ENV, "A"]);
    assert_eq!(names("/spec/containers/0/env"), [names::CONFIG_URL_ENV]);
    assert_eq!(injected["spec"]["containers"][0]["env"][0]["value"], "http://mine");
    assert_eq!(names("/spec/volumes"), ["data", sidecar::CREDENTIALS_VOLUME, sidecar::NO_TOKEN_VOLUME]);
}

#[test]
fn annotations_decide_about_start_and_opt_out() {
    let with = |key: &str, value: &str| {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({key: value});
        pod
    };
    let probe = |pod: &Value| injected(pod)["spec"]["initContainers"][0]["startupProbe"].is_object();
    assert!(probe(&pod()) && probe(&with(names::START_ANNOTATION, "wait")));
    assert!(!probe(&with(names::START_ANNOTATION, "go")));
    let unknown = ask(&with(names::START_ANNOTATION, "now"));
    assert_eq!((unknown.reason, unknown.warnings.len()), ("injected", 1));
    let out = ask(&with(names::INJECT_LABEL, "disabled"));
    assert_eq!((out.reason, out.patch, out.warnings.len()), ("opt-out", None, 0));
    assert_eq!(ask(&with(names::INJECT_LABEL, "no")).warnings.len(), 1);
}

#[test]
fn pods_that_cannot_carry_it_are_left_and_told_why() {
    let skipped = |pointer: &str, value: Value| {
        let mut pod = pod();
        pod["spec"]["nodeSelector"] = json!({});
        pod["metadata"]["annotations"] = json!({});
        let (parent, key) = pointer.rsplit_once('.').unwrap();
        pod.pointer_mut(parent).unwrap()[key] = value;
        let verdict = ask(&pod);
        assert!(verdict.allowed() && verdict.patch.is_none());
        (verdict.reason, verdict.warnings.join(""))
    };
    let mirror = skipped("/metadata.annotations", json!({MIRROR_ANNOTATION: "x"}));
    assert_eq!(mirror, ("mirror-pod", String::new()));
    insta::assert_snapshot!("host_network", skipped("/spec.hostNetwork", json!(true)).1);
    insta::assert_snapshot!("windows", skipped("/spec.os", json!({"name": "windows"})).1);
    assert_eq!(skipped("/spec.nodeSelector", json!({OS_LABEL: "windows"})).0, "windows");
}

#[test]
fn a_foreign_container_or_volume_of_our_name_is_refused() {
    let refusal = |change: &dyn Fn(&mut Value)| {
        let mut pod = injected(&pod());
        change(&mut pod);
        ask(&pod).refusal.unwrap()
    };
    let foreign = refusal(&|pod| {
        pod["spec"]["initContainers"][0]["image"] = json!("evil");
        pod["spec"]["initContainers"][0]["args"] = json!(["sh"]);
    });
    insta::assert_snapshot!("container", foreign.message);
    assert_eq!(
        refusal(&|pod| pod["spec"]["containers"][0]["name"] = json!(names::SIDECAR_CONTAINER)),
        foreign
    );
    let twice = refusal(&|pod| {
        let ours = pod["spec"]["initContainers"][0].clone();
        pod["spec"]["initContainers"].as_array_mut().unwrap().push(ours);
    });
    assert_eq!(twice, foreign);
    let volume = refusal(&|pod| pod["spec"]["volumes"][0]["secret"]["secretName"] = json!("other"));
    insta::assert_snapshot!("volume", volume.message);
}

#[test]
fn the_sidecar_of_another_release_is_replaced_where_it_stands() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{"name": "first"}]);
    let now = injected(&pod);
    let mut old = now.clone();
    old["spec"]["initContainers"].as_array_mut().unwrap().swap(0, 1);
    let swapped = old.clone();
    old["spec"]["initContainers"][1]["image"] = json!("registry/sidecar:0");
    old["spec"]["initContainers"][1]["args"] = json!(["as", "it", "was"]);
    old["spec"]["volumes"][0]["secret"]["defaultMode"] = json!(0o400);
    let verdict = ask(&old);
    assert_eq!(verdict.reason, "updated");
    insta::assert_snapshot!("updated", verdict.warnings.join("\n"));
    assert_eq!(injected(&old), swapped);
    // From another registry, as it was: nothing but the image differs.
    let mut moved = now.clone();
    moved["spec"]["initContainers"][0]["image"] = json!("mirror/sidecar:1");
    assert_eq!(injected(&moved), now);
}

#[test]
fn a_pod_that_cannot_be_read_is_refused() {
    for pod in [json!(1), json!({}), json!({"spec": 1}), json!({"spec": {"containers": [1]}})] {
        assert_eq!(ask(&pod).reason, "unreadable", "{pod}");
    }
}

fn any_container() -> impl Strategy<Value = Value> {
    let env = proptest::option::of(proptest::collection::vec(
        prop_oneof![Just(names::CONFIG_URL_ENV.to_owned()), "[A-Z]{1,4}"],
        0..3,
    ));
    ("[a-z]{1,8}", env).prop_map(|(name, env)| {
        let mut container = json!({"name": name});
        if let Some(env) = env {
            container["env"] = env.iter().map(|name| json!({"name": name, "value": "v"})).collect();
        }
        container
    })
}

prop_compose! {
    fn any_pod()(
        containers in proptest::collection::vec(any_container(), 1..4),
        init in proptest::option::of(proptest::collection::vec(any_container(), 0..4)),
        volumes in proptest::option::of(proptest::collection::vec("[a-z]{1,8}", 0..3)),
        start in proptest::option::of(prop_oneof![Just("go"), Just("wait"), Just("?")]),
    ) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
        if let Some(init) = init {
            pod["spec"]["initContainers"] = init.into();
        }
        if let Some(volumes) = volumes {
            pod["spec"]["volumes"] = volumes.iter().map(|name| json!({"name": name})).collect();
        }
        if let Some(start) = start {
            pod["metadata"]["annotations"] = json!({names::START_ANNOTATION: start});
        }
        pod
    }
}

proptest! {
    #[test]
    fn injecting_twice_gives_the_same_bytes(pod in any_pod()) {
        let once = injected(&pod);
        prop_assert_eq!(ask(&once).reason, "already-injected");
        prop_assert_eq!(injected(&once).to_string(), once.to_string());
        prop_assert_eq!(&once["spec"]["initContainers"][0]["name"], names::SIDECAR_CONTAINER);
        for list in ["containers", "initContainers"] {
            for container in once["spec"][list].as_array().unwrap() {
                let addressed = container["env"].as_array().is_some_and(|env| {
                    env.iter().any(|variable| variable["name"] == names::CONFIG_URL_ENV)
                });
                prop_assert_eq!(addressed, container["name"] != names::SIDECAR_CONTAINER);
            }
        }
    }
}
