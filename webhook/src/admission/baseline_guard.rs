//! The baseline guard (row G6): one rule, the proof before and after a write.
//!
//! A write in a tenant's namespace by anyone but the label writers, break-glass and Kubernetes itself is refused if the
//! proof holds before it and not after it. It covers deletion, replacement, weakening and an opening beside. In a
//! namespace that is called ready nothing may get worse either while a part is already wrong: the proof fails for a
//! moment whenever a quota changes, and all else must not be free in that moment.

use contract::{
    names,
    proof::{Defect, Part},
};

use super::{
    answer::Verdict,
    baseline::{Object, Tenant, Write},
    policy::{Policy, Standing},
    refusal::{Refusal, listed},
    review::{Operation, Request},
};

/// Users that Kubernetes itself writes these objects as; what they do is never hindered.
///
/// They cannot be used against the proof: the quota's status is computed from its spec, the garbage collector deletes
/// only what has an owner, which the proof does not count, and the namespace controller only what is in a namespace that
/// is being deleted.
/// Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#controller-roles>.
pub const KUBERNETES: [&str; 6] = [
    // Counts a pod in the quota's status when it admits it.
    "system:apiserver",
    // All controllers at once, where they have no accounts of their own.
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:resourcequota-controller",
    // Writes every object back unchanged.
    "system:serviceaccount:kube-system:storage-version-migrator-controller",
];

/// The longest list of defects in one message.
const PARTS_MAX: usize = 5;

/// What the guard says to a write.
#[derive(Debug, Clone, PartialEq)]
pub enum GuardVerdict {
    /// Decided.
    Decided(Verdict),
    /// The namespace and its baseline must be read live, to compare before and after this write.
    Compare(Box<Write>),
}

/// Whether a request is a write of an object that baselines are made of.
pub fn is_for(request: &Request<'_>) -> bool {
    let kind = (&*request.resource.group, &*request.resource.resource, request.subresource());
    let known = matches!(
        kind,
        ("networking.k8s.io", "networkpolicies", "")
            | ("", "resourcequotas", "" | "status")
            | ("", "limitranges", "")
            | ("rbac.authorization.k8s.io", "rolebindings", "")
    );
    known && &*request.resource.version == "v1" && request.operation != Operation::Connect
}

/// Decides about a write as far as that needs no read.
pub fn decide(policy: &Policy, request: &Request<'_>) -> GuardVerdict {
    if policy.exempts(request.namespace()) {
        return GuardVerdict::Decided(Verdict::allow("exempt"));
    }
    let user = &*request.user_info.username;
    if KUBERNETES.contains(&user) {
        return GuardVerdict::Decided(Verdict::allow("kubernetes"));
    }
    match policy.standing(&request.user_info) {
        Standing::Writer => GuardVerdict::Decided(Verdict::allow("writer")),
        Standing::BreakGlass => GuardVerdict::Decided(
            Verdict::allow("break-glass")
                .annotate("break-glass", user)
                .warn("break-glass was used to change the baseline of a namespace; it is in the audit log"),
        ),
        Standing::Other => match read(request) {
            Ok(write) => GuardVerdict::Compare(Box::new(write)),
            Err(refusal) => GuardVerdict::Decided(Verdict::refuse(refusal)),
        },
    }
}

fn read(request: &Request<'_>) -> Result<Write, Refusal> {
    let resource = &request.resource;
    let deletes = request.operation == Operation::Delete;
    // What is deleted is named by the old object: reviews of a deletecollection carry no name.
    let raw = if deletes { request.old_object } else { request.object };
    let raw = raw.ok_or_else(|| Refusal::unreadable(&resource.resource, "the request has no object"))?;
    let object = Object::read(&resource.group, &resource.resource, raw)
        .ok_or_else(|| Refusal::unknown_request(&resource.resource))?
        .map_err(|error| Refusal::unreadable(&resource.resource, &error.to_string()))?;
    if deletes && object.name().is_none() {
        return Err(Refusal::unreadable(&resource.resource, "the deleted object has no name"));
    }
    Ok(if deletes { Write::Delete(object) } else { Write::Put(object) })
}

