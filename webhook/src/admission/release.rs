//! Release of held pods, the pure part: what is admitted once more, and what follows from the answer.
//!
//! Pod Security, quota and LimitRange look at a pod only when it is created. A pod that was held came in before they were
//! there: so it is created once more as a dry run, without our gate, before the gate is taken off.

use contract::names;
use serde_json::{Map, Value, json};

use super::{
    gate::{Mode, Namespace},
    policy::Policy,
};

/// What a name made by the server begins with, for a pod that has only a name.
const NAME_PREFIX_CHARS_MAX: usize = 50;
/// Differences named in a message.
const DIFFERENCES_MAX: usize = 3;
/// What the names of the service account's volumes begin with; five random characters follow.
const TOKEN_VOLUME: &str = "kube-api-access-";
/// The one name of these volumes in what is sent, so that pods of one template are told to be alike.
const TOKEN_VOLUME_SENT: &str = "kube-api-access-00000";
/// The metadata that admission looks at, the name apart.
const METADATA: [&str; 5] = ["namespace", "labels", "annotations", "ownerReferences", "finalizers"];

/// Whether pods of this namespace need not be held any more, by a live read.
pub fn may_release(policy: &Policy, name: &str, namespace: &Namespace) -> bool {
    if namespace.terminating {
        return false;
    }
    let mode = Mode::of(&namespace.labels, policy.default_mode);
    namespace.is_ready() || mode.only_reports() || mode == Mode::Exempt || policy.exempts(name)
}

/// A held pod as it is.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version that it was read at.
    pub version: String,
    /// Where our gate is among its scheduling gates.
    pub gate: usize,
    /// The controller that made it.
    pub owner: Option<Controller>,
    /// What is to be created as a dry run.
    pub candidate: Candidate,
}

/// The owner of a pod that makes it anew when it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Controller {
    /// API version.
    pub api_version: String,
    /// Kind, as `ReplicaSet`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// A pod's original spec, without our gate and under no name.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What is admitted: metadata without the name, and the spec.
    content: Value,
    prefix: String,
}

impl Candidate {
    /// What is to be created, under a name that the server makes.
    pub fn manifest(&self) -> Value {
        let mut pod = self.content.clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["generateName"] = json!(self.prefix);
        pod
    }

    /// Two candidates with the same key differ in nothing but the name: the answer for one is that for the other.
    pub fn key(&self) -> String {
        self.content.to_string()
    }

    /// Where the admitted pod differs from what was sent; empty when admission changed nothing.
    pub fn differences(&self, admitted: &Value) -> Vec<String> {
        let json_patch::Patch(operations) = json_patch::diff(&self.content, &content(admitted));
        let mut paths: Vec<String> =
            operations.iter().map(|operation| operation.path().to_string()).collect();
        paths.dedup();
        paths
    }
}

/// Reads a held pod; nothing if it does not carry our gate, or is leaving.
pub fn held(pod: &Value) -> Option<Held> {
    let metadata = &pod["metadata"];
    if !metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let gates = pod["spec"]["schedulingGates"].as_array()?;
    let gate = gates.iter().position(|gate| gate["name"] == names::HOLD_GATE)?;
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    let name = text("name")?;
    let prefix = text("generateName")
        .filter(|prefix| !prefix.is_empty())
        .unwrap_or_else(|| format!("{}-", name.chars().take(NAME_PREFIX_CHARS_MAX).collect::<String>()));
    let mut content = content(pod);
    if let Some(spec) = content["spec"].as_object_mut() {
        let others: Vec<Value> =
            gates.iter().filter(|gate| gate["name"] != names::HOLD_GATE).cloned().collect();
        if others.is_empty() {
            spec.remove("schedulingGates");
        } else {
            spec.insert("schedulingGates".to_owned(), Value::Array(others));
        }
    }
    Some(Held {
        uid: text("uid")?,
        version: text("resourceVersion")?,
        gate,
        owner: metadata["ownerReferences"].as_array().and_then(|owners| controller(owners)),
        candidate: Candidate { content, prefix },
        name,
    })
}

fn controller(owners: &[Value]) -> Option<Controller> {
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let text = |key: &str| owner[key].as_str().unwrap_or_default().to_owned();
    Some(Controller {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        uid: text("uid"),
    })
}

