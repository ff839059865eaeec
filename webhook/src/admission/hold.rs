//! Hold mode: pods come in with a scheduling gate of ours, and only our own account takes it off.

use contract::names;
use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    answer::Verdict,
    gate::{Mode, NamespaceState},
    metadata::Metadata,
    object::{self, Object},
    policy::Policy,
    refusal::Refusal,
    review::Request,
    text::Text,
};

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow, default, deserialize_with = "object::only")]
    metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "object::only")]
    spec: Spec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    node_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    scheduling_gates: Option<Vec<Object<SchedulingGate<'a>>>>,
}

#[derive(Deserialize)]
struct SchedulingGate<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

impl<'a> Pod<'a> {
    fn read(object: Option<&'a RawValue>) -> Result<Self, Refusal> {
        let object = object.ok_or_else(|| Refusal::unreadable("pod", "the request does not show it"))?;
        serde_json::from_str::<Object<Self>>(object.get())
            .map(|pod| pod.0)
            .map_err(|error| Refusal::unreadable("pod", &error.to_string()))
    }

    fn has_gate(&self) -> bool {
        self.spec.scheduling_gates.iter().flatten().any(|gate| gate.0.name.as_str() == names::HOLD_GATE)
    }

    /// Why no gate can hold this pod.
    fn cannot_be_held(&self, namespace: &str) -> Option<Refusal> {
        let (why, remedy) = if self.metadata.annotation(names::MIRROR_ANNOTATION).is_some() {
            (
                "it mirrors a static pod, which its kubelet has started already".to_owned(),
                "have the static pod's file name a namespace of the control plane, or remove the file from the node",
            )
        } else {
            let node = self.spec.node_name.as_deref().filter(|node| !node.is_empty())?;
            (
                format!("it names its node ({node:?}) itself, so that no scheduler would be asked"),
                "leave spec.nodeName out and choose the node with spec.nodeSelector or spec.affinity, or wait until the \
                 namespace is ready",
            )
        };
        Some(Refusal::new(
            "cannot-be-held",
            format!(
                "The pod was not created: pods in namespace {namespace:?} are held until it is proved isolated, and this \
                 one cannot be: {why}. To do: {remedy}."
            ),
        ))
    }
}

/// Adds the gate to a pod that is to be held; refuses what cannot carry it.
pub fn add(policy: &Policy, request: &Request<'_>, state: &NamespaceState) -> Verdict {
    let namespace = request.namespace();
    if policy.exempts(namespace) {
        return Verdict::allow("exempt");
    }
    match state {
        NamespaceState::Found(found) if found.is_ready() => return Verdict::allow("ready"),
        NamespaceState::Found(found)
            if found.terminating || Mode::of(&found.labels, policy.default_mode) != Mode::Hold =>
        {
            // The gate's own entry decides.
            return Verdict::allow("not-held");
        }
        NamespaceState::Absent => return Verdict::allow("not-held"),
        // What is not known is held, if the gate's own entry lets it in at all.
        NamespaceState::Found(_) | NamespaceState::Unknown(_) => {}
    }
    let pod = match Pod::read(request.object) {
        Ok(pod) => pod,
        Err(refusal) => return Verdict::refuse(refusal),
    };
    if let Some(refusal) = pod.cannot_be_held(namespace) {
        return Verdict::refuse(refusal);
    }
    if pod.has_gate() {
        return Verdict::allow("held");
    }
    let gate = json!({"name": names::HOLD_GATE});
    let (path, value) = match pod.spec.scheduling_gates {
        Some(_) => ("/spec/schedulingGates/-", gate),
        None => ("/spec/schedulingGates", json!([gate])),
    };
    let add = AddOperation { path: PointerBuf::parse(path).unwrap_or_default(), value };
    match serde_json::to_vec(&Patch(vec![PatchOperation::Add(add)])) {
        Ok(patch) => Verdict { patch: Some(patch), ..Verdict::allow("gated") },
        Err(error) => Verdict::refuse(Refusal::unreadable("pod", &error.to_string())),
    }
}

/// Lets a pod in only with the gate on it; `not_ready` says why the namespace is not ready.
pub fn admit(request: &Request<'_>, not_ready: &str) -> Verdict {
    let pod = match Pod::read(request.object) {
        Ok(pod) => pod,
        Err(refusal) => return Verdict::refuse(refusal),
    };
    if let Some(refusal) = pod.cannot_be_held(request.namespace()) {
        return Verdict::refuse(refusal);
    }
    if !pod.has_gate() {
        return Verdict::refuse(Refusal::new(
            "gate-missing",
            format!(
                "The pod was not created: pods in namespace {:?} are held until it is proved isolated, by the scheduling gate \
                 {}, and it is not on this pod: another webhook took it off, or our own was not asked. To do: find the \
                 mutating webhook that changes spec.schedulingGates and have it leave this gate alone.",
                request.namespace(),
                names::HOLD_GATE,
            ),
        ));
    }
    let warning = format!("The pod waits, held by the scheduling gate {}: {not_ready}", names::HOLD_GATE);
    Verdict::allow("held").annotate("held", not_ready).warn(warning)
}

/// Decides about a change of a pod: nobody but the release controller takes the gate off.
pub fn keep(policy: &Policy, request: &Request<'_>) -> Verdict {
    let (old, new) = match (Pod::read(request.old_object), Pod::read(request.object)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(refusal), _) | (_, Err(refusal)) => return Verdict::refuse(refusal),
    };
    if !old.has_gate() || new.has_gate() {
        return Verdict::allow("update");
    }
    if request.user_info.username.as_str() == policy.release_account {
        return Verdict::allow("released");
    }
    Verdict::refuse(Refusal::new(
        "held",
        format!(
            "The scheduling gate {} stays on pod {:?} of namespace {:?}: the pod came in before the namespace was proved \
             isolated, and only the gate's own release controller takes it off, after admitting the pod once more under the \
             rules that hold then. To do: nothing, it does so by itself once the namespace is {}={}; or delete the pod.",
            names::HOLD_GATE,
            request.name(),
            request.namespace(),
            names::GATE_LABEL,
            names::GATE_OPEN,
        ),
    ))
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
