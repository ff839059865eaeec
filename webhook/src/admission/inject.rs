//! Injection: puts the config sidecar into a tenant's pod, as a JSON Patch (RFC 6902).

use std::collections::BTreeMap;

use contract::names;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation, jsonptr::PointerBuf};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    answer::Verdict,
    metadata::Metadata,
    object::{self, Object},
    policy::Policy,
    refusal::Refusal,
    review::Request,
    sidecar::{self, Kinship, Start},
    text::Text,
};

/// Pods of the kubelet's own files carry this annotation; they run already and cannot be changed.
const MIRROR_ANNOTATION: &str = names::MIRROR_ANNOTATION;
/// Node label with the operating system.
pub const OS_LABEL: &str = "kubernetes.io/os";
/// The operating system that the sidecar does not run on.
pub const WINDOWS: &str = "windows";

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow, default, deserialize_with = "object::only")]
    metadata: Metadata<'a>,
    #[serde(borrow, deserialize_with = "object::only")]
    spec: Spec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    containers: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    init_containers: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    volumes: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    host_network: Option<bool>,
    #[serde(borrow, default)]
    os: Option<Os<'a>>,
    #[serde(borrow, default)]
    node_selector: Option<BTreeMap<Text<'a>, Text<'a>>>,
}

#[derive(Deserialize)]
struct Os<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    env: Option<Vec<Object<Variable<'a>>>>,
}

#[derive(Deserialize)]
struct Variable<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

/// What stands in the way of injection.
enum Obstacle {
    /// The pod is left as it is, for this reason; the warning says so unless the pod asked for it.
    Skip(&'static str, Option<&'static str>),
    /// The pod is refused.
    Refuse(Refusal),
}

impl From<serde_json::Error> for Obstacle {
    fn from(error: serde_json::Error) -> Self {
        Self::Refuse(Refusal::unreadable("pod", &error.to_string()))
    }
}

/// Decides what to add to the pod of this request.
pub fn decide(policy: &Policy, request: &Request<'_>) -> Verdict {
    let Some(object) = request.object else {
        return Verdict::refuse(Refusal::unreadable("pod", "the request has no object"));
    };
    match plan(policy, object) {
        Err(Obstacle::Refuse(refusal)) => Verdict::refuse(refusal),
        Err(Obstacle::Skip(reason, warning)) => {
            let verdict = Verdict::allow(reason).annotate("injection", reason);
            warning.into_iter().fold(verdict, |verdict, why| {
                verdict
                    .warn(format!("{}: the config sidecar was not injected: {why}", names::SIDECAR_CONTAINER))
            })
        }
        Ok(Plan { operations, warnings, reason }) => {
            let patch = (!operations.is_empty()).then(|| serde_json::to_vec(&Patch(operations)));
            match patch.transpose() {
                Ok(patch) => {
                    Verdict { patch, warnings, ..Verdict::allow(reason).annotate("injection", reason) }
                }
                Err(error) => Verdict::refuse(Refusal::unreadable("pod", &error.to_string())),
            }
        }
    }
}

/// What to do to the pod.
struct Plan {
    operations: Vec<PatchOperation>,
    warnings: Vec<String>,
    reason: &'static str,
}

/// The sidecar that a pod has already.
enum Present {
    None,
    Ours,
    /// Of another release, at this index of the init containers.
    OtherRelease(usize),
}

fn plan(policy: &Policy, object: &RawValue) -> Result<Plan, Obstacle> {
    let Object(pod): Object<Pod<'_>> = serde_json::from_str(object.get())?;
    check_kind(&pod)?;
    let (start, mut warnings) = wishes(&pod.metadata)?;
    let mut operations = Vec::new();
    let present = add_environment(&pod.spec, policy, &mut operations)?;
    let replace = matches!(present, Present::OtherRelease(_));
    add_volumes(pod.spec.volumes.as_deref(), replace, &mut operations)?;
    let sidecar = sidecar::container(&policy.sidecar_image, start);
    let reason = match present {
        Present::Ours if operations.is_empty() => "already-injected",
        Present::Ours => "injected",
        Present::OtherRelease(index) => {
            warnings.push(format!(
                "{}: the config sidecar of another release was replaced by this cluster's, {}",
                names::SIDECAR_CONTAINER,
                policy.sidecar_image
            ));
            operations.push(replace_at(&format!("/spec/initContainers/{index}"), sidecar));
            "updated"
        }
        Present::None => {
            // Last, because it shifts the indices of the other init containers.
            operations.push(if pod.spec.init_containers.is_some() {
                add("/spec/initContainers/0", sidecar)
            } else {
                add("/spec/initContainers", json!([sidecar]))
            });
            "injected"
        }
    };
    Ok(Plan { operations, warnings, reason })
}

/// Pods that the sidecar cannot be put into.
fn check_kind(pod: &Pod<'_>) -> Result<(), Obstacle> {
    if pod.metadata.annotation(MIRROR_ANNOTATION).is_some() {
        return Err(Obstacle::Skip("mirror-pod", None));
    }
    if pod.spec.host_network == Some(true) {
        let why = "the pod uses the host's network, where the sidecar's address would be the node's own";
        return Err(Obstacle::Skip("host-network", Some(why)));
    }
    let os = pod.spec.os.as_ref().map(|os| os.name.as_str());
    let selected =
        pod.spec.node_selector.as_ref().and_then(|selector| selector.get(OS_LABEL)).map(Text::as_str);
    if os == Some(WINDOWS) || selected == Some(WINDOWS) {
        return Err(Obstacle::Skip("windows", Some("it runs on Linux, the pod on Windows")));
    }
    Ok(())
}

