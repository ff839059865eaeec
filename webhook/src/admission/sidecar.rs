//! The config sidecar as a container: how it is written, and how ours is told from a foreign one.

use contract::names;
use serde_json::{Value, json};

/// Volume with the tenant's credentials.
pub const CREDENTIALS_VOLUME: &str = "agent-ready-credentials";
/// Empty volume that hides the pod's API token from the sidecar.
pub const NO_TOKEN_VOLUME: &str = "agent-ready-no-token";
/// Where Kubernetes puts the API token of a pod, unless something is mounted there already.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A user without a name, as in distroless images: not root, so that restricted Pod Security admits it.
const USER: u32 = 65532;

/// When app containers start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After the sidecar's warm load.
    Wait,
    /// At once.
    Go,
}

/// The sidecar as a native sidecar: an init container that goes on running, and that Jobs need not wait for.
pub fn container(image: &str, start: Start) -> Value {
    let mut container = json!({
        "name": names::SIDECAR_CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", "--credentials-dir", names::CREDENTIALS_DIR],
        "restartPolicy": "Always",
        "resources": {
            "requests": {"cpu": "5m", "memory": "16Mi"},
            "limits": {"cpu": "200m", "memory": "64Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": CREDENTIALS_VOLUME, "mountPath": names::CREDENTIALS_DIR, "readOnly": true},
            {"name": NO_TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true},
        ],
    });
    if start == Start::Wait {
        // One hour: a pod made while PostgreSQL and Redis are down waits for them; then the sidecar is started anew.
        container["startupProbe"] = json!({
            "httpGet": {"path": "/readyz", "port": names::PROBE_PORT, "scheme": "HTTP"},
            "periodSeconds": 1, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": 3600,
        });
    }
    container
}

/// The volumes that the sidecar mounts.
pub fn volumes() -> [Value; 2] {
    // 0444: the sidecar's user is in no group of the volume.
    let credentials = json!({"name": CREDENTIALS_VOLUME, "secret": {"secretName": names::SECRET_NAME, "defaultMode": 0o444}});
    [credentials, json!({"name": NO_TOKEN_VOLUME, "emptyDir": {}})]
}

/// Whether a container is the sidecar as we write it, whatever its name. What the API server fills in by default and
/// what other injectors may add (environment, mounts, resources of other kinds) is allowed; any other difference is not.
pub fn is_ours(existing: &Value, image: &str) -> bool {
    [Start::Wait, Start::Go].iter().any(|start| {
        let ours = container(image, *start);
        existing.get("startupProbe").is_some() == ours.get("startupProbe").is_some()
            && covers(existing, &ours, "")
    })
}

/// Whether `existing` is the volume `ours`, with nothing added.
pub fn is_our_volume(existing: &Value, ours: &Value) -> bool {
    existing == ours
}

/// Keys that the API server or another injector may add at a place in the container.
fn may_be_added(place: &str, key: &str) -> bool {
    matches!(
        (place, key),
        ("", "terminationMessagePath" | "terminationMessagePolicy" | "env")
            | ("/securityContext", "procMount")
            | ("/resources/requests" | "/resources/limits", _)
    )
}

fn covers(existing: &Value, ours: &Value, place: &str) -> bool {
    match (existing, ours) {
        (Value::Object(existing), Value::Object(ours)) => {
            ours.iter().all(|(key, value)| {
                existing.get(key).is_some_and(|other| covers(other, value, &format!("{place}/{key}")))
            }) && existing.keys().all(|key| ours.contains_key(key) || may_be_added(place, key))
        }
        // AlwaysPullImages, an admission plugin of Kubernetes, writes it over.
        (Value::String(_), Value::String(_)) if place == "/imagePullPolicy" => true,
        (Value::Array(existing), Value::Array(ours)) if place == "/volumeMounts" => {
            ours.iter().all(|value| existing.contains(value))
        }
        _ => existing == ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_recognised_with_what_the_api_server_adds() {
        for start in [Start::Wait, Start::Go] {
            let mut container = container("image", start);
            assert!(is_ours(&container, "image"));
            container["terminationMessagePath"] = json!("/dev/termination-log");
            container["imagePullPolicy"] = json!("Always");
            container["terminationMessagePolicy"] = json!("File");
            container["resources"]["limits"]["ephemeral-storage"] = json!("1Gi");
            container["env"] = json!([{"name": "ADDED", "value": "1"}]);
            container["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "x", "mountPath": "/x"}));
            assert!(is_ours(&container, "image"));
            assert!(!is_ours(&container, "another image"));
        }
    }

    #[test]
    fn any_other_difference_makes_it_foreign() {
        let differences = [
            ("/image", json!("evil")),
            ("/args/0", json!("sh")),
            ("/restartPolicy", json!("Never")),
            ("/securityContext/runAsUser", json!(0)),
            ("/securityContext/capabilities/drop", json!([])),
            ("/resources/limits/memory", json!("1Gi")),
            ("/volumeMounts/0/readOnly", json!(false)),
            ("/startupProbe/httpGet/path", json!("/")),
        ];
        for (pointer, value) in differences {
            let mut container = container("image", Start::Wait);
            *container.pointer_mut(pointer).unwrap() = value;
            assert!(!is_ours(&container, "image"), "{pointer}");
        }
        for (place, key) in
            [("", "command"), ("", "lifecycle"), ("", "envFrom"), ("/securityContext", "privileged")]
        {
            let mut container = container("image", Start::Wait);
            container.pointer_mut(place).unwrap()[key] = json!(true);
            assert!(!is_ours(&container, "image"), "{place}/{key}");
        }
    }
}
