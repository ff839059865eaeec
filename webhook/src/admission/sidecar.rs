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

/// What a container of the sidecar's name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// The sidecar as this cluster injects it.
    Ours,
    /// The sidecar as another release or another registry has it: a copied pod, a manifest of an older one, a restored backup.
    OtherRelease,
    /// Anything else.
    Foreign,
}

/// Tells by its content what a container of an init container's list is, whatever its name. What the API server fills in
/// by default and what other injectors may add (environment, mounts, resources of other kinds) is allowed in ours.
pub fn kinship(existing: &Value, image: &str) -> Kinship {
    if is_ours(existing, image) {
        return Kinship::Ours;
    }
    let other = existing["image"].as_str().unwrap_or_default();
    // Ours but for the image, or our image in another version: releases may write the rest differently.
    let other_release = is_ours(existing, other) || repository(other) == repository(image);
    if existing["restartPolicy"] == "Always" && other_release {
        Kinship::OtherRelease
    } else {
        Kinship::Foreign
    }
}

fn is_ours(existing: &Value, image: &str) -> bool {
    [Start::Wait, Start::Go].iter().any(|start| {
        let ours = container(image, *start);
        existing.get("startupProbe").is_some() == ours.get("startupProbe").is_some()
            && covers(existing, &ours, "")
    })
}

/// An image's name without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Whether `existing` is the volume `ours`, with nothing added.
pub fn is_our_volume(existing: &Value, ours: &Value) -> bool {
    existing == ours
}

/// What the API server or another injector may add at a place in the container.
pub enum Addable {
    /// Any key.
    Any,
    /// These keys.
    Keys(&'static [&'static str]),
}

/// What may be added at a place, a JSON pointer into the container.
pub fn addable(place: &str) -> Addable {
    match place {
        "" => Addable::Keys(&["terminationMessagePath", "terminationMessagePolicy", "env"]),
        "/securityContext" => Addable::Keys(&["procMount"]),
        "/resources/requests" | "/resources/limits" => Addable::Any,
        _ => Addable::Keys(&[]),
    }
}

/// Places whose value may differ: AlwaysPullImages, an admission plugin of Kubernetes, writes this one over.
pub const MAY_DIFFER: &str = "/imagePullPolicy";
/// A list that may be longer than ours.
pub const MAY_GROW: &str = "/volumeMounts";

fn covers(existing: &Value, ours: &Value, place: &str) -> bool {
    match (existing, ours) {
        (Value::Object(existing), Value::Object(ours)) => {
            let known = |key: &str| match addable(place) {
                Addable::Any => true,
                Addable::Keys(keys) => ours.contains_key(key) || keys.contains(&key),
            };
            ours.iter().all(|(key, value)| {
                existing.get(key).is_some_and(|other| covers(other, value, &format!("{place}/{key}")))
            }) && existing.keys().all(|key| known(key))
        }
        (Value::String(_), Value::String(_)) if place == MAY_DIFFER => true,
        (Value::Array(existing), Value::Array(ours)) if place == MAY_GROW => {
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
            assert_eq!(kinship(&container, "image"), Kinship::Ours);
            container["terminationMessagePath"] = json!("/dev/termination-log");
            container["imagePullPolicy"] = json!("Always");
            container["terminationMessagePolicy"] = json!("File");
            container["resources"]["limits"]["ephemeral-storage"] = json!("1Gi");
            container["env"] = json!([{"name": "ADDED", "value": "1"}]);
            container["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "x", "mountPath": "/x"}));
            assert_eq!(kinship(&container, "image"), Kinship::Ours);
            assert_eq!(kinship(&container, "another"), Kinship::OtherRelease);
        }
    }

    #[test]
    fn any_other_difference_makes_it_foreign() {
        let differences = [
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
            container["image"] = json!("evil");
            assert_eq!(kinship(&container, "image"), Kinship::Foreign, "{pointer}");
        }
        for (place, key) in
            [("", "command"), ("", "lifecycle"), ("", "envFrom"), ("/securityContext", "privileged")]
        {
            let mut container = container("image", Start::Wait);
            container.pointer_mut(place).unwrap()[key] = json!(true);
            container["image"] = json!("evil");
            assert_eq!(kinship(&container, "image"), Kinship::Foreign, "{place}/{key}");
        }
    }
    #[test]
    fn our_image_in_another_version_is_another_release_of_the_sidecar() {
        let image = "registry:5000/agent-ready/sidecar:2";
        let with = |image: &str, restart: &str| json!({"image": image, "restartPolicy": restart});
        for other in ["registry:5000/agent-ready/sidecar:1", "registry:5000/agent-ready/sidecar@sha256:0"] {
            assert_eq!(kinship(&with(other, "Always"), image), Kinship::OtherRelease, "{other}");
            assert_eq!(kinship(&with(other, "Never"), image), Kinship::Foreign, "{other}");
        }
        for other in ["registry:5000/agent-ready/sidecar-not:1", "registry:5000", "evil", ""] {
            assert_eq!(kinship(&with(other, "Always"), image), Kinship::Foreign, "{other}");
        }
    }

    #[test]
    fn a_repository_is_an_image_without_tag_and_digest() {
        for (image, name) in [("a", "a"), ("a:1", "a"), ("h:5/a", "h:5/a"), ("h:5/a:1@sha256:0", "h:5/a")] {
            assert_eq!(repository(image), name);
        }
    }
}