/// What the pod's own annotations ask for, with warnings about values that are not known.
fn wishes(metadata: &Metadata<'_>) -> Result<(Start, Vec<String>), Obstacle> {
    let mut warnings = Vec::new();
    match metadata.annotation(names::INJECT_LABEL) {
        None | Some("enabled") => {}
        Some("disabled") => return Err(Obstacle::Skip("opt-out", None)),
        Some(other) => warnings.push(format!(
            "annotation {} is {other:?}, which is neither enabled nor disabled: taken as enabled",
            names::INJECT_LABEL
        )),
    }
    let start = match metadata.annotation(names::START_ANNOTATION) {
        None | Some("wait") => Start::Wait,
        Some("go") => Start::Go,
        Some(other) => {
            warnings.push(format!(
                "annotation {} is {other:?}, which is neither wait nor go: taken as wait",
                names::START_ANNOTATION
            ));
            Start::Wait
        }
    };
    Ok((start, warnings))
}

/// Adds the sidecar's address to every container of the app; says which sidecar is there already.
fn add_environment(
    spec: &Spec<'_>,
    policy: &Policy,
    operations: &mut Vec<PatchOperation>,
) -> Result<Present, Obstacle> {
    let mut present = Present::None;
    for (list, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
        for (index, raw) in containers.iter().flatten().enumerate() {
            let Object(container): Object<Named<'_>> = serde_json::from_str(raw.get())?;
            if container.name.as_str() == names::SIDECAR_CONTAINER {
                let kinship = sidecar::kinship(&serde_json::from_str(raw.get())?, &policy.sidecar_image);
                present = match (list, &present, kinship) {
                    ("initContainers", Present::None, Kinship::Ours) => Present::Ours,
                    ("initContainers", Present::None, Kinship::OtherRelease) => Present::OtherRelease(index),
                    _ => return Err(Obstacle::Refuse(foreign_container())),
                };
                continue;
            }
            let variable = json!({"name": names::CONFIG_URL_ENV, "value": names::CONFIG_URL});
            match container.env {
                // First, so that the pod's own variables can refer to it.
                Some(env)
                    if !env.iter().any(|variable| variable.0.name.as_str() == names::CONFIG_URL_ENV) =>
                {
                    operations.push(add(&format!("/spec/{list}/{index}/env/0"), variable));
                }
                Some(_) => {}
                None => operations.push(add(&format!("/spec/{list}/{index}/env"), json!([variable]))),
            }
        }
    }
    Ok(present)
}

/// Adds our volumes; with `replace`, in the place of what another release called so.
fn add_volumes(
    existing: Option<&[&RawValue]>,
    replace: bool,
    operations: &mut Vec<PatchOperation>,
) -> Result<(), Obstacle> {
    let mut missing = Vec::new();
    for ours in sidecar::volumes() {
        let mut found = false;
        for (index, raw) in existing.unwrap_or_default().iter().enumerate() {
            let volume: Named<'_> = serde_json::from_str(raw.get())?;
            if ours["name"] == volume.name.as_str() {
                found = true;
                if sidecar::is_our_volume(&serde_json::from_str::<Value>(raw.get())?, &ours) {
                    continue;
                }
                if !replace {
                    return Err(Obstacle::Refuse(foreign_volume(&volume.name)));
                }
                operations.push(replace_at(&format!("/spec/volumes/{index}"), ours.clone()));
            }
        }
        if !found {
            missing.push(ours);
        }
    }
    if existing.is_some() {
        operations.extend(missing.into_iter().map(|volume| add("/spec/volumes/-", volume)));
    } else if !missing.is_empty() {
        operations.push(add("/spec/volumes", Value::Array(missing)));
    }
    Ok(())
}

fn add(path: &str, value: Value) -> PatchOperation {
    // Paths are built from constants and indices; one that did not parse would address the whole document, which the
    // API server refuses.
    PatchOperation::Add(AddOperation { path: PointerBuf::parse(path).unwrap_or_default(), value })
}

fn replace_at(path: &str, value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation { path: PointerBuf::parse(path).unwrap_or_default(), value })
}

/// A container of our name that is not ours.
pub fn foreign_container() -> Refusal {
    Refusal::new(
        "foreign-container",
        format!(
            "The pod was not created: it has a container named {0:?} that is not the config sidecar as this cluster \
             injects it. The name is reserved, so that nothing can pose as the sidecar. To do: remove that container (the \
             sidecar is added by itself), rename it, or opt out with the pod annotation {1}: disabled.",
            names::SIDECAR_CONTAINER,
            names::INJECT_LABEL,
        ),
    )
}

/// A volume of our name that is not ours.
pub fn foreign_volume(name: &str) -> Refusal {
    Refusal::new(
        "foreign-volume",
        format!(
            "The pod was not created: it has a volume named {name:?} that is not the config sidecar's. The name is \
             reserved. To do: rename the volume, or opt out with the pod annotation {}: disabled.",
            names::INJECT_LABEL,
        ),
    )
}

#[cfg(test)]
#[path = "inject_tests.rs"]
mod tests;