/// What admission looks at, in the form in which two pods are compared. Nothing of the spec is left out, so that nothing
/// escapes admission; only the random name of the service account's volume is replaced.
fn content(pod: &Value) -> Value {
    let mut metadata = Map::new();
    for key in METADATA {
        let value = &pod["metadata"][key];
        let empty = value.is_null()
            || value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let mut spec = pod["spec"].clone();
    rename_token_volume(&mut spec);
    json!({"metadata": metadata, "spec": spec})
}

fn rename_token_volume(spec: &mut Value) {
    let random = |name: &str| name.len() == TOKEN_VOLUME_SENT.len() && name.starts_with(TOKEN_VOLUME);
    let volumes = spec["volumes"].as_array_mut().into_iter().flatten();
    let mut ours = volumes
        .filter(|volume| volume["name"].as_str().is_some_and(random) && volume["projected"].is_object());
    // Of two, neither is renamed: they must stay apart.
    let (Some(volume), None) = (ours.next(), ours.next()) else { return };
    let name = volume["name"].take();
    volume["name"] = json!(TOKEN_VOLUME_SENT);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for mount in container.get_mut("volumeMounts").and_then(Value::as_array_mut).into_iter().flatten()
            {
                if mount["name"] == name {
                    mount["name"] = json!(TOKEN_VOLUME_SENT);
                }
            }
        }
    }
}

/// What the second admission said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Second {
    /// The pod is admitted as it is.
    Same,
    /// It is admitted, but changed in these places, by defaults or by injection.
    Changed(Vec<String>),
    /// It is refused, for this reason.
    Refused(String),
    /// There was no answer to go by, for this reason.
    Unknown(String),
}

impl Second {
    /// Reads an answer of the API server: its status code and message.
    pub fn failed(code: u16, message: &str) -> Self {
        // Nothing that says only that we, or the API server, cannot now.
        const NOT_ABOUT_THE_POD: [&str; 4] = [
            "cannot create resource",          // our own right is missing
            "is being terminated",             // the namespace goes
            "status unknown for quota",        // not counted yet
            "not yet ready to handle request", // an admission plugin starts
        ];
        let about_the_pod = matches!(code, 400 | 403 | 413 | 422)
            && !NOT_ABOUT_THE_POD.iter().any(|part| message.contains(part));
        if about_the_pod {
            Self::Refused(message.to_owned())
        } else {
            Self::Unknown(format!("{code}: {message}"))
        }
    }
}

/// What is done with a held pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Our gate is taken off.
    Release,
    /// It is deleted, so that its controller makes it anew; why.
    Recreate(String),
    /// It stays held; why.
    Keep(String),
    /// Later again; why.
    Retry(String),
}

/// What follows from the second admission.
pub fn decide(second: &Second, owner: Option<&Controller>) -> Action {
    let why = match second {
        Second::Same => return Action::Release,
        Second::Unknown(why) => return Action::Retry(why.clone()),
        Second::Refused(why) => format!("admitting it once more was refused: {why}"),
        Second::Changed(places) => {
            let named = places.iter().take(DIFFERENCES_MAX).cloned().collect::<Vec<_>>().join(", ");
            let more = places.len().saturating_sub(DIFFERENCES_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("admitting it once more would change it, by defaults or injection, at {named}{more}")
        }
    };
    if owner.is_some() { Action::Recreate(why) } else { Action::Keep(why) }
}

/// What the Event of a pod says that stays held.
pub fn kept_message(why: &str) -> String {
    format!(
        "The pod stays held by the scheduling gate {}: it came in before its namespace was ready, and {why}. No controller \
         owns it that would make it anew. To do: delete it and create it again, corrected if it was refused.",
        names::HOLD_GATE
    )
}

/// What the Event of a controller says whose pods were deleted.
pub fn recreated_message(pod: &str, why: &str) -> String {
    format!(
        "Held pod {pod} was deleted so that it is made anew: it came in before its namespace was ready, and {why}. To do: \
         nothing if the new pod starts; else correct the pod template."
    )
}

/// The patch (RFC 6902) that takes our gate off this pod as it was read, and no other.
pub fn patch(held: &Held) -> Value {
    let gate = format!("/spec/schedulingGates/{}", held.gate);
    json!([
        {"op": "test", "path": "/metadata/uid", "value": held.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": held.version},
        {"op": "test", "path": format!("{gate}/name"), "value": names::HOLD_GATE},
        {"op": "remove", "path": gate},
    ])
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