/// Decides about the write from the namespace and its baseline as they are before it.
pub fn compare(policy: &Policy, request: &Request<'_>, write: Write, tenant: &Tenant) -> Verdict {
    if tenant.terminating {
        // No pod can start there any more, and everything in it is being deleted.
        return Verdict::allow("terminating");
    }
    let prove = |baseline: &super::baseline::Baseline| {
        policy.divide(baseline.prove(&tenant.labels, &tenant.annotations))
    };
    let before = prove(&tenant.baseline);
    let ready = tenant.labels.get(names::GATE_LABEL).is_some_and(|value| value == names::GATE_OPEN);
    if !ready && !before.refused.is_empty() {
        return Verdict::allow("unproved");
    }
    let (Write::Put(object) | Write::Delete(object)) = &write;
    let (kind, name) = (object.kind(), object.name().unwrap_or_else(|| request.name()).to_owned());
    if request.subresource() == "status" && changes_status(object, tenant) {
        return Verdict::refuse(foreign_status(&name, request));
    }
    let after = prove(&tenant.baseline.clone().after(write));
    let worse: Vec<&Defect> = added(&before.refused, &after.refused);
    if !worse.is_empty() {
        return Verdict::refuse(weakens(policy, request, (kind, &name), &worse));
    }
    let mut verdict = Verdict::allow("kept");
    for defect in added(&before.reported, &after.reported) {
        verdict = verdict
            .warn(format!("{defect}; the isolation of namespace {:?} is weakened", request.namespace()))
            .annotate("open-beside", defect.to_string());
    }
    verdict
}

/// The defects of parts that had none before.
fn added<'d>(before: &[Defect], after: &'d [Defect]) -> Vec<&'d Defect> {
    let parts: Vec<Part> = before.iter().filter_map(Defect::part).collect();
    let new = |defect: &&Defect| defect.part().is_some_and(|part| !parts.contains(&part));
    if after.iter().any(|defect| new(&defect)) {
        // With what explains them.
        after.iter().filter(|defect| new(defect) || defect.part().is_none()).collect()
    } else {
        Vec::new()
    }
}

fn changes_status(object: &Object, tenant: &Tenant) -> bool {
    let Object::ResourceQuota(quota) = object else { return true };
    let present =
        tenant.baseline.resource_quotas.iter().find(|present| present.metadata.name == quota.metadata.name);
    present.is_none_or(|present| present.status != quota.status)
}

/// The refusal of a write that could not be compared with what is there.
pub fn unknown(request: &Request<'_>, why: &str) -> Refusal {
    Refusal::new(
        Refusal::UNKNOWN_STATE,
        format!(
            "The {} of namespace {:?} were not changed: the isolation gate cannot tell whether it would stay isolated: {why}. \
             To do: try again; if it persists, the gate's own connection to the API server is broken.",
            &*request.resource.resource,
            request.namespace(),
        ),
    )
}

fn foreign_status(name: &str, request: &Request<'_>) -> Refusal {
    Refusal::new(
        "quota-status",
        format!(
            "The status of ResourceQuota {name:?} was not changed: Kubernetes counts by it what namespace {:?} uses, and only \
             Kubernetes may write it. To do: leave it to the quota controller, which corrects it by itself.",
            request.namespace()
        ),
    )
}

fn weakens(policy: &Policy, request: &Request<'_>, (kind, name): (&str, &str), worse: &[&Defect]) -> Refusal {
    let verb = match request.operation {
        Operation::Create => "created",
        Operation::Delete => "deleted",
        Operation::Update | Operation::Connect => "changed",
    };
    let mut parts: Vec<String> = worse.iter().take(PARTS_MAX).map(ToString::to_string).collect();
    if worse.len() > PARTS_MAX {
        parts.push(format!("{} more", worse.len() - PARTS_MAX));
    }
    let remedy = if worse.iter().all(|defect| defect.is_opening()) {
        "name those who are meant (peers and ports, users and groups); whatever is narrower is yours to make."
            .to_owned()
    } else {
        format!(
            "leave the baseline as it is (objects of your own beside it are yours to change); to change the baseline, ask the \
             provisioner or who else may write it ({}); in an emergency act as a member of group {} (kubectl --as=NAME \
             --as-group=GROUP).",
            policy.label_writers.join(", "),
            policy.break_glass_group
        )
    };
    Refusal::new(
        "baseline",
        format!(
            "{kind} {name:?} was not {verb}: namespace {:?} is isolated by its baseline, and would no longer be. After it: {}. \
             To do: {remedy}",
            request.namespace(),
            listed(&parts),
        ),
    )
}

#[cfg(test)]
#[path = "baseline_guard_tests.rs"]
mod tests;
