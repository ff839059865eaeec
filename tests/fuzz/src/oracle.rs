//! What may be admitted, said a second time and in another way: on plain JSON values, coarse, and never wrong.

use serde_json::{Map, Value};
use webhook::{
    admission::policy::{EXEMPT_NAMESPACES, Policy},
    serve::decide::Endpoint,
};

use super::scenes::{Pods, Scene};

/// API groups that any rule is for.
const GROUPS: [&str; 3] = ["", "networking.k8s.io", "rbac.authorization.k8s.io"];

/// Why this review must be refused in this scene; nothing where this oracle does not know better.
pub fn forbids(scene: &Scene, endpoint: Endpoint, review: &Value) -> Option<&'static str> {
    let request = &review["request"];
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/operation") == "CONNECT" {
        return Some("no rule is for CONNECT");
    }
    if !GROUPS.contains(&text("/resource/group")) {
        return Some("no rule is for this API group");
    }
    let core = |resource| {
        text("/resource/group").is_empty()
            && text("/resource/version") == "v1"
            && text("/resource/resource") == resource
    };
    let whole = text("/subResource").is_empty();
    let validate = endpoint == Endpoint::Validate;
    if validate && core("pods") && whole && text("/operation") == "CREATE" {
        let exempt = EXEMPT_NAMESPACES.contains(&text("/namespace"));
        let comes_in = match scene.lets_in {
            Pods::All => true,
            Pods::Held => gated(&request["object"]),
            Pods::None => false,
        };
        return (!exempt && !comes_in).then_some("the namespace is not ready");
    }
    if validate && core("pods") && whole && text("/operation") == "UPDATE" {
        let released = gated(&request["oldObject"]) && !gated(&request["object"]);
        let ours = text("/userInfo/username") == Policy::new("image").release_account;
        return (released && !ours).then_some("only the webhook takes its scheduling gate off");
    }
    if validate && core("namespaces") && changes_guarded_keys(request) {
        let policy = Policy::new("image");
        let groups = request.pointer("/userInfo/groups").and_then(Value::as_array);
        let glass = groups.into_iter().flatten().any(|group| *group == policy.break_glass_group.as_str());
        let writer = policy.label_writers.iter().any(|writer| writer == text("/userInfo/username"));
        if !glass && !writer {
            return Some("the user may not write guarded keys");
        }
        if ready(&request["object"]) && !scene.proves {
            return Some("the baseline is not proved");
        }
    }
    None
}

fn gated(pod: &Value) -> bool {
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    gates.into_iter().flatten().any(|gate| gate["name"] == "agent-ready.io/isolation")
}

fn ready(object: &Value) -> bool {
    object.pointer("/metadata/labels/isolation-ready").is_some_and(|value| value == "true")
}

fn changes_guarded_keys(request: &Value) -> bool {
    let keys = |object: &str, place: &str| -> Map<String, Value> {
        let place = request[object].pointer(place).and_then(Value::as_object).cloned();
        let guarded = |key: &str| key == "isolation-ready" || key.starts_with("agent-ready.io/");
        place.unwrap_or_default().into_iter().filter(|(key, _)| guarded(key)).collect()
    };
    ["/metadata/labels", "/metadata/annotations"].into_iter().any(|place| {
        let (mut old, mut new) = (keys("oldObject", place), keys("object", place));
        if place.ends_with("annotations") {
            // Only a label opens the gate.
            old.remove("isolation-ready");
            new.remove("isolation-ready");
        }
        old != new
    })
}
